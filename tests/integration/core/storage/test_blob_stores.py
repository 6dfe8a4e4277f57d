import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import boto3
import pytest

from core import errors
from core.storage import base, factory, local, s3
from tests.support import servers

DATA = [b"one", b"two" * 1000, bytes(1_000_000)]
SMALL_DISK = """
import hashlib, resource, signal, sys
from pathlib import Path
from core import errors
from core.storage import local
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
data = bytes(200_000)
try:
    local.LocalBlobStore(Path(sys.argv[1])).put([(hashlib.sha256(data).hexdigest(), data)])
except errors.BlobsUnavailable as error:
    print("unavailable:", error.detail)
else:
    print("stored")
"""
WRITER = """
import hashlib, sys
from pathlib import Path
from core.storage import local
data = bytes([int(sys.argv[2])]) * 3_000_000
print("go", flush=True)
while True:
    sha = hashlib.sha256(data).hexdigest()
    local.LocalBlobStore(Path(sys.argv[1])).put([(sha, data)])
    data = sha.encode() + data[64:]
"""


def named(data):
    """Bytes with their digest."""
    return hashlib.sha256(data).hexdigest(), data


def files(folder):
    """Every file below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def empty_bucket(s3_url, monkeypatch):
    """An empty bucket."""
    servers.set_s3_environment(monkeypatch, s3_url)
    name = f"images-{os.urandom(4).hex()}"
    client = boto3.client("s3", endpoint_url=s3_url)
    client.create_bucket(Bucket=name)
    client.close()
    return factory.open_blob_store(f"s3://{name}/some/prefix")


@pytest.fixture(params=["folder", "bucket"])
def blob_store(request, tmp_path):
    """A store of each kind."""
    return (
        factory.open_blob_store(str(tmp_path / "blobs"))
        if request.param == "folder"
        else request.getfixturevalue("empty_bucket")
    )


def test_what_is_put_can_be_got(blob_store):
    """Several at once, empty ones and large ones."""
    blob_store.put(map(named, [*DATA, b""]))
    assert [blob_store.get(named(data)[0]) for data in DATA] == DATA
    assert blob_store.get(named(b"")[0]) == b""


def test_putting_the_same_again_changes_nothing(blob_store):
    """Content-addressed: the same bytes are the same blob."""
    for _ in range(2):
        blob_store.put([named(b"same")])
    assert blob_store.get(named(b"same")[0]) == b"same"


def test_what_is_not_there_is_missing(blob_store):
    """An error of its own, because it is the image's outcome and not an outage."""
    blob_store.check()
    with pytest.raises(errors.BlobMissing):
        blob_store.get(named(b"never put")[0])


def test_checking_writes_nothing_that_could_be_taken_for_a_blob(blob_store):
    """A healthy store says nothing."""
    assert blob_store.check() is None
    with pytest.raises(errors.BlobMissing):
        blob_store.get(named(b"")[0])


def test_a_blob_uploaded_again_while_others_are_checked_stays(empty_bucket, monkeypatch):
    """A purge has found that nothing refers to it; since then a new image does."""
    monkeypatch.setattr(base, "ORPHAN_TTL_SECONDS", 0.0)
    blobs = [named(data) for data in (b"first", b"second")]
    empty_bucket.put(blobs)
    store, is_old = empty_bucket._store, s3.S3BlobStore._is_old

    def upload_first_again(blob_store, sha256):
        if sha256 == blobs[1][0]:
            store.put(*blobs[0])
        return is_old(blob_store, sha256)

    monkeypatch.setattr(s3.S3BlobStore, "_is_old", upload_first_again)
    empty_bucket.remove([sha256 for sha256, _ in blobs])

    assert empty_bucket.get(blobs[0][0]) == b"first"
    with pytest.raises(errors.BlobMissing):
        empty_bucket.get(blobs[1][0])


