import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from core import errors
from core.sandbox import child_command
from core.storage import local
from model.preprocessing import decode
from tests.support import decoder_processes, image_files
from tests.support.image_files import PNG, png_chunk, png_header
from tests.support.waiting import wait_until
from worker.decoding import decoder_pool, decoder_process

PREPROCESS = decode.Preprocess(32, 24)
LIMITS = decoder_process.DecodeLimits(seconds=10, memory_bytes=768_000_000)


class TrapStore:
    """A blob store in which some blobs are FIFOs: a decoder that reads one blocks until the test proceeds."""

    def __init__(self, store, folder):
        self.store = store
        self.folder = folder
        self.traps = {}

    def set_trap(self, sha256):
        """Replace a blob by a FIFO."""
        self.traps[sha256] = self.folder / f"trap-{sha256[:8]}"
        os.mkfifo(self.traps[sha256])

    def path(self, sha256):
        """Return the path of the blob or of its FIFO."""
        return self.traps.get(sha256) or self.store.path(sha256)

    def get(self, sha256):
        """Return the bytes."""
        return self.store.get(sha256)

    def wait_for_reader(self, sha256):
        """Wait until a decoder reads the FIFO; return its process, and the write end."""
        end = os.open(self.traps[sha256], os.O_WRONLY)
        deadline = time.monotonic() + 50
        while time.monotonic() < deadline:
            for process in psutil.Process().children():
                if self._is_reading(process.pid, str(self.traps[sha256])):
                    return process, end
            time.sleep(0.001)
        raise AssertionError("no decoder reads the FIFO")

    @staticmethod
    def _is_reading(pid, path):
        with contextlib.suppress(OSError, IndexError, ValueError):
            descriptor = int(Path(f"/proc/{pid}/syscall").read_text().split()[1], 16)
            return str(Path(f"/proc/{pid}/fd/{descriptor}").readlink()) == path
        return False


def kill(process, end):
    """Kill a process, and wait until its ends of all pipes are closed."""
    process.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != "zombie":
            time.sleep(0.001)
    os.close(end)


class RemoteStore:
    """A blob store without paths, as a bucket is."""

    def __init__(self, store):
        self.store = store

    def path(self, sha256):
        """Return None: blobs can be read by `get` only."""

    def get(self, sha256):
        """Return the bytes."""
        return self.store.get(sha256)


@pytest.fixture
def make_pool(blob_store):
    """Make pools; close them at the end."""
    pools = []

    def make(count=2, store=blob_store, **limits):
        decode_limits = decoder_process.DecodeLimits(
            **({"seconds": LIMITS.seconds, "memory_bytes": LIMITS.memory_bytes} | limits)
        )
        pools.append(decoder_pool.DecoderPool(count, PREPROCESS, store, decode_limits))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def codes(outcomes):
    """Return the error code of each outcome, or None."""
    return [outcome.error and outcome.error.code for outcome in outcomes]


def child_pids():
    """Return the process ids of this process's live children."""
    return {child.pid for child in psutil.Process().children(recursive=True) if child.status() != "zombie"}


