"""ZIP archive of images, with a folder per label, written while it is sent."""

import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from api.services import chunk_buffer, image_bytes
from core import errors
from core.db.queries import selections
from core.sources import catalog
from core.storage import base

MAX_BYTES = 500_000_000  # a browser holds the whole archive
UNLABELLED_FOLDER = "no-label"
LEFT_OUT_NAME = "left-out.txt"
UNSAFE_CHARACTERS = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')


class SelectionTooLarge(errors.ClientError):
    """The images have too many bytes for one archive; select fewer."""

    code = "selection_too_large"


def check_size(rows: Sequence[Any]) -> None:
    """Check that images fit in one archive.

    Raises:
        SelectionTooLarge: they do not.
    """
    total = sum(row.bytes for row in rows)
    if total > MAX_BYTES:
        raise SelectionTooLarge(
            f"These images have {total:,} bytes; an archive may have {MAX_BYTES:,}. Select fewer at a time."
        )


def stream(rows: Sequence[Any], store: base.BlobStore, sources: catalog.SourceCatalog) -> Iterator[bytes]:
    """Yield a ZIP archive of images, uncompressed; those that cannot be read are named in a text file."""
    buffer, left_out = chunk_buffer.ChunkBuffer(), []
    names = selections.unique_names([_name(row) for row in rows])
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for row, name in zip(rows, names, strict=True):
            try:
                data = image_bytes.read(store, row.sha256, sources.reader(row.source, row.location, row.bytes))
            except errors.SortbeltError as error:
                left_out.append(f"{row.name}: {error.detail}\n")
            else:
                archive.writestr(name, data)
            yield buffer.drain()
        if left_out:
            archive.writestr(LEFT_OUT_NAME, "".join(left_out))
    yield buffer.drain()


def _name(row: Any) -> str:
    """Return the path of an image in the archive: its label, and its name without steps that lead out of a folder."""
    label = (row.review_label or row.verdict) if row.verdict else (row.label or UNLABELLED_FOLDER)
    parts = [part for part in row.name.split("/") if part not in ("", ".", "..")]
    return "/".join(UNSAFE_CHARACTERS.sub("_", part) for part in (label.replace("/", "_"), *(parts or ["image"])))
