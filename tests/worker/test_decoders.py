import contextlib
import hashlib
import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from jobs import blobs, errors
from model import preprocess
from worker import decoders

HOW = preprocess.Preprocess(32, 24)
LIMITS = decoders.Limits(seconds=10, memory_bytes=768_000_000)


class Trapped:
    """A store in which the bytes of some pictures come from a FIFO: whoever reads them waits for the test."""

    def __init__(self, store, folder):
        self.store = store
        self.folder = folder
        self.traps = {}

    def set_trap(self, sha256):
        """From now on, reading this picture waits."""
        self.traps[sha256] = self.folder / f"trap-{sha256[:8]}"
        os.mkfifo(self.traps[sha256])

    def path(self, sha256):
        """Where the bytes are, or the trap."""
        return self.traps.get(sha256) or self.store.path(sha256)

    def get(self, sha256):
        """Not used where there are paths."""
        return self.store.get(sha256)

    def caught(self, sha256):
        """Wait until a decoder reads the picture; then the decoder, and the open end of the trap."""
        end = os.open(self.traps[sha256], os.O_WRONLY)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for process in psutil.Process().children():
                if str(self.traps[sha256]) in self._open_files(process.pid):
                    return process, end
        raise AssertionError("nobody reads the trap")

    @staticmethod
    def _open_files(pid):
        found = []
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                found.append(str(descriptor.readlink()))
        return found


def kill(process, end):
    """Kill -9, and wait until its ends of all pipes are closed."""
    process.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != "zombie":
            time.sleep(0.001)
    os.close(end)


class Remote:
    """A store without files, as a bucket is."""

    def __init__(self, store):
        self.store = store

    def path(self, sha256):
        """None: nobody can read it but through `get`."""

    def get(self, sha256):
        """The bytes."""
        return self.store.get(sha256)


@pytest.fixture
def pool(store):
    """Makes pools, and closes them."""
    made = []

    def make(count=2, store=store, how=HOW, **limits):
        chosen = decoders.Limits(**({"seconds": LIMITS.seconds, "memory_bytes": LIMITS.memory_bytes} | limits))
        made.append(decoders.Decoders(count, how, store, chosen))
        return made[-1]

    yield make
    for one in made:
        one.close()


def codes(outcomes):
    """The code of each outcome; None where there are pixels."""
    return [outcome.error and outcome.error.code for outcome in outcomes]


def children():
    """The children of this process that run."""
    return {child.pid for child in psutil.Process().children(recursive=True) if child.status() != "zombie"}


def descriptors():
    """How many file descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_good_pictures_give_exactly_the_pixels_of_the_one_preprocessing(pool, put, good):
    """In a child as in training, to the last bit, each in its own row."""
    forms = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]
    data = [good(n, forms[n % 6], (50 + n, 40 + 2 * n)) for n in range(41)]
    pixels, outcomes = pool().decode([put(each) for each in data])
    assert codes(outcomes) == [None] * 41
    assert pixels.dtype == np.uint8
    assert pixels.shape == (41, 24, 32, 3)
    for row, each in zip(pixels, data, strict=True):
        np.testing.assert_array_equal(row, HOW.pixels(each))
    assert all(outcome.ms > 0 for outcome in outcomes)


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_pictures_on_any_number_of_children(pool, put, good, count):
    """Fewer pictures than children, more, and none."""
    ours = pool(count)
    for pictures in (0, 1, 2, 3, 17):
        pixels, outcomes = ours.decode([put(good(n)) for n in range(pictures)])
        assert len(pixels) == len(outcomes) == pictures
        assert not any(codes(outcomes))


def test_a_batch_after_a_batch_has_nothing_of_the_one_before(pool, put, good):
    """A failed picture's row is zero, also where a good one was in that place before."""
    ours = pool(1)
    ours.decode([put(good(n)) for n in range(8)])
    pixels, outcomes = ours.decode([put(good(1)), put(b"no picture"), put(good(3))])
    assert codes(outcomes) == [None, "unsupported_format", None]
    assert not pixels[1].any()
    np.testing.assert_array_equal(pixels[2], HOW.pixels(good(3)))


