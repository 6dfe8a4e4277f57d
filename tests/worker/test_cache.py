import hashlib
import os
import threading
import time

import pytest

from jobs import errors
from model import manifest
from worker import cache


@pytest.fixture
def files(put):
    """Three files among the blobs: {name: SHA-256}."""
    return {name: put(name.encode()) for name in ("weights.safetensors", "model.json", "CARD.md")}


@pytest.fixture
def kept(tmp_path, store):
    """An empty cache."""
    return cache.Cache(tmp_path / "cache", store)


def contents(folder):
    """What lies in a folder."""
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_bundle_is_fetched_once_and_whole(kept, files, store):
    """After that it needs the store no more; nothing half-written lies about."""
    folder = kept.folder(files)
    assert contents(folder) == {name: name for name in files}
    for sha256 in files.values():
        store.path(sha256).unlink()
    assert kept.folder(files) == folder
    assert list(folder.parent.iterdir()) == [folder]


def test_other_content_is_another_folder(kept, files, put):
    """A version with another card is not mistaken for the first."""
    assert kept.folder(files) != kept.folder(files | {"CARD.md": put(b"other")})


@pytest.mark.parametrize("how", ["altered", "gone"])
def test_what_somebody_has_meddled_with_is_fetched_again(kept, files, how):
    """The digest of each file is looked at, each time."""
    folder = kept.folder(files)
    (folder / "model.json").write_text("evil") if how == "altered" else (folder / "model.json").unlink()
    assert contents(kept.folder(files)) == {name: name for name in files}


def test_a_lost_or_altered_blob_is_a_bad_bundle(kept, files, store):
    """It must not be served; and it is not kept."""
    store.path(files["CARD.md"]).write_bytes(b"other")
    with pytest.raises(manifest.BadBundle, match=r"CARD\.md is not the file that was added"):
        kept.folder(files)
    store.path(files["CARD.md"]).unlink()
    with pytest.raises(manifest.BadBundle, match="lost a file"):
        kept.folder(files)
    assert list((store.root.parent / "cache").iterdir()) == []


def test_a_disk_that_cannot_be_written_is_no_fault_of_the_bundle(tmp_path, store, files):
    """Worth another try later."""
    (tmp_path / "file").touch()
    with pytest.raises(errors.Unavailable, match="cannot be written"):
        cache.Cache(tmp_path / "file" / "cache", store).folder(files)


def test_ten_workers_of_one_machine_share_it(tmp_path, store, files):
    """Whoever comes first; all see whole bundles."""
    folders = []
    fetch = [lambda: folders.append(contents(cache.Cache(tmp_path / "cache", store).folder(files)))] * 10
    threads = [threading.Thread(target=each) for each in fetch]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [{name: name for name in files}] * 10


def test_what_nobody_used_for_a_week_is_forgotten(kept, files, put):
    """When another bundle is fetched."""
    old, used = kept.folder(files), kept.folder(files | {"CARD.md": put(b"used")})
    long_ago = time.time() - cache.FORGET_SECONDS - 1
    for folder in (old, used):
        os.utime(folder, (long_ago, long_ago))
    kept.folder(files | {"CARD.md": hashlib.sha256(b"used").hexdigest()})
    kept.folder(files | {"CARD.md": put(b"new")})
    assert not old.exists()
    assert used.exists()
