"""Name the kind of a file that is not decoded, by its first bytes."""

from __future__ import annotations

import re

from imaging import bmff, tiff

# By signature and offset; the first that fits counts.
SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (8, b"CR\x02\0", "a RAW photo (CR2)"),
    (0, b"IIRO", "a RAW photo (ORF)"),
    (0, b"IIRS", "a RAW photo (ORF)"),
    (0, b"MMOR", "a RAW photo (ORF)"),
    (0, b"IIU\0", "a RAW photo (RW2)"),
    (6, b"HEAPCCDR", "a RAW photo (CRW)"),
    (0, b"FUJIFILMCCD-RAW", "a RAW photo (RAF)"),
    (0, b"FOVb", "a RAW photo (X3F)"),
    (0, b"\0MRM", "a RAW photo (MRW)"),
    (12, b"CgBI", "a PNG in Apple's own variant (CgBI)"),
    (0, b"%PDF-", "a PDF"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (0, b"8BPS", "a Photoshop file (PSD)"),
    (0, b"gimp xcf", "a GIMP file (XCF)"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (0, b"\0\0\1\0", "an icon (ICO)"),
    (0, b"\0\0\2\0", "a cursor (CUR)"),
    (0, b"icns", "an icon (ICNS)"),
    (0, b"qoif", "a QOI image"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (0, b"#?RGBE", "a Radiance HDR image"),
    (0, b"SIMPLE  =", "a FITS image"),
    (0, b"AT&TFORM", "a DjVu document"),
    (0, b"\x8aMNG\r\n\x1a\n", "an MNG animation"),
    (0, b"\x8bJNG\r\n\x1a\n", "a JNG image"),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)"),
    (40, b" EMF", "a Windows metafile (EMF)"),
    (128, b"DICM", "a DICOM image"),
    (0, b"II\xbc\x01", "a JPEG XR image"),
    (0, b"BPG\xfb", "a BPG image"),
    (0, b"FLIF", "a FLIF image"),
    (0, b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"),
    (8, b"AVI LIST", "a video (AVI)"),
    (0, b"FLV\1", "a video (FLV)"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video (WMV)"),
    (0, b"\0\0\1\xba", "a video (MPEG)"),
    (0, b"\0\0\1\xb3", "a video (MPEG)"),
    (4, b"moov", "a video (QuickTime)"),
    (4, b"mdat", "a video (QuickTime)"),
    (4, b"wide", "a video (QuickTime)"),
    (8, b"WAVEfmt", "a sound file (WAV)"),
    (0, b"ID3", "a sound file (MP3)"),
    (0, b"OggS", "an Ogg file"),
    (0, b"PK\3\4", "a ZIP archive, or a document in one"),
    (0, b"PK\5\6", "a ZIP archive, or a document in one"),
    (0, b"Rar!\x1a\7", "a RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\x1f\x8b\x08", "a gzip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (257, b"ustar", "a tar archive"),
    (0, b"\0\5\x16\7", "a macOS resource file (AppleDouble)"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Microsoft Office document or Thumbs.db"),
    (0, b"version https://git-lfs", "a Git LFS pointer without the image"),
    (0, b"\x7fELF", "a program"),
)
TEXT_BYTES = 1024  # of the beginning, in which the first element of an XML or HTML file is looked for
_SVG = re.compile(rb"<svg[\s>:/]|<!DOCTYPE\s+svg", re.IGNORECASE)
_HTML = re.compile(rb"<!DOCTYPE\s+html|<html[\s>]|<head[\s>]|<body[\s>]", re.IGNORECASE)
_NETPBM = re.compile(rb"P[1-7Ff][\s#]")


def describe(data: bytes) -> str:
    """Return what a file is, with its article: `a PDF`; empty if it is not known, or may be an image to decode."""
    for offset, signature, kind in SIGNATURES:
        if data.startswith(signature, offset):
            return kind
    return bmff.unsupported_kind(data) or tiff.raw_kind(data) or _describe_text(data[:TEXT_BYTES])


def _describe_text(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<") and _SVG.search(text):
        return "a drawing (SVG)"
    if text.startswith(b"<") and _HTML.search(text):
        return "a web page (HTML)"
    return "a Netpbm image" if _NETPBM.match(head) else ""