def test_the_same_picture_twice_in_a_batch(pool, put, good):
    """Two images may have one blob."""
    name = put(good(1))
    pixels, _ = pool().decode([name] * 20)
    assert all((row == pixels[0]).all() for row in pixels)


def test_bytes_that_have_no_file_are_handed_over(pool, store, put, good):
    """From a bucket: the parent reads, the child decodes; what is gone from there is missing."""
    data = [good(n) for n in range(11)]
    gone = "0" * 64
    names = [put(each) for each in data]
    pixels, outcomes = pool(store=Remote(store)).decode([*names[:5], gone, *names[5:]])
    assert codes(outcomes) == [*[None] * 5, "blob_missing", *[None] * 6]
    np.testing.assert_array_equal(pixels[-1], HOW.pixels(data[-1]))


def test_a_store_that_is_away_is_no_picture_s_fault(pool, store, put, good):
    """The batch is handed back as a whole; the pool is as good as new after it."""

    class Flaky(Remote):
        away = True

        def get(self, sha256):
            if self.away:
                raise errors.BlobsUnavailable("Away.")
            return super().get(sha256)

    remote = Flaky(store)
    ours = pool(store=remote)
    names = [put(good(n)) for n in range(9)]
    with pytest.raises(errors.BlobsUnavailable):
        ours.decode(names)
    remote.away = False
    pixels, outcomes = ours.decode(names)
    assert not any(codes(outcomes))
    np.testing.assert_array_equal(pixels[3], HOW.pixels(good(3)))


def test_what_is_missing_or_altered_has_its_code_and_neighbours_none(pool, store, put, good):
    """Deleted, cut off, with a flipped bit, or another picture in its place."""
    names = [put(good(n)) for n in range(12)]
    store.path(names[2]).unlink()
    store.path(names[4]).write_bytes(good(4)[:-10])
    store.path(names[6]).write_bytes(b"\0" + good(6)[1:])
    store.path(names[8]).write_bytes(good(9))
    _, outcomes = pool().decode(names)
    expected = {2: "blob_missing", 4: "blob_corrupt", 6: "blob_corrupt", 8: "blob_corrupt"}
    assert codes(outcomes) == [expected.get(n) for n in range(12)]
    assert all(outcome.error.detail.endswith(".") for outcome in outcomes if outcome.error)


def test_a_blob_that_cannot_be_read_does_not_fail_the_picture_for_good(pool, store, put, good):
    """A folder where the file should be stands for a disk that fails: ours to mend, not the picture's fault."""
    names = [put(good(n)) for n in range(3)]
    store.path(names[1]).unlink()
    store.path(names[1]).mkdir()
    try:
        _, outcomes = pool().decode(names)
    except errors.Unavailable:
        return
    assert codes(outcomes)[1] != "crashed_decoder"


def test_thirty_one_good_pictures_survive_one_that_kills_its_decoder(pool, store, put, good, tmp_path):
    """The decoder is killed -9 while it works on the poison, and again when that is tried alone."""
    trapped = Trapped(store, tmp_path)
    names = [put(good(n)) for n in range(32)]
    trapped.set_trap(names[13])
    ours = pool(2, trapped)
    killed = []

    def kill_twice():
        for _ in range(2):
            process, end = trapped.caught(names[13])
            kill(process, end)
            killed.append(process.pid)

    killer = threading.Thread(target=kill_twice, daemon=True)
    killer.start()
    pixels, outcomes = ours.decode(names)
    killer.join(10)
    assert len(set(killed)) == 2
    assert codes(outcomes) == [None] * 13 + ["crashed_decoder"] + [None] * 18
    assert not pixels[13].any()
    for n in (0, 12, 14, 31):
        np.testing.assert_array_equal(pixels[n], HOW.pixels(good(n)))
    assert len(ours.pids()) == 2
    assert not set(ours.pids()) & set(killed)


