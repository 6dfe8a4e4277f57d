"""The images of a batch are opened for the decoders."""

import hashlib
import os
import threading
import types

import pytest

from core import errors
from core.storage import base, local
from model.preprocessing import decode
from worker.decoding import decode_batch

DATA = b"image"
SHA256 = hashlib.sha256(DATA).hexdigest()


def batch_of(store, sha256):
    preprocess, stop = decode.Preprocess(8, 8), threading.Event()
    return decode_batch.DecodeBatch(store, preprocess, [sha256], [None], stop, None, lambda: None, is_urgent=False)


def test_an_image_that_a_removal_puts_back_is_opened(tmp_path, monkeypatch):
    """It was put again while the removal had it moved aside: its failure would be final."""
    store = local.LocalBlobStore(tmp_path)
    store.put([(SHA256, DATA)])
    aside = store.path(SHA256).rename(tmp_path / "aside")
    monkeypatch.setattr(base, "time", types.SimpleNamespace(sleep=lambda _: aside.rename(store.path(SHA256))))
    descriptor = batch_of(store, SHA256).open_image(0)
    assert os.read(descriptor, 99) == DATA
    os.close(descriptor)


def test_an_image_without_bytes_is_missing(tmp_path):
    """Also when it is looked for again."""
    with pytest.raises(errors.BlobMissing):
        batch_of(local.LocalBlobStore(tmp_path), SHA256).open_image(0)
