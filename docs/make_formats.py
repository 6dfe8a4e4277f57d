"""Write docs/formats.md from what happens to samples: `python docs/make_formats.py`; a test compares them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from imaging import decode, errors, formats, limits, unsupported
from tests.support import image_variants

PAGE = Path(__file__).with_name("formats.md")
HEAD = f"""# The formats of images

Written by `python docs/make_formats.py`, which encodes a sample of each variant, decodes it as a worker does, and
compares the pixels.

A file is recognised by its first bytes; its name does not matter. Its first frame is decoded, turned upright by its
EXIF orientation, and flattened on white. Grey levels of more than 8 bits are stretched from their own range to 0 to
255. Broken or overlong metadata is ignored.

| Limit | Default | Setting |
|---|---|---|
| bytes of a file | 50,000,000 | `SORTBELT_MAX_IMAGE_BYTES` |
| pixels that are decoded | {limits.MAX_PIXELS:,} | `SORTBELT_MAX_PIXELS` |
| pixels of a JPEG | 64 times as many: it is decoded at up to 1/8 of its sides | |
| pixels on a side | {limits.MAX_SIDE:,} | |
| memory of a decoder | 768,000,000 | `SORTBELT_DECODE_MEMORY_BYTES`; `too_large` says if it is not enough |

A JPEG that lacks its end is classified if 90 % of its coefficients came, and is `truncated` otherwise.

| Format | Variant | What happens |
|---|---|---|
"""
OTHER = """
These are not decoded; the error is `unsupported_format`, and names them:

"""


def outcome(variant: image_variants.Variant) -> str:
    """Return what happens with a sample.

    Raises:
        AssertionError: it is decoded to wrong pixels, or unexpectedly.
    """
    try:
        image = decode.open_image(variant.data)
    except errors.ImageDecodeError as error:
        detail = error.detail.replace(f"; send {formats.FORMAT_LIST}", "")
        return f"`{error.code}`: {detail}"
    assert variant.pixels is not None, f"{variant.image_format}, {variant.name} is decoded."
    assert variant.is_right(image), f"{variant.image_format}, {variant.name} has wrong pixels."
    return "decoded"


def page() -> str:
    """Render the whole page."""
    rows = [f"| {v.image_format} | {v.name} | {outcome(v)} |\n" for v in image_variants.all_variants()]
    kinds = {kind.split(" ", 1)[1] for _, _, kind in unsupported.SIGNATURES}
    more = {"RAW photo (DNG, NEF, ARW, PEF, SRW)", "RAW photo (CR3)", "video (MP4)", "drawing (SVG)", "web page (HTML)"}
    listed = sorted(kinds | more | {"Netpbm image"}, key=str.lower)
    return HEAD + "".join(rows) + OTHER + ", ".join(listed) + ".\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
