import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

import boto3
import pytest

from jobs import blobs, errors
from tests import servers

DATA = [b"one", b"two" * 1000, bytes(1_000_000)]
SMALL_DISK = """
import hashlib, resource, signal, sys
from pathlib import Path
from jobs import blobs, errors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
data = bytes(200_000)
try:
    blobs.Folder(Path(sys.argv[1])).put([(hashlib.sha256(data).hexdigest(), data)])
except errors.BlobsUnavailable as error:
    print("unavailable:", error.detail)
else:
    print("stored")
"""
WRITER = """
import hashlib, sys
from pathlib import Path
from jobs import blobs
data = bytes([int(sys.argv[2])]) * 3_000_000
print("go", flush=True)
while True:
    sha = hashlib.sha256(data).hexdigest()
    blobs.Folder(Path(sys.argv[1])).put([(sha, data)])
    data = sha.encode() + data[64:]
"""


def named(data):
    """Bytes with their digest."""
    return hashlib.sha256(data).hexdigest(), data


def files(folder):
    """Every file below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def bucket(s3, monkeypatch):
    """An empty bucket."""
    servers.point_at_s3(monkeypatch, s3)
    name = f"pictures-{os.urandom(4).hex()}"
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket=name)
    client.close()
    return blobs.open_blobs(f"s3://{name}/some/prefix")


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path):
    """A store of each kind."""
    return blobs.open_blobs(str(tmp_path / "blobs")) if request.param == "folder" else request.getfixturevalue("bucket")


def test_what_is_put_can_be_got(store):
    """Several at once, empty ones and large ones."""
    store.put(map(named, [*DATA, b""]))
    assert [store.get(named(data)[0]) for data in DATA] == DATA
    assert store.get(named(b"")[0]) == b""


def test_putting_the_same_again_changes_nothing(store):
    """Content-addressed: the same bytes are the same blob."""
    for _ in range(2):
        store.put([named(b"same")])
    assert store.get(named(b"same")[0]) == b"same"


def test_what_is_not_there_is_missing(store):
    """A name of its own, because it is the picture's fate and no outage."""
    store.check()
    with pytest.raises(errors.BlobMissing):
        store.get(named(b"never put")[0])


def test_checking_writes_nothing_that_could_be_taken_for_a_blob(store):
    """A healthy store says nothing."""
    assert store.check() is None
    with pytest.raises(errors.BlobMissing):
        store.get(named(b"")[0])