def descriptor_count():
    """Return how many file descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_good_images_give_exactly_the_pixels_of_the_shared_preprocessing(make_pool, put_blob, make_jpeg):
    """The same pixels as in training, each image in its own row."""
    formats = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]
    data = [make_jpeg(n, formats[n % 6], (50 + n, 40 + 2 * n)) for n in range(41)]
    pixels, outcomes = make_pool().submit([put_blob(each) for each in data], PREPROCESS).result()
    assert codes(outcomes) == [None] * 41
    assert pixels.dtype == np.uint8
    assert pixels.shape == (41, 24, 32, 3)
    for row, each in zip(pixels, data, strict=True):
        np.testing.assert_array_equal(row, PREPROCESS.decode(each))
    assert all(outcome.ms > 0 for outcome in outcomes)


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_images_on_any_number_of_children(make_pool, put_blob, make_jpeg, count):
    """Fewer images than children, more, and none."""
    pool = make_pool(count)
    for images in (0, 1, 2, 3, 17):
        pixels, outcomes = pool.submit([put_blob(make_jpeg(n)) for n in range(images)], PREPROCESS).result()
        assert len(pixels) == len(outcomes) == images
        assert not any(codes(outcomes))


def test_a_batch_contains_no_pixels_of_the_one_before(make_pool, put_blob, make_jpeg):
    """The row of a failed image is zero, even if that slot held a good image before."""
    pool = make_pool(1)
    pool.submit([put_blob(make_jpeg(n)) for n in range(8)], PREPROCESS).result()
    pixels, outcomes = pool.submit(
        [put_blob(make_jpeg(1)), put_blob(b"not an image"), put_blob(make_jpeg(3))], PREPROCESS
    ).result()
    assert codes(outcomes) == [None, "unsupported_format", None]
    assert not pixels[1].any()
    np.testing.assert_array_equal(pixels[2], PREPROCESS.decode(make_jpeg(3)))


def test_the_same_image_twice_in_a_batch(make_pool, put_blob, make_jpeg):
    """Two images may share a blob."""
    name = put_blob(make_jpeg(1))
    pixels, _ = make_pool().submit([name] * 20, PREPROCESS).result()
    assert all((row == pixels[0]).all() for row in pixels)


def test_bytes_without_a_path_are_sent_to_the_child(make_pool, blob_store, put_blob, make_jpeg):
    """The parent reads the bucket, the child decodes; a missing blob fails its image."""
    data = [make_jpeg(n) for n in range(11)]
    gone = "0" * 64
    names = [put_blob(each) for each in data]
    pixels, outcomes = (
        make_pool(store=RemoteStore(blob_store)).submit([*names[:5], gone, *names[5:]], PREPROCESS).result()
    )
    assert codes(outcomes) == [*[None] * 5, "blob_missing", *[None] * 6]
    np.testing.assert_array_equal(pixels[-1], PREPROCESS.decode(data[-1]))


def test_an_unavailable_store_fails_the_batch_and_no_image(make_pool, blob_store, put_blob, make_jpeg):
    """The batch raises as a whole; the pool works again afterwards."""

    class FlakyStore(RemoteStore):
        is_away = True

        def get(self, sha256):
            if self.is_away:
                raise errors.BlobsUnavailable("Away.")
            return super().get(sha256)

    remote = FlakyStore(blob_store)
    pool = make_pool(store=remote)
    names = [put_blob(make_jpeg(n)) for n in range(9)]
    with pytest.raises(errors.BlobsUnavailable):
        pool.submit(names, PREPROCESS).result()
    remote.is_away = False
    pixels, outcomes = pool.submit(names, PREPROCESS).result()
    assert not any(codes(outcomes))
    np.testing.assert_array_equal(pixels[3], PREPROCESS.decode(make_jpeg(3)))


@pytest.mark.parametrize("make_unreadable", [lambda file: file.mkdir(), lambda file: file.symlink_to(file)])
def test_an_unreadable_file_fails_alone_if_the_store_is_usable(
    make_pool, blob_store, put_blob, make_jpeg, make_unreadable
):
    """It can be opened but not read, or not even opened; its batches were handed back without end."""
    names = [put_blob(make_jpeg(n)) for n in range(12)]
    for name in (names[0], names[7]):
        blob_store.path(name).unlink()
        make_unreadable(blob_store.path(name))
    pixels, outcomes = make_pool().submit(names, PREPROCESS).result()
    expected = ["blob_missing" if n in {0, 7} else None for n in range(12)]
    assert codes(outcomes) == expected
    assert "the file of this image in it cannot be read" in outcomes[7].error.detail
    np.testing.assert_array_equal(pixels[8], PREPROCESS.decode(make_jpeg(8)))


def test_an_unreadable_file_of_an_unusable_store_fails_no_image(make_pool, blob_store, put_blob, make_jpeg):
    """The batch is handed back: all of the store may be away."""
    names = [put_blob(make_jpeg(n)) for n in range(3)]
    blob_store.path(names[1]).unlink()
    blob_store.path(names[1]).mkdir()

    class UnusableStore(local.LocalBlobStore):
        def check(self):
            raise errors.BlobsUnavailable("Read-only.")

    with pytest.raises(errors.BlobsUnavailable):
        make_pool(store=UnusableStore(blob_store.root)).submit(names, PREPROCESS).result()


def test_missing_or_altered_blobs_fail_alone(make_pool, blob_store, put_blob, make_jpeg):
    """Deleted, truncated, with a flipped bit, or replaced by another image."""
    names = [put_blob(make_jpeg(n)) for n in range(12)]
    blob_store.path(names[2]).unlink()
    blob_store.path(names[4]).write_bytes(make_jpeg(4)[:-10])
    blob_store.path(names[6]).write_bytes(b"\0" + make_jpeg(6)[1:])
    blob_store.path(names[8]).write_bytes(make_jpeg(9))
    _, outcomes = make_pool().submit(names, PREPROCESS).result()
    expected = {2: "blob_missing", 4: "blob_corrupt", 6: "blob_corrupt", 8: "blob_corrupt"}
    assert codes(outcomes) == [expected.get(n) for n in range(12)]
    assert all(outcome.error.detail.endswith(".") for outcome in outcomes if outcome.error)


def test_an_unreadable_blob_does_not_fail_its_image_permanently(make_pool, blob_store, put_blob, make_jpeg):
    """A folder in place of the file stands for a failing disk, which is not the image's fault."""
    names = [put_blob(make_jpeg(n)) for n in range(3)]
    blob_store.path(names[1]).unlink()
    blob_store.path(names[1]).mkdir()
    try:
        _, outcomes = make_pool().submit(names, PREPROCESS).result()
    except errors.ServiceUnavailable:
        return
    assert codes(outcomes)[1] != "crashed_decoder"