def test_many_threads_may_put_the_same_at_once(blob_store):
    """Ten requests with one image."""
    name, data = named(os.urandom(300_000))
    threads = [threading.Thread(target=blob_store.put, args=([(name, data)],)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blob_store.get(name) == data


def test_a_folder_gives_paths_and_a_bucket_none(tmp_path, empty_bucket):
    """A reader that may open the file itself gets its path."""
    folder = factory.open_blob_store(str(tmp_path))
    folder.put([named(b"x")])
    assert folder.path(named(b"x")[0]).read_bytes() == b"x"
    assert empty_bucket.path(named(b"x")[0]) is None


def test_opening_a_store_makes_nothing(tmp_path):
    """Not before it is used."""
    factory.open_blob_store(str(tmp_path / "blobs"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_holds_whole_blobs_and_nothing_else(tmp_path):
    """No temporary file is left, and blobs of one folder do not pile up in one directory."""
    folder = local.LocalBlobStore(tmp_path)
    folder.put(map(named, DATA))
    assert sorted(path.name for path in files(tmp_path)) == sorted(named(data)[0] for data in DATA)
    assert all(path.parent != tmp_path for path in files(tmp_path))


def test_temporary_files_of_a_killed_writer_are_swept_once_they_are_old(tmp_path):
    """One that is being written now stays, and so do blobs."""
    folder = local.LocalBlobStore(tmp_path)
    folder.put([named(b"whole")])
    temp_dir = tmp_path / "tmp"
    temp_dir.mkdir(exist_ok=True)
    for file, age in (("old", base.ORPHAN_TTL_SECONDS + 60), ("young", 5)):
        (temp_dir / file).write_bytes(b"half")
        timestamp = time.time() - age
        os.utime(temp_dir / file, (timestamp, timestamp))
    os.utime(folder.path(named(b"whole")[0]), (0, 0))
    folder.remove_temp_files()
    assert [path.name for path in temp_dir.iterdir()] == ["young"]
    assert folder.get(named(b"whole")[0]) == b"whole"
    local.LocalBlobStore(tmp_path / "nowhere").remove_temp_files()


def test_what_was_put_within_the_hour_is_not_removed(tmp_path):
    """A repeated `put` protects a blob; missing blobs are skipped."""
    folder = local.LocalBlobStore(tmp_path)
    names = [named(data)[0] for data in DATA]
    folder.put(map(named, DATA))
    for name in names[:2]:
        os.utime(folder.path(name), (0, 0))
    folder.put([named(DATA[1])])
    folder.remove([*names, "0" * 64])
    assert sorted(path.name for path in files(tmp_path)) == sorted(names[1:])


def test_a_blob_that_was_put_again_stays_where_it_is(tmp_path, monkeypatch):
    """A worker may open it at any moment, so a removal that was decided before does not move it at all."""
    folder = local.LocalBlobStore(tmp_path)
    folder.put([named(b"x")])
    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("it was moved"))
    folder.remove([named(b"x")[0]])
    assert folder.get(named(b"x")[0]) == b"x"


def test_a_blob_whose_file_cannot_be_read_is_put_anew(tmp_path):
    """As a damaged one: else its image could never be submitted again."""
    store, (sha256, data) = local.LocalBlobStore(tmp_path), named(b"x")
    store.put([(sha256, data)])
    store.path(sha256).unlink()
    store.path(sha256).symlink_to(store.path(sha256))
    store.put([(sha256, data)])
    assert store.get(sha256) == data


def test_a_blob_that_is_put_again_while_it_is_removed_is_read(tmp_path, monkeypatch):
    """It was old when the removal looked, and is put back when that sees its new time: readers look once more."""
    folder = local.LocalBlobStore(tmp_path)
    (name, data), path = named(b"x"), folder.path(named(b"x")[0])
    folder.put([(name, data)])
    os.utime(path, (0, 0))
    rename, seen = Path.rename, []

    def put_then_rename(source, target):
        if source != path:
            seen.append(folder.get(name) if not path.exists() else None)
        else:
            folder.put([(name, data)])
        return rename(source, target)

    def put_back(_seconds):
        rename(next((tmp_path / "tmp").iterdir()), path)

    monkeypatch.setattr(base, "time", types.SimpleNamespace(sleep=put_back))  # other threads sleep too
    monkeypatch.setattr(Path, "rename", put_then_rename)
    with contextlib.suppress(FileNotFoundError):  # this test has put it back already
        folder._remove_file(path)
    assert seen == [data]
    assert path.read_bytes() == data


def test_a_bucket_keeps_what_was_put_within_the_hour_too(empty_bucket, monkeypatch):
    """By the store's own clock."""
    empty_bucket.put(map(named, DATA))
    (name, data), *_ = map(named, DATA)
    empty_bucket.remove([name, "0" * 64])
    assert empty_bucket.get(name) == data
    monkeypatch.setattr(base, "ORPHAN_TTL_SECONDS", -10)
    empty_bucket.remove([name, "0" * 64])
    with pytest.raises(errors.BlobMissing):
        empty_bucket.get(name)


def test_a_relative_folder_stays_where_it_was(tmp_path, monkeypatch):
    """Whatever the process does with its working directory."""
    monkeypatch.chdir(tmp_path)
    folder = factory.open_blob_store("blobs")
    monkeypatch.chdir("/")
    folder.put([named(b"x")])
    assert files(tmp_path / "blobs")


def test_a_full_disk_is_unavailable_and_leaves_nothing(tmp_path):
    """A write that stops short, as on a full disk, is an error, and no half blob is seen."""
    command = [sys.executable, "-c", SMALL_DISK, str(tmp_path / "blobs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("unavailable: An image cannot be stored"), done.stdout + done.stderr
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path):
    """A file where the folder should be; the same words for putting, getting and checking."""
    (tmp_path / "file").write_text("x")
    folder = local.LocalBlobStore(tmp_path / "file" / "blobs")
    for action in (lambda: folder.put([named(b"x")]), lambda: folder.get(named(b"x")[0]), folder.check):
        with pytest.raises(errors.BlobsUnavailable) as caught:
            action()
        assert caught.value.detail.endswith(".")


def test_an_unreadable_blob_is_an_outage_and_not_missing(tmp_path):
    """A disk error must not fail an image."""
    folder = local.LocalBlobStore(tmp_path)
    folder.path(named(b"x")[0]).mkdir(parents=True)
    with pytest.raises(errors.BlobsUnavailable):
        folder.get(named(b"x")[0])


def test_a_writer_that_is_killed_leaves_no_half_blob(tmp_path):
    """Kill -9 in the middle of writing, twelve times: whatever is visible is whole."""
    for number in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(number)], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(0.01 * number)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    whole = [path for path in files(tmp_path) if re.fullmatch("[0-9a-f]{64}", path.name)]
    assert whole
    assert all(named(path.read_bytes())[0] == path.name for path in whole)


def test_a_bucket_that_does_not_exist_is_unavailable(s3_url, monkeypatch):
    """A misspelt bucket is the operator's error: no image fails because of it."""
    servers.set_s3_environment(monkeypatch, s3_url)
    store = factory.open_blob_store("s3://no-such-bucket-anywhere/x")
    for action in (lambda: store.put([named(b"x")]), lambda: store.get(named(b"x")[0]), store.check):
        with pytest.raises(errors.BlobsUnavailable):
            action()


def test_a_bucket_s_server_that_is_gone_is_unavailable_within_a_bounded_time(monkeypatch):
    """Refused: the tries together take seconds, not minutes."""
    servers.set_s3_environment(monkeypatch, f"http://127.0.0.1:{servers.free_port()}")
    store = factory.open_blob_store("s3://images")
    for action in (lambda: store.put([named(b"x")]), lambda: store.get(named(b"x")[0]), store.check):
        started = time.monotonic()
        with pytest.raises(errors.BlobsUnavailable) as caught:
            action()
        assert time.monotonic() - started < 60
        assert "\n" not in caught.value.detail
        assert "secret" not in caught.value.detail


def test_prefixes_of_one_bucket_do_not_meet(s3_url, monkeypatch):
    """Two installations may share a bucket."""
    servers.set_s3_environment(monkeypatch, s3_url)
    client = boto3.client("s3", endpoint_url=s3_url)
    client.create_bucket(Bucket="shared-bucket")
    one, two = (factory.open_blob_store(f"s3://shared-bucket/{prefix}") for prefix in ("one", "two"))
    one.put([named(b"x")])
    with pytest.raises(errors.BlobMissing):
        two.get(named(b"x")[0])
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="shared-bucket")["Contents"]]
    assert keys == [f"one/{named(b'x')[0]}"]
    client.close()


def test_a_store_is_marked_with_one_database(blob_store):
    """The first claim counts; the mark is not a blob."""
    assert [blob_store.mark_owner(name) for name in ("a", "b", "a")] == [True, False, True]
    assert list(blob_store.list_old()) == []


def test_only_old_blobs_are_listed(blob_store, monkeypatch):
    """Those that were put an hour ago or earlier; nothing else that lies in the store."""
    blob_store.check()
    blob_store.mark_owner("a")
    blob_store.put(map(named, DATA))
    assert list(blob_store.list_old()) == []
    monkeypatch.setattr(base, "ORPHAN_TTL_SECONDS", -10)
    assert sorted(blob_store.list_old()) == sorted(named(data)[0] for data in DATA)


def test_renditions_are_beside_the_blobs_and_go_with_them(blob_store):
    """A blob that is removed takes all its renditions with it, however new they are; a sweep does not list them."""
    (first, _), (second, _) = map(named, DATA[:2])
    assert blob_store.renditions.get(first, "small") is None
    for sha256, kind in ((first, "small"), (first, "large"), (second, "small")):
        blob_store.renditions.put(sha256, kind, kind.encode())
    assert blob_store.renditions.get(first, "large") == b"large"
    stored = {(one.sha256, one.kind, one.bytes) for one in blob_store.renditions.list_all()}
    assert stored == {(first, "small", 5), (first, "large", 5), (second, "small", 5)}
    assert list(blob_store.list_old()) == []
    blob_store.remove([first])
    assert [one.sha256 for one in blob_store.renditions.list_all()] == [second]
    blob_store.renditions.remove(list(blob_store.renditions.list_all()))
    assert list(blob_store.renditions.list_all()) == []


@pytest.mark.parametrize("direct", [False, True])
def test_a_bucket_is_reached_through_the_proxy_of_the_environment(monkeypatch, direct):
    """But for the hosts that are named in NO_PROXY."""
    lines = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def refuse():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = proxy.accept()
                    with connection:
                        lines.append(connection.recv(1000).split(b"\r\n")[0])
                        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        servers.set_s3_environment(monkeypatch, "http://store.invalid")
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "store.invalid" if direct else "")
        with pytest.raises(errors.BlobsUnavailable):
            s3.S3BlobStore("s3://photos/x").get("0" * 64)
    assert all(line.startswith(b"GET http://store.invalid/photos/x/") for line in lines)
    assert bool(lines) is not direct
