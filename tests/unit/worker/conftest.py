"""Fixtures of the worker tests."""

from tests.support.worker_fixtures import (  # noqa: F401 (pytest finds fixtures by their names here)
    blob_store,
    make_jpeg,
    put_blob,
    shipped_bundle,
)