def test_a_decoder_that_dies_before_it_is_ready_is_replaced(make_pool, put_blob, make_jpeg):
    """The batch that waits for it fails, and the next one is decoded."""
    pool, digest = make_pool(1), put_blob(make_jpeg(1))
    os.kill(decoder_processes.pids(pool)[0], signal.SIGKILL)
    with pytest.raises(errors.ServiceUnavailable, match="does not start"):
        pool.submit([digest], PREPROCESS).result()
    assert codes(pool.submit([digest], PREPROCESS).result()[1]) == [None]


def test_an_image_that_kills_its_decoder_twice_fails_alone(make_pool, blob_store, put_blob, make_jpeg, tmp_path):
    """The decoder is killed while it works on the image, and again when that is retried alone."""
    store = TrapStore(blob_store, tmp_path)
    names = [put_blob(make_jpeg(n)) for n in range(32)]
    store.set_trap(names[13])
    pool = make_pool(2, store)
    killed_pids = []

    def kill_twice():
        for _ in range(2):
            process, end = store.wait_for_reader(names[13])
            kill(process, end)
            killed_pids.append(process.pid)

    killer = threading.Thread(target=kill_twice, daemon=True)
    killer.start()
    pixels, outcomes = pool.submit(names, PREPROCESS).result()
    killer.join(10)
    assert len(set(killed_pids)) == 2
    assert codes(outcomes) == [None] * 13 + ["crashed_decoder"] + [None] * 18
    assert not pixels[13].any()
    for n in (0, 12, 14, 31):
        np.testing.assert_array_equal(pixels[n], PREPROCESS.decode(make_jpeg(n)))
    assert len(decoder_processes.pids(pool)) == 2
    assert not set(decoder_processes.pids(pool)) & set(killed_pids)


def test_an_image_whose_decoder_dies_once_is_retried(make_pool, blob_store, put_blob, make_jpeg, tmp_path):
    """A decoder that the system kills fails no image."""
    store = TrapStore(blob_store, tmp_path)
    names = [put_blob(make_jpeg(n)) for n in range(10)]
    store.set_trap(names[4])
    pool = make_pool(1, store)

    def kill_once():
        kill(*store.wait_for_reader(names[4]))
        _, end = store.wait_for_reader(names[4])
        os.write(end, make_jpeg(4))
        os.close(end)

    killer = threading.Thread(target=kill_once, daemon=True)
    killer.start()
    pixels, outcomes = pool.submit(names, PREPROCESS).result()
    killer.join(10)
    assert not any(codes(outcomes))
    np.testing.assert_array_equal(pixels[4], PREPROCESS.decode(make_jpeg(4)))


def test_a_decoder_that_replies_nonsense_is_replaced(make_pool, put_blob, make_jpeg, patch_decoding):
    """As if an image had taken control of it."""
    nonsense = """b'[["no code", "", 1, 1]]'"""
    at_start = f"from worker.decoding import protocol; protocol.encode_replies = lambda replies: {nonsense}"
    patch_decoding("pass", at_start)
    names = [put_blob(make_jpeg(n)) for n in range(2)]
    _, outcomes = make_pool(1).submit(names, PREPROCESS).result()
    assert codes(outcomes) == ["crashed_decoder", "crashed_decoder"]


