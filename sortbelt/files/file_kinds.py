"""Kinds of files by their suffixes: images that are classified, and files whose content is not decoded.

The server imports this module too, for its sources: it needs the standard library only.
"""

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".png", ".apng", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
    *(".heic", ".heif", ".avif", ".jxl"),
)
_RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"),
    *(".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
_VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv"),
)
_OTHER_KINDS = {
    ".pdf": "PDF",
    ".psd": "Photoshop file (PSD)",
    ".psb": "Photoshop file (PSB)",
    ".xcf": "GIMP file (XCF)",
    ".ai": "Illustrator file (AI)",
    ".svg": "drawing (SVG)",
    ".svgz": "drawing (SVG)",
    ".eps": "PostScript file (EPS)",
    ".ico": "icon (ICO)",
    ".icns": "icon (ICNS)",
    ".tga": "Targa image (TGA)",
    ".jp2": "JPEG 2000",
    ".j2k": "JPEG 2000",
    ".jxr": "JPEG XR image",
    ".exr": "OpenEXR image",
    ".hdr": "Radiance HDR image",
    ".dcm": "DICOM image",
    ".ppm": "Netpbm image",
    ".pgm": "Netpbm image",
    ".pbm": "Netpbm image",
    ".emf": "Windows metafile",
    ".wmf": "Windows metafile",
}
UNSUPPORTED_KINDS = {
    **{suffix: f"RAW photo ({suffix[1:].upper()})" for suffix in _RAW_SUFFIXES},
    **{suffix: f"video ({suffix[1:].upper()})" for suffix in _VIDEO_SUFFIXES},
    **_OTHER_KINDS,
}
UNSUPPORTED = "unsupported"


def unsupported_reason(path: str) -> str:
    """Return why a file of a kind that is not decoded is left out; empty for other files."""
    name = path.rpartition("/")[2].lower()
    kind = UNSUPPORTED_KINDS.get(name[name.rfind(".") :]) if "." in name else None
    return f"{UNSUPPORTED} {kind}" if kind else ""