def test_one_death_alone_is_nobody_s_fault(pool, store, put, good, tmp_path):
    """A decoder that the system ends once costs no picture: it is tried again."""
    trapped = Trapped(store, tmp_path)
    names = [put(good(n)) for n in range(10)]
    trapped.set_trap(names[4])
    ours = pool(1, trapped)

    def kill_once():
        kill(*trapped.caught(names[4]))
        _, end = trapped.caught(names[4])
        os.write(end, good(4))
        os.close(end)

    killer = threading.Thread(target=kill_once, daemon=True)
    killer.start()
    pixels, outcomes = ours.decode(names)
    killer.join(10)
    assert not any(codes(outcomes))
    np.testing.assert_array_equal(pixels[4], HOW.pixels(good(4)))


def test_a_decoder_that_hangs_is_replaced_and_its_picture_timed_out(pool, store, put, good, tmp_path):
    """Stopped in the middle, as good as hung: after its seconds it is killed; its neighbours are fine."""
    trapped = Trapped(store, tmp_path)
    names = [put(good(n)) for n in range(12)]
    trapped.set_trap(names[5])
    ours = pool(2, trapped, seconds=1)
    stopped = []

    def stop():
        process, end = trapped.caught(names[5])
        process.suspend()
        stopped.append((process, end))

    stopper = threading.Thread(target=stop, daemon=True)
    stopper.start()
    started = time.monotonic()
    _, outcomes = ours.decode(names)
    seconds = time.monotonic() - started
    stopper.join(10)
    os.close(stopped[0][1])
    assert codes(outcomes) == [None] * 5 + ["timed_out"] + [None] * 6
    assert seconds < 4
    assert not stopped[0][0].is_running()


def progressive(size, scans):
    """A progressive JPEG whose last scan is repeated until there are so many."""
    file = io.BytesIO()
    Image.new("L", (size, size), 128).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]
    return data[:start] + scan * scans + b"\xff\xd9"


def test_a_thousand_scans_are_refused_at_once_and_neighbours_are_fine(pool, put, good):
    """94 KB that would cost ten seconds."""
    names = [put(good(0)), put(progressive(4000, 1000)), put(good(2))]
    started = time.monotonic()
    _, outcomes = pool(1).decode(names)
    assert time.monotonic() - started < 4
    first, bomb, last = codes(outcomes)
    assert bomb in ("undecodable", "timed_out")
    assert first is last is None


def test_a_picture_that_takes_too_long_is_timed_out(pool, put, good):
    """A good one in itself, but big, and its seconds few."""
    names = [put(good(0)), put(progressive(6300, 90)), put(good(2))]
    ours = pool(1, seconds=1.3)
    ours.decode(names[:1])  # so that the child has started
    _, outcomes = ours.decode(names)
    assert codes(outcomes)[1] == "timed_out"
    assert codes(outcomes)[0] is codes(outcomes)[2] is None