def test_many_threads_may_put_the_same_at_once(store):
    """Ten requests with one picture."""
    name, data = named(os.urandom(300_000))
    threads = [threading.Thread(target=store.put, args=([(name, data)],)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(name) == data


def test_a_folder_gives_paths_and_a_bucket_none(tmp_path, bucket):
    """Whoever may read a file itself is told where it is."""
    folder = blobs.open_blobs(str(tmp_path))
    folder.put([named(b"x")])
    assert folder.path(named(b"x")[0]).read_bytes() == b"x"
    assert bucket.path(named(b"x")[0]) is None


def test_opening_a_store_makes_nothing(tmp_path):
    """Not before it is used."""
    blobs.open_blobs(str(tmp_path / "blobs"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_holds_whole_blobs_and_nothing_else(tmp_path):
    """No temporary file is left, and blobs of one folder do not pile up in one directory."""
    folder = blobs.Folder(tmp_path)
    folder.put(map(named, DATA))
    assert sorted(path.name for path in files(tmp_path)) == sorted(named(data)[0] for data in DATA)
    assert all(path.parent != tmp_path for path in files(tmp_path))


def test_what_a_killed_writer_left_is_swept_once_it_is_old(tmp_path):
    """A half of an hour ago goes; one that somebody is writing now stays, and so do whole blobs."""
    folder = blobs.Folder(tmp_path)
    folder.put([named(b"whole")])
    halves = tmp_path / "halves"
    for name, age in (("old", blobs.HALF_SECONDS + 60), ("young", 5)):
        (halves / name).write_bytes(b"half")
        moment = time.time() - age
        os.utime(halves / name, (moment, moment))
    os.utime(folder.path(named(b"whole")[0]), (0, 0))
    folder.sweep()
    assert [path.name for path in halves.iterdir()] == ["young"]
    assert folder.get(named(b"whole")[0]) == b"whole"
    blobs.Folder(tmp_path / "nowhere").sweep()


def test_what_was_put_within_the_hour_is_not_removed(tmp_path):
    """Whoever puts what is there already is about to count on it; what is not there is passed over."""
    folder = blobs.Folder(tmp_path)
    names = [named(data)[0] for data in DATA]
    folder.put(map(named, DATA))
    for name in names[:2]:
        os.utime(folder.path(name), (0, 0))
    folder.put([named(DATA[1])])
    folder.remove([*names, "0" * 64])
    assert sorted(path.name for path in files(tmp_path)) == sorted(names[1:])


def test_a_bucket_keeps_what_was_put_within_the_hour_too(bucket, monkeypatch):
    """By the store's own clock."""
    bucket.put(map(named, DATA))
    (name, data), *_ = map(named, DATA)
    bucket.remove([name, "0" * 64])
    assert bucket.get(name) == data
    monkeypatch.setattr(blobs, "HALF_SECONDS", -10)
    bucket.remove([name, "0" * 64])
    with pytest.raises(errors.BlobMissing):
        bucket.get(name)


def test_a_relative_folder_stays_where_it_was(tmp_path, monkeypatch):
    """Whatever the process does with its working directory."""
    monkeypatch.chdir(tmp_path)
    folder = blobs.open_blobs("blobs")
    monkeypatch.chdir("/")
    folder.put([named(b"x")])
    assert files(tmp_path / "blobs")


def test_a_full_disk_is_unavailable_and_leaves_nothing(tmp_path):
    """A write that stops short, as on a full disk, is an error, and no half blob is seen."""
    command = [sys.executable, "-c", SMALL_DISK, str(tmp_path / "blobs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("unavailable: A picture cannot be stored"), done.stdout + done.stderr
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path):
    """A file where the folder should be; the same words for putting, getting and checking."""
    (tmp_path / "file").write_text("x")
    folder = blobs.Folder(tmp_path / "file" / "blobs")
    for action in (lambda: folder.put([named(b"x")]), lambda: folder.get(named(b"x")[0]), folder.check):
        with pytest.raises(errors.BlobsUnavailable) as caught:
            action()
        assert caught.value.detail.endswith(".")


def test_an_unreadable_blob_is_an_outage_and_not_missing(tmp_path):
    """A disk that fails must not cost a picture its chance."""
    folder = blobs.Folder(tmp_path)
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


def test_a_bucket_that_does_not_exist_is_unavailable(s3, monkeypatch):
    """A misspelt bucket is ours to mend: no picture is failed for it."""
    servers.point_at_s3(monkeypatch, s3)
    store = blobs.open_blobs("s3://no-such-bucket-anywhere/x")
    for action in (lambda: store.put([named(b"x")]), lambda: store.get(named(b"x")[0]), store.check):
        with pytest.raises(errors.BlobsUnavailable):
            action()


def test_a_bucket_s_server_that_is_gone_is_unavailable_within_a_bounded_time(monkeypatch):
    """Refused: the tries together take seconds, not minutes."""
    servers.point_at_s3(monkeypatch, f"http://127.0.0.1:{servers.free_port()}")
    store = blobs.open_blobs("s3://pictures")
    for action in (lambda: store.put([named(b"x")]), lambda: store.get(named(b"x")[0]), store.check):
        started = time.monotonic()
        with pytest.raises(errors.BlobsUnavailable) as caught:
            action()
        assert time.monotonic() - started < 16
        assert "\n" not in caught.value.detail
        assert "secret" not in caught.value.detail


def test_prefixes_of_one_bucket_do_not_meet(s3, monkeypatch):
    """Two installations may share a bucket."""
    servers.point_at_s3(monkeypatch, s3)
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="shared-bucket")
    one, two = (blobs.open_blobs(f"s3://shared-bucket/{prefix}") for prefix in ("one", "two"))
    one.put([named(b"x")])
    with pytest.raises(errors.BlobMissing):
        two.get(named(b"x")[0])
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="shared-bucket")["Contents"]]
    assert keys == [f"one/{named(b'x')[0]}"]
    client.close()