def test_a_hung_decoder_is_replaced_and_its_image_times_out(make_pool, blob_store, put_blob, make_jpeg, tmp_path):
    """A suspended decoder is killed after its time limit, and the image fails at the retry; the others are fine."""
    store = TrapStore(blob_store, tmp_path)
    names = [put_blob(make_jpeg(n)) for n in range(12)]
    store.set_trap(names[5])
    pool = make_pool(2, store, seconds=1)
    suspended = []

    def suspend():
        process, end = store.wait_for_reader(names[5])
        process.suspend()
        suspended.append((process, end))

    stopper = threading.Thread(target=suspend, daemon=True)
    stopper.start()
    started = time.monotonic()
    _, outcomes = pool.submit(names, PREPROCESS).result()
    seconds = time.monotonic() - started
    stopper.join(10)
    os.close(suspended[0][1])
    assert codes(outcomes) == [None] * 5 + ["timed_out"] + [None] * 6
    assert outcomes[5].cpu_ms == outcomes[5].ms >= 1_000  # it is charged for
    assert seconds < 60  # two time limits of a second each, and two children to start, on any machine
    assert not suspended[0][0].is_running()


@pytest.mark.parametrize("part", ["b'!'", "struct.pack('!i', 9) + b'[['"], ids=["in its size", "in its text"])
def test_a_decoder_that_stops_in_the_middle_of_a_reply_times_out(make_pool, put_blob, make_jpeg, patch_decoding, part):
    """It is replaced, and the image fails at the retry; the others are fine."""
    patch_decoding(
        f"len(data) == 7 and (os.write(int(sys.argv[1]), {part}), time.sleep(60))", at_start="import struct, sys"
    )
    pool = make_pool(1, seconds=1)
    first_pid = decoder_processes.pids(pool)[0]
    _, outcomes = pool.submit(
        [put_blob(make_jpeg(0)), put_blob(b"stopped"), put_blob(make_jpeg(2))], PREPROCESS
    ).result()
    assert codes(outcomes) == [None, "timed_out", None]
    assert not psutil.pid_exists(first_pid)


def progressive(size, scans):
    """Return a progressive JPEG whose last scan is repeated `scans` times."""
    jpeg = image_files.encode(Image.new("L", (size, size), 128), "JPEG", progressive=True)
    return image_files.with_repeated_scans(jpeg, scans)


def test_a_thousand_scans_are_rejected_at_once(make_pool, put_blob, make_jpeg):
    """The file has 94 KB, and would take ten seconds."""
    names = [put_blob(make_jpeg(0)), put_blob(progressive(4000, 1000)), put_blob(make_jpeg(2))]
    pool = make_pool(1)
    _, outcomes = pool.submit(names, PREPROCESS).result()
    (child,) = [psutil.Process(pid).cpu_times() for pid in decoder_processes.pids(pool)]
    assert child.user + child.system < 6
    first, bomb, last = codes(outcomes)
    assert bomb == "undecodable"
    assert first is last is None


def test_an_image_that_takes_too_long_times_out(make_pool, put_blob, make_jpeg):
    """A valid but large image, with a short time limit."""
    names = [put_blob(make_jpeg(0)), put_blob(progressive(6300, 90)), put_blob(make_jpeg(2))]
    pool = make_pool(1, seconds=1.3)
    pool.submit(names[:1], PREPROCESS).result()  # waits for the child to start
    _, outcomes = pool.submit(names, PREPROCESS).result()
    assert codes(outcomes)[1] in ("cpu_time_exceeded", "undecodable")
    assert codes(outcomes)[0] is codes(outcomes)[2] is None


@pytest.fixture
def patch_decoding(tmp_path, monkeypatch):
    """Have decoder children run some code before they decode an image; `data` is its bytes."""

    def patch(code, at_start="pass"):
        source = f"""
            import os, time
            from pathlib import Path
            {at_start}
            from model.preprocessing import decode
            original = decode.Preprocess.decode
            def patched(self, data, **limits):
                {code}
                return original(self, data, **limits)
            decode.Preprocess.decode = patched
        """
        (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(source))
        monkeypatch.setattr(child_command, "PYTHON_PATH", [str(tmp_path), *child_command.PYTHON_PATH])

    return patch