def huge(width, height):
    """A PNG of one colour with that many pixels, small as a file."""
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + 4 * width)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    pieces = [(b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in pieces]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_bomb_is_refused_within_its_limits(pool, put, good):
    """144 megapixels by the header; forty by the memory; the decoder lives, or its successor does."""
    ours = pool(1, memory_bytes=100_000_000)
    names = [put(good(0)), put(huge(12_000, 12_000)), put(huge(6_000, 6_000)), put(good(3))]
    started = time.monotonic()
    _, outcomes = ours.decode(names)
    assert time.monotonic() - started < 10
    first, by_header, by_memory, last = codes(outcomes)
    assert by_header == "too_large"
    assert by_memory in ("too_large", "crashed_decoder")
    assert first is last is None


def test_a_decoder_has_little_to_lose(pool):
    """Limits on memory, files, cores; no new privileges; few descriptors; its own session."""
    ours = pool(1)
    ours.decode([])
    deadline = time.monotonic() + 10
    pid = ours.pids()[0]
    while "Max core file size        0 " not in Path(f"/proc/{pid}/limits").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    status = Path(f"/proc/{pid}/status").read_text()
    while "NoNewPrivs:\t1" not in status and time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    limits = {line[:25].strip(): line[26:47].strip() for line in Path(f"/proc/{pid}/limits").read_text().splitlines()}
    assert limits["Max file size"] == "0"
    assert int(limits["Max open files"]) <= 64
    assert int(limits["Max address space"]) < 4_000_000_000
    assert os.getsid(pid) == pid
    assert not any("torch" in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())


def test_fifty_kills_leak_nothing(pool, put, good):
    """Children that die between batches are replaced: every picture decodes, no descriptor and no process is left."""
    ours = pool(2)
    names = [put(good(n)) for n in range(4)]
    ours.decode(names)
    before, open_before = len(children()), descriptors()
    for _ in range(25):
        for pid in ours.pids():
            os.kill(pid, signal.SIGKILL)
        _, outcomes = ours.decode(names)
        assert codes(outcomes) == [None] * 4
    assert len(children()) == before
    assert descriptors() <= open_before + 1


def test_closing_ends_the_children(put, store, good):
    """And a second pool does not disturb the first."""
    one, two = (decoders.Decoders(2, HOW, store, LIMITS) for _ in range(2))
    name = put(good(0))
    assert not any(codes(one.decode([name])[1]))
    mine = set(one.pids())
    one.close()
    assert not mine & children()
    assert not any(codes(two.decode([name])[1]))
    two.close()


ORPHANING = """
import sys, time
from pathlib import Path
from jobs import blobs
from model import preprocess
from worker import decoders
limits = decoders.Limits(10, 768_000_000)
pool = decoders.Decoders(3, preprocess.Preprocess(32, 24), blobs.Folder(Path(sys.argv[1])), limits)
pool.decode([])
print(*pool.pids(), flush=True)
time.sleep(60)
"""


def test_children_die_with_their_parent(tmp_path):
    """Kill -9 of the parent, in the middle and at the start, leaves none."""
    for wait in (0, 0.7):
        parent = subprocess.Popen([sys.executable, "-c", ORPHANING, str(tmp_path)], stdout=subprocess.PIPE)
        family = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(family) == 3
        time.sleep(wait)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        _, alive = psutil.wait_procs(family, timeout=8)
        assert alive == []


def test_hostile_files_never_take_a_pool_down(pool, shared, store):
    """Every file of the collection in one go: pixels or a code for each, and good ones among them are fine."""
    files = [path for path in sorted((shared / "data" / "hostile").iterdir()) if path.suffix not in (".md", ".csv")]
    data = [path.read_bytes() for path in files]
    store.put((hashlib.sha256(each).hexdigest(), each) for each in data)
    ours = pool(2)
    pixels, outcomes = ours.decode([hashlib.sha256(each).hexdigest() for each in data])
    assert len(outcomes) == len(files) > 100
    known = {None, "empty", "too_large", "unsupported_format", "undecodable", "timed_out"}
    assert {code for code in codes(outcomes)} <= known  # noqa: C416 (says what it is)
    assert all(outcome.ms < 4000 for outcome in outcomes)
    by_name = dict(zip((path.name for path in files), codes(outcomes), strict=True))
    assert by_name["made-good.jpg"] is None
    assert pixels[[path.name for path in files].index("made-good.jpg")].any()


def test_a_folder_is_all_that_a_pool_needs(tmp_path):
    """An empty store, no pictures: nothing happens, and nothing is made."""
    pool = decoders.Decoders(1, HOW, blobs.Folder(tmp_path / "none"), LIMITS)
    pixels, outcomes = pool.decode(["0" * 64])
    assert codes(outcomes) == ["blob_missing"]
    assert not pixels.any()
    pool.close()
    assert not (tmp_path / "none").exists()


def test_another_network_is_followed_to_its_own_pixels(pool, put, good):
    """Larger, smaller, with another filter: what the one preprocessing makes; only more memory needs new children."""
    pictures = [good(number) for number in range(10)]
    sha256s = [put(picture) for picture in pictures]
    one = pool(2)
    one.decode(sha256s)
    pids = one.pids()
    for how in (preprocess.Preprocess(16, 20), preprocess.Preprocess(32, 24, "bicubic"), HOW):
        one.follow(how)
        pixels, outcomes = one.decode(sha256s)
        assert codes(outcomes) == [None] * 10
        assert (pixels == np.stack([how.pixels(picture) for picture in pictures])).all()
    assert one.pids() == pids
    large = preprocess.Preprocess(100, 100)
    one.follow(large)
    pixels, outcomes = one.decode(sha256s)
    assert codes(outcomes) == [None] * 10
    assert (pixels == np.stack([large.pixels(picture) for picture in pictures])).all()
    assert not set(one.pids()) & set(pids)


def test_a_batch_is_begun_before_the_one_before_it_is_done(pool, store, put, good, tmp_path):
    """One decoder is held up by the first batch: the other goes on with the second, which is done before."""
    trapped = Trapped(store, tmp_path)
    names = [put(good(n)) for n in range(40)]
    trapped.set_trap(names[0])
    ours = pool(2, trapped)
    first, second = ours.begin(names[:20], HOW), ours.begin(names[20:], HOW)
    pixels, outcomes = second.result(20)
    assert not first.done()
    assert not any(codes(outcomes))
    np.testing.assert_array_equal(pixels[-1], HOW.pixels(good(39)))
    _, end = trapped.caught(names[0])
    os.write(end, good(0))
    os.close(end)
    pixels, outcomes = first.result(20)
    assert not any(codes(outcomes))
    for n in range(20):
        np.testing.assert_array_equal(pixels[n], HOW.pixels(good(n)))


def test_batches_of_several_networks_are_in_line_together(pool, put, good):
    """Each has its own pixels, whatever size the one before had, and whether or not it needs a larger memory."""
    ours = pool(2)
    hows = [HOW, preprocess.Preprocess(16, 20), preprocess.Preprocess(120, 90), HOW, preprocess.Preprocess(8, 8)]
    begun = [ours.begin([put(good(n)) for n in range(9 + k)], how) for k, how in enumerate(hows)]
    for k, (how, batch) in enumerate(zip(hows, begun, strict=True)):
        pixels, outcomes = batch.result(30)
        assert codes(outcomes) == [None] * (9 + k)
        np.testing.assert_array_equal(pixels, np.stack([how.pixels(good(n)) for n in range(9 + k)]))


def test_what_fails_a_batch_fails_no_other_in_line(pool, store, put, good):
    """One whose bytes cannot be got at raises for itself; its neighbours in line are decoded."""
    ours = pool(2)
    names = [put(good(n)) for n in range(8)]

    def away():
        raise errors.BlobsUnavailable("Away.")

    begun = [ours.begin(names, HOW, readers=[away if k == 1 else None] * 8) for k in range(3)]
    for k, batch in enumerate(begun):
        if k == 1:
            with pytest.raises(errors.BlobsUnavailable):
                batch.result(20)
        else:
            assert codes(batch.result(20)[1]) == [None] * 8


def test_orders_are_small_for_few_pictures_and_large_for_many(pool):
    """Every child has some of a small batch; a large one is not cut finer than it must; large pictures go by eights."""
    ours = pool(4)
    assert [ours._size(count, HOW) for count in (1, 4, 8, 64, 4096)] == [1, 1, 2, 16, 32]
    assert ours._size(4096, preprocess.Preprocess(2000, 2000)) == 8
    ours._under_way = set(range(4))
    assert [ours._size(count, HOW) for count in (1, 8, 64, 4096)] == [8, 8, 16, 32]
