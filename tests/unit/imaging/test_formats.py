"""A file is recognised by its first bytes, whether it is decoded or not."""

import struct

import pytest

from imaging import bmff, errors, formats, jpeg_xl
from tests.support import image_files


def rejection(data):
    with pytest.raises(errors.ImageDecodeError) as caught:
        formats.identify(data)
    return caught.value


@pytest.mark.parametrize("image_format", formats.FORMATS)
def test_each_format_is_recognised(image_format):
    """By its first bytes alone."""
    assert formats.identify(image_files.make(image_format)) == image_format


def tiff(*tags):
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    text = b"NIKON CORPORATION\0"
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + text


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(50), "a RAW photo (CR2)"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(50), "a RAW photo (CR3)"),
        (tiff((254, 4, 1, 1), (271, 2, 18, 50), (330, 4, 1, 200)), "a RAW photo (NEF)"),
        (tiff((254, 4, 1, 0), (50706, 1, 4, 0x00000401)), "a RAW photo (DNG)"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "a video (MP4)"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video (QuickTime)"),
        (b"RIFF\0\0\1\0AVI LIST", "a video (AVI)"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"8BPS\0\1" + bytes(20), "a Photoshop file (PSD)"),
        (b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "a drawing (SVG)"),
        (b"\n<!doctype html><title>404</title>", "a web page (HTML)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer without the image"),
    ],
)
def test_a_file_that_is_not_decoded_is_named(data, kind):
    """RAW photos by their kind, also those that are TIFFs with a small preview."""
    error = rejection(data)

    assert error.code == "unsupported_format"
    assert error.detail.startswith(f"The file is {kind};")


def test_an_unknown_file_is_not_an_image():
    """Its formats are not guessed."""
    assert rejection(b"I am a text.").detail.startswith("The file is not an image;")
    assert rejection(b"").code == "empty"


@pytest.mark.parametrize("size", [(64, 48), (33, 70), (512, 512), (200, 9)])
@pytest.mark.parametrize(
    ("image_format", "read_size"),
    [("HEIC", bmff.image_size), ("AVIF", bmff.image_size), ("JPEG XL", jpeg_xl.image_size)],
)
def test_the_size_is_read_from_the_container(image_format, read_size, size):
    """Without the codec, so that the API can do it; a HEIC is stored in whole blocks, and cropped later."""
    read = read_size(image_files.make(image_format, size))
    assert all(
        0 <= stored - side < (64 if image_format == "HEIC" else 1) for stored, side in zip(read, size, strict=True)
    )


@pytest.mark.parametrize("image_format", ["HEIC", "AVIF", "JPEG XL"])
def test_a_container_that_is_cut_has_a_size_or_is_damaged(image_format):
    """Wherever it ends, and whatever byte is changed, nothing else is raised, and nothing hangs."""
    data = image_files.make(image_format)
    read_size = jpeg_xl.image_size if image_format == "JPEG XL" else bmff.image_size
    broken = [data[:end] for end in range(len(data))]
    broken += [data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :] for at in range(len(data))]
    for part in broken:
        try:
            width, height = read_size(part)
        except (ValueError, IndexError, struct.error):
            continue
        assert width >= 0
        assert height >= 0