def test_a_decode_limit_of_many_seconds_is_cpu_time_that_an_image_can_use(
    make_pool, put_blob, make_jpeg, patch_decoding
):
    patch_decoding("while time.process_time() < 3.8: pass")
    _, outcomes = make_pool(1, seconds=40).submit([put_blob(make_jpeg(0))], PREPROCESS).result()
    assert codes(outcomes) == [None]


def test_an_image_that_computes_without_end_times_out(make_pool, put_blob, make_jpeg, patch_decoding):
    patch_decoding("while len(data) == 7: pass")
    names = [put_blob(make_jpeg(0)), put_blob(b"endless"), put_blob(make_jpeg(2))]
    _, outcomes = make_pool(1, seconds=2).submit(names, PREPROCESS).result()
    assert codes(outcomes) == [None, "cpu_time_exceeded", None]
    assert "1.6 s of CPU time" in outcomes[1].error.detail


def test_an_image_that_times_out_once_is_retried_alone(make_pool, put_blob, make_jpeg, patch_decoding, tmp_path):
    """An image whose CPU time is within the limit does not fail because the machine is busy for a moment."""
    requested = [make_jpeg(n) for n in range(6)]
    marker = tmp_path / "marker"
    patch_decoding(
        f"is_first and len(data) == {len(requested[3])} and time.sleep(60)",
        at_start=f"is_first = not os.path.exists({str(marker)!r}); os.makedirs({str(marker)!r}, exist_ok=True)",
    )
    pixels, outcomes = make_pool(1, seconds=1).submit([put_blob(data) for data in requested], PREPROCESS).result()
    assert marker.exists()
    assert codes(outcomes) == [None] * 6
    np.testing.assert_array_equal(pixels[3], PREPROCESS.decode(requested[3]))


