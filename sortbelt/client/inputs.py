"""Inputs of `Client.submit`: paths, folders, bytes, file objects and PIL images, each as a path or (name, bytes)."""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sortbelt import errors
from sortbelt.files import file_names, file_rules

DEFAULT_NAME = "image"
PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
TIFF_MODES = {"CMYK", "F", "I", "I;16B", "LAB", "YCbCr"}  # which PNG lacks
ORIENTATION_TAG = 0x0112
ALPHA_MODES = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}  # which no file has
Item = str | os.PathLike[str] | tuple[str, bytes]


def expand(files: Any) -> list[Item]:
    """Return paths, or (name, bytes), for one input or for many.

    An input is a path, a folder (the images in it and its subfolders, by the rules of `sortbelt enqueue`, but not those
    in archives), bytes, a file object open for reading bytes, a PIL image, or (name, bytes). Inputs without a name are
    named `image`, `image-2` …

    Raises:
        errors.BadInput: an input is of another kind, or a folder has no images.
    """
    is_many = isinstance(files, Iterable) and not _is_single(files)
    items: list[Item] = []
    unnamed = 0
    for file in files if is_many else [files]:
        for item in _expand_one(file):
            if isinstance(item, tuple) and item[0] == DEFAULT_NAME:
                unnamed += 1
                items.append((DEFAULT_NAME if unnamed == 1 else f"{DEFAULT_NAME}-{unnamed}", item[1]))
            else:
                items.append(item)
    return items


def _is_single(value: Any) -> bool:
    is_named_bytes = isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], bytes)
    is_plain = isinstance(value, str | os.PathLike | bytes | bytearray | memoryview)
    return is_named_bytes or is_plain or hasattr(value, "read") or _is_pil_image(value)


def _is_pil_image(value: Any) -> bool:
    return callable(getattr(value, "save", None)) and hasattr(value, "getbands")


def _expand_one(file: Any) -> Iterator[Item]:
    if isinstance(file, str | os.PathLike):
        if Path(file).is_dir():
            yield from _folder_images(Path(file))
        else:
            yield file
    elif isinstance(file, tuple):
        yield file
    elif isinstance(file, bytes | bytearray | memoryview):
        yield DEFAULT_NAME, bytes(file)
    elif hasattr(file, "read"):
        yield _file_name(file), _read_bytes(file)
    elif _is_pil_image(file):
        yield _file_name(file, "filename"), _encode_pil_image(file)
    else:
        raise errors.BadInput(
            f"{type(file).__name__} is not an image: give a path, a folder, bytes, an open file, a PIL image, or "
            "(name, bytes).",
            "bad_input",
        )


def _folder_images(folder: Path) -> Iterator[Item]:
    """Yield (name in the job, bytes) for each image of a folder, by the rules of bulk runs; archives are left out."""
    rules = file_rules.FileRules()
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    images = [name for name in names if not rules.find_skipped(name)[1] and not file_rules.is_archive(name)]
    if not images:
        raise errors.BadInput(f"The folder {folder} has no images: name one that has some.", "no_images")
    for name in images:
        yield file_names.escape_name(name), (folder / name).read_bytes()


def _encode_pil_image(image: Any) -> bytes:
    """Return a PIL image as a lossless file, with the colour profile and, unless it was derived, its orientation.

    Pillow does not turn an image when it opens a file, and drops the format from what is derived from an image.
    """
    image.load()  # which turns a TIFF
    orientation = image.getexif().get(ORIENTATION_TAG) if image.format else None
    if image.mode not in PNG_MODES | TIFF_MODES:
        image = image.convert(ALPHA_MODES.get(image.mode, "RGB"))
    options, buffer = {}, io.BytesIO()
    if orientation in range(1, 9):
        exif = type(image.getexif())()  # without the other tags, which may contradict the file that is written
        exif[ORIENTATION_TAG] = orientation
        options["exif"] = exif
    image.save(buffer, "TIFF" if image.mode in TIFF_MODES else "PNG", **options)
    return buffer.getvalue()


def _read_bytes(file: Any) -> bytes:
    data = file.read()
    if not isinstance(data, bytes):
        raise errors.BadInput("The file is open for text: open it with mode 'rb'.", "bad_input")
    return data


def _file_name(file: Any, attribute: str = "name") -> str:
    name = getattr(file, attribute, None)
    return (Path(name).name if isinstance(name, str) else "") or DEFAULT_NAME
