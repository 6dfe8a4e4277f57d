"""Open the blob store that a setting names."""

from pathlib import Path

from core import specs
from core.storage import base, local, s3


def open_blob_store(location: str) -> base.BlobStore:
    """Open the store at a folder or at `s3://BUCKET/PREFIX`."""
    return s3.S3BlobStore(location) if location.startswith(specs.S3_SCHEME) else local.LocalBlobStore(Path(location))