def uniform_png(width, height):
    """Return a small PNG file with many pixels of one colour."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 4 * width)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = [png_header(width, height, colour=6), png_chunk(b"IDAT", packed), png_chunk(b"IEND")]
    return PNG + b"".join(chunks)


def test_decompression_bombs_are_rejected_within_their_limits(make_pool, put_blob, make_jpeg):
    """144 megapixels are rejected by the header; 36 exceed the memory limit."""
    pool = make_pool(1, memory_bytes=100_000_000)
    names = [
        put_blob(make_jpeg(0)),
        put_blob(uniform_png(12_000, 12_000)),
        put_blob(uniform_png(6_000, 6_000)),
        put_blob(make_jpeg(3)),
    ]
    _, outcomes = pool.submit(names, PREPROCESS).result()
    first, by_header, by_memory, last = codes(outcomes)
    assert by_header == "too_large"
    assert by_memory in ("too_large", "crashed_decoder")
    assert first is last is None


def test_a_decoder_is_sandboxed(make_pool):
    """It has limits on memory, files, core dumps and descriptors, no new privileges, and its own session."""
    pool = make_pool(1)
    pool.submit([], PREPROCESS).result()
    pid = decoder_processes.pids(pool)[0]
    wait_until(lambda: "Max core file size        0 " in Path(f"/proc/{pid}/limits").read_text(), 10)
    wait_until(lambda: "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text(), 10)
    limits = {line[:25].strip(): line[26:47].strip() for line in Path(f"/proc/{pid}/limits").read_text().splitlines()}
    assert limits["Max file size"] == "0"
    assert int(limits["Max open files"]) <= 64
    assert int(limits["Max address space"]) < 4_000_000_000
    assert os.getsid(pid) == pid
    assert not any("torch" in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())


def test_fifty_kills_leak_nothing(make_pool, put_blob, make_jpeg):
    """Children that die between batches are replaced: every image is decoded, and no descriptor or process is left."""
    pool = make_pool(2)
    names = [put_blob(make_jpeg(n)) for n in range(4)]
    pool.submit(names, PREPROCESS).result()
    children_before, descriptors_before = len(child_pids()), descriptor_count()
    for _ in range(25):
        for pid in decoder_processes.pids(pool):
            os.kill(pid, signal.SIGKILL)
        _, outcomes = pool.submit(names, PREPROCESS).result()
        assert codes(outcomes) == [None] * 4
    assert len(child_pids()) == children_before
    assert descriptor_count() <= descriptors_before + 1


def test_closing_ends_the_children(put_blob, blob_store, make_jpeg):
    """Closing one pool does not affect another."""
    first, second = (decoder_pool.DecoderPool(2, PREPROCESS, blob_store, LIMITS) for _ in range(2))
    name = put_blob(make_jpeg(0))
    assert not any(codes(first.submit([name], PREPROCESS).result()[1]))
    pids = set(decoder_processes.pids(first))
    first.close()
    assert not pids & child_pids()
    assert not any(codes(second.submit([name], PREPROCESS).result()[1]))
    second.close()


POOL_SCRIPT = """
import sys, time
from pathlib import Path
from core.storage import local
from model.preprocessing import decode
from tests.support import decoder_processes
from worker.decoding import decoder_pool, decoder_process
limits = decoder_process.DecodeLimits(10, 768_000_000)
preprocessing = decode.Preprocess(32, 24)
pool = decoder_pool.DecoderPool(3, preprocessing, local.LocalBlobStore(Path(sys.argv[1])), limits)
pool.submit([], preprocessing).result()
print(*decoder_processes.pids(pool), flush=True)
time.sleep(60)
"""


def test_children_die_with_their_parent(tmp_path):
    """SIGKILL of the parent, while they start and later, leaves no child."""
    for wait in (0, 0.7):
        parent = subprocess.Popen([sys.executable, "-c", POOL_SCRIPT, str(tmp_path)], stdout=subprocess.PIPE)
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(children) == 3
        time.sleep(wait)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        _, alive = psutil.wait_procs(children, timeout=80)
        assert alive == []


def test_hostile_files_never_take_a_pool_down(make_pool, shared_dir, blob_store):
    """Each file of the collection gives pixels or an error code, and the good ones give pixels."""
    files = [path for path in sorted((shared_dir / "data" / "hostile").iterdir()) if path.suffix not in (".md", ".csv")]
    data = [path.read_bytes() for path in files]
    blob_store.put((hashlib.sha256(each).hexdigest(), each) for each in data)
    pool = make_pool(2)
    pixels, outcomes = pool.submit([hashlib.sha256(each).hexdigest() for each in data], PREPROCESS).result()
    assert len(outcomes) == len(files) > 100
    limits = {"too_large", "timed_out", "cpu_time_exceeded"}
    known = limits | {None, "empty", "unsupported_format", "truncated", "undecodable"}
    assert {code for code in codes(outcomes)} <= known  # noqa: C416 (as a set of codes)
    assert all(outcome.ms < 40_000 for outcome in outcomes)
    by_name = dict(zip((path.name for path in files), codes(outcomes), strict=True))
    assert by_name["made-good.jpg"] is None
    assert pixels[[path.name for path in files].index("made-good.jpg")].any()


def test_an_empty_store_is_not_created(tmp_path):
    """Its blobs are missing."""
    pool = decoder_pool.DecoderPool(1, PREPROCESS, local.LocalBlobStore(tmp_path / "none"), LIMITS)
    pixels, outcomes = pool.submit(["0" * 64], PREPROCESS).result()
    assert codes(outcomes) == ["blob_missing"]
    assert not pixels.any()
    pool.close()
    assert not (tmp_path / "none").exists()


def test_each_batch_is_decoded_by_its_own_preprocessing(make_pool, put_blob, make_jpeg):
    """Of another size or filter; only one that needs more memory needs new children."""
    images = [make_jpeg(number) for number in range(10)]
    sha256s = [put_blob(image) for image in images]
    pool = make_pool(2)
    pool.submit(sha256s, PREPROCESS).result()
    pids = decoder_processes.pids(pool)
    for preprocess in (decode.Preprocess(16, 20), decode.Preprocess(32, 24, "bicubic"), PREPROCESS):
        pixels, outcomes = pool.submit(sha256s, preprocess).result()
        assert codes(outcomes) == [None] * 10
        assert (pixels == np.stack([preprocess.decode(image) for image in images])).all()
    assert decoder_processes.pids(pool) == pids
    large = decode.Preprocess(100, 100)
    pixels, outcomes = pool.submit(sha256s, large).result()
    assert codes(outcomes) == [None] * 10
    assert (pixels == np.stack([large.decode(image) for image in images])).all()
    assert not set(decoder_processes.pids(pool)) & set(pids)


def test_a_batch_can_finish_before_the_one_submitted_earlier(make_pool, blob_store, put_blob, make_jpeg, tmp_path):
    """While the first batch blocks one decoder, the other one decodes the second batch."""
    store = TrapStore(blob_store, tmp_path)
    names = [put_blob(make_jpeg(n)) for n in range(40)]
    store.set_trap(names[0])
    pool = make_pool(2, store)
    first, second = pool.submit(names[:20], PREPROCESS), pool.submit(names[20:], PREPROCESS)
    pixels, outcomes = second.result(20)
    assert not first.done()
    assert not any(codes(outcomes))
    np.testing.assert_array_equal(pixels[-1], PREPROCESS.decode(make_jpeg(39)))
    _, end = store.wait_for_reader(names[0])
    os.write(end, make_jpeg(0))
    os.close(end)
    pixels, outcomes = first.result(20)
    assert not any(codes(outcomes))
    for n in range(20):
        np.testing.assert_array_equal(pixels[n], PREPROCESS.decode(make_jpeg(n)))


def test_an_urgent_batch_does_not_wait_for_decoders(make_pool, blob_store, put_blob, make_jpeg, tmp_path):
    """While the only decoder works on one image, and others wait for it, an urgent batch is decoded by another one."""
    store = TrapStore(blob_store, tmp_path)
    names = [put_blob(make_jpeg(n)) for n in range(30)]
    store.set_trap(names[0])
    pool = make_pool(1, store)
    slow, waiting = pool.submit(names[:1], PREPROCESS), pool.submit(names[1:10], PREPROCESS)
    started = threading.Event()
    urgent = pool.submit(names[10:], PREPROCESS, on_start=started.set, is_urgent=True)
    pixels, outcomes = urgent.result(100)
    assert started.is_set()
    assert not slow.done()
    assert not waiting.done()
    assert len(decoder_processes.pids(pool)) == 2
    assert not any(codes(outcomes))
    np.testing.assert_array_equal(pixels[-1], PREPROCESS.decode(make_jpeg(29)))
    _, end = store.wait_for_reader(names[0])
    os.write(end, make_jpeg(0))
    os.close(end)
    for future in (slow, waiting):
        assert not any(codes(future.result(100)[1]))


def test_batches_of_several_networks_are_queued_together(make_pool, put_blob, make_jpeg):
    """Each gets its own pixels, whatever the image size of the one before, and whether or not it needs more memory."""
    pool = make_pool(2)
    preprocesses = [
        PREPROCESS,
        decode.Preprocess(16, 20),
        decode.Preprocess(120, 90),
        PREPROCESS,
        decode.Preprocess(8, 8),
    ]
    futures = [
        pool.submit([put_blob(make_jpeg(n)) for n in range(9 + k)], preprocess)
        for k, preprocess in enumerate(preprocesses)
    ]
    for k, (preprocess, batch) in enumerate(zip(preprocesses, futures, strict=True)):
        pixels, outcomes = batch.result(30)
        assert codes(outcomes) == [None] * (9 + k)
        np.testing.assert_array_equal(pixels, np.stack([preprocess.decode(make_jpeg(n)) for n in range(9 + k)]))


def test_a_failed_batch_does_not_affect_others(make_pool, blob_store, put_blob, make_jpeg):
    """A batch whose bytes cannot be read raises; the batches around it are decoded."""
    pool = make_pool(2)
    names = [put_blob(make_jpeg(n)) for n in range(8)]

    def away():
        raise errors.BlobsUnavailable("Away.")

    futures = [pool.submit(names, PREPROCESS, readers=[away if k == 1 else None] * 8) for k in range(3)]
    for k, batch in enumerate(futures):
        if k == 1:
            with pytest.raises(errors.BlobsUnavailable):
                batch.result(20)
        else:
            assert codes(batch.result(20)[1]) == [None] * 8


def test_chunks_are_small_for_few_images_and_large_for_many(make_pool):
    """Every child gets some of a small batch; a large one is split no more than needed; large images go by eights."""
    pool = make_pool(4)
    assert [pool._chunk_size(count, PREPROCESS) for count in (1, 4, 8, 64, 4096)] == [1, 1, 2, 16, 32]
    assert pool._chunk_size(4096, decode.Preprocess(2000, 2000)) == 8
    pool._open_chunks = 4
    assert [pool._chunk_size(count, PREPROCESS) for count in (1, 8, 64, 4096)] == [8, 8, 16, 32]
