"""A model's bundle on its way out: the three files of its folder."""

import os
from pathlib import Path

from sortbelt import errors

FILES = ("weights.safetensors", "model.json", "CARD.md")


def read(folder: str | os.PathLike[str]) -> list[tuple[str, bytes]]:
    """The files of a bundle, (name, bytes) of each.

    Raises:
        errors.BadInput: the folder is no bundle, or cannot be read.
    """
    paths = [Path(folder, name) for name in FILES]
    for path in paths:
        if not path.is_file():
            raise errors.BadInput(f"{folder} is no bundle: it has no {path.name}.", "bad_bundle")
    try:
        return [(path.name, path.read_bytes()) for path in paths]
    except OSError as error:
        raise errors.BadInput(f"{error.filename} cannot be read: {error.strerror}.", "unreadable") from None
