import hashlib
import os
import threading
import time

import pytest

from core import errors
from model.packaging import manifest
from worker.models import bundle_cache


@pytest.fixture
def bundle_digests(put_blob):
    """Three files among the blobs: {name: SHA-256}."""
    return {name: put_blob(name.encode()) for name in ("weights.safetensors", "model.json", "CARD.md")}


@pytest.fixture
def empty_cache(tmp_path, blob_store):
    """Return an empty cache."""
    return bundle_cache.BundleCache(tmp_path / "cache", blob_store)


def contents(folder):
    """Return the files of a folder with their contents: {name: text}."""
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_bundle_is_fetched_once_and_completely(empty_cache, bundle_digests, blob_store):
    """After that the store is not needed, and no temporary folder is left."""
    folder = empty_cache.path_for(bundle_digests)
    assert contents(folder) == {name: name for name in bundle_digests}
    for sha256 in bundle_digests.values():
        blob_store.path(sha256).unlink()
    assert empty_cache.path_for(bundle_digests) == folder
    assert list(folder.parent.iterdir()) == [folder]


def test_other_content_gives_another_folder(empty_cache, bundle_digests, put_blob):
    """A version that differs in its model card only is another bundle."""
    assert empty_cache.path_for(bundle_digests) != empty_cache.path_for(
        bundle_digests | {"CARD.md": put_blob(b"other")}
    )


@pytest.mark.parametrize("fault", ["altered", "removed"])
def test_a_folder_that_was_tampered_with_is_fetched_again(empty_cache, bundle_digests, fault):
    """The digest of each file is checked each time."""
    folder = empty_cache.path_for(bundle_digests)
    (folder / "model.json").write_text("evil") if fault == "altered" else (folder / "model.json").unlink()
    assert contents(empty_cache.path_for(bundle_digests)) == {name: name for name in bundle_digests}


def test_a_missing_or_altered_blob_is_an_invalid_bundle(empty_cache, bundle_digests, blob_store):
    """It is not cached."""
    blob_store.path(bundle_digests["CARD.md"]).write_bytes(b"other")
    with pytest.raises(manifest.InvalidBundle, match=r"CARD\.md is not the file that was added"):
        empty_cache.path_for(bundle_digests)
    blob_store.path(bundle_digests["CARD.md"]).unlink()
    with pytest.raises(manifest.InvalidBundle, match="missing from the blob store"):
        empty_cache.path_for(bundle_digests)
    assert list((blob_store.root.parent / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_an_outage(tmp_path, blob_store, bundle_digests):
    """The bundle is not invalid: it is fetched later."""
    (tmp_path / "file").touch()
    with pytest.raises(errors.ServiceUnavailable, match="cannot be written"):
        bundle_cache.BundleCache(tmp_path / "file" / "cache", blob_store).path_for(bundle_digests)


def test_ten_workers_on_a_machine_share_the_cache(tmp_path, blob_store, bundle_digests):
    """All of them see complete bundles."""
    folders = []
    fetch = [
        lambda: folders.append(
            contents(bundle_cache.BundleCache(tmp_path / "cache", blob_store).path_for(bundle_digests))
        )
    ] * 10
    threads = [threading.Thread(target=each) for each in fetch]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [{name: name for name in bundle_digests}] * 10


def test_a_bundle_not_used_for_a_week_is_evicted(empty_cache, bundle_digests, put_blob):
    """It is removed when another bundle is fetched."""
    old, used = (
        empty_cache.path_for(bundle_digests),
        empty_cache.path_for(bundle_digests | {"CARD.md": put_blob(b"used")}),
    )
    long_ago = time.time() - bundle_cache.EVICT_AFTER_SECONDS - 1
    for folder in (old, used):
        os.utime(folder, (long_ago, long_ago))
    empty_cache.path_for(bundle_digests | {"CARD.md": hashlib.sha256(b"used").hexdigest()})
    empty_cache.path_for(bundle_digests | {"CARD.md": put_blob(b"new")})
    assert not old.exists()
    assert used.exists()
