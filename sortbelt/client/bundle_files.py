"""Files of a model bundle, for upload."""

import os
from pathlib import Path

from sortbelt import errors

BUNDLE_FILES = ("weights.safetensors", "model.json", "CARD.md")
OPTIONAL_FILES = ("familiarity.safetensors",)


def read_bundle(folder: str | os.PathLike[str]) -> list[tuple[str, bytes]]:
    """Return the files of a bundle as (name, bytes).

    Raises:
        errors.BadInput: the folder is not a bundle, or cannot be read.
    """
    paths = [Path(folder, name) for name in BUNDLE_FILES]
    for path in paths:
        if not path.is_file():
            raise errors.BadInput(f"{folder} is not a bundle: {path.name} is missing.", "bad_bundle")
    paths += [path for path in (Path(folder, name) for name in OPTIONAL_FILES) if path.is_file()]
    try:
        return [(path.name, path.read_bytes()) for path in paths]
    except OSError as error:
        raise errors.BadInput(f"{error.filename} cannot be read: {error.strerror}.", "unreadable") from None
