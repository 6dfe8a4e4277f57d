"""Buckets, pieces in flight, and what is done when a GPU refuses; on a GPU, that the answers are the same."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from model import bundle as bundles
from model import graphs, selftest
from model.classifier import Classifier

SHIPPED = Path(bundles.__file__).parent / "bundles"
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
BUNDLES = ["cookpad-cnn", "sushi-or-sandwich"]


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (64, 64), (65, 128), (1000, 1024)])
def test_a_batch_goes_through_the_next_larger_power_of_two(count, size):
    assert graphs.bucket(count) == size


class OnCpu:
    """A slot that computes at once, or raises what it is told to; it notes what it has seen."""

    def __init__(self, forward, home):
        self.forward, self.home = forward, home
        self.seen = []
        self.error = None

    def free(self):
        self.home.put(self)

    def submit(self, pixels):
        if self.error is not None:
            raise self.error
        self.seen.append(len(pixels))
        return Answer(self, self.forward(torch.from_numpy(pixels)).numpy())


class Answer:
    """What a slot gives out, until it is asked for the result."""

    def __init__(self, slot, answers):
        self.slot, self.answers = slot, answers

    def result(self):
        self.slot.free()
        return self.answers


def first_bytes(pixels):
    """A forward pass whose answers tell which picture they are of."""
    return pixels[:, 0, 0, :2].float()


@pytest.fixture
def on_cpu(monkeypatch):
    """Graphs without a GPU, and their slots."""
    slots = []
    monkeypatch.setattr(graphs, "_Slot", lambda forward, _, home: slots.append(OnCpu(forward, home)) or slots[-1])
    monkeypatch.setattr(graphs, "LARGEST", 4)
    return graphs.Graphs(first_bytes, torch.device("cpu")), slots


def numbered(count):
    pixels = np.zeros((count, 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0] = range(count)
    return pixels


def test_a_large_batch_goes_in_pieces_whose_answers_come_in_order(on_cpu):
    made, slots = on_cpu

    answers = made.classify(numbered(11))

    assert answers[:, 0].tolist() == list(range(11))
    assert [slot.seen for slot in slots] == [[4, 3], [4]]


def test_who_has_one_place_does_not_wait_for_the_other(on_cpu):
    """Two threads with large batches would wait for each other."""
    made, slots = on_cpu
    taken = made._free.get()

    assert made.classify(numbered(11))[:, 0].tolist() == list(range(11))

    taken.free()
    assert [slot.seen for slot in slots] == [[], [4, 4, 3]]


def test_without_memory_the_caller_is_told_and_both_places_are_free_again(on_cpu):
    made, slots = on_cpu
    slots[1].error = torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        made.classify(numbered(11))

    slots[1].error = None
    assert made.plain == ""
    assert len(made.classify(numbered(11))) == 11


def test_a_network_that_cannot_be_captured_runs_plainly_from_then_on(on_cpu, caplog):
    made, slots = on_cpu
    slots[0].error = RuntimeError("operation not permitted when stream is capturing\nmore")

    for _ in range(2):
        assert made.classify(numbered(3))[:, 0].tolist() == [0, 1, 2]

    assert made.plain == "operation not permitted when stream is capturing"
    assert len(caplog.records) == 1


@pytest.fixture(scope="module")
def pixels():
    """The self-test's picture among noise and flat ones, 64 x 64."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (1500, 64, 64, 3), np.uint8)
    pixels[::3] = random.integers(0, 256, (500, 1, 1, 3), np.uint8)
    pixels[7] = selftest.picture(64, 64)[0]
    return pixels


@pytest.fixture(scope="module")
def gpu(shipped):
    return Classifier(shipped, "cuda")


@pytest.fixture(scope="module")
def shipped():
    return bundles.load(SHIPPED / "cookpad-cnn")


@ON_GPU
def test_a_picture_s_answer_is_the_same_to_four_digits_in_batches_of_every_size(gpu, pixels):
    whole = gpu.classify(pixels)

    for size in (1, 2, 3, 17, 64, 100, 256, 700):
        some = gpu.classify(pixels[:size])
        np.testing.assert_allclose(some, whole[:size], atol=2e-5)
        assert (some.argmax(axis=1) == whole[:size].argmax(axis=1)).all()
    assert gpu._graphs.plain == ""


@ON_GPU
def test_rows_that_fill_up_a_graph_do_not_touch_an_answer(gpu, pixels):
    gpu.classify(pixels[100:164])
    before = gpu.classify(pixels[:33])
    gpu.classify(np.full_like(pixels[:64], 255))

    np.testing.assert_array_equal(gpu.classify(pixels[:33]), before)


@ON_GPU
def test_the_answers_are_those_of_a_cpu_in_float32_as_far_as_bfloat16_goes(gpu, shipped, pixels):
    exact = Classifier(shipped, "cpu", "float32").classify(pixels[:128])

    np.testing.assert_allclose(gpu.classify(pixels[:128]), exact, atol=0.02)


@ON_GPU
def test_our_own_kernels_are_used_where_they_know_the_network(gpu):
    assert gpu._ours is not None


@ON_GPU
@pytest.mark.parametrize("name", BUNDLES)
def test_threads_that_classify_at_once_get_their_own_answers(name):
    """Two batches are in flight, and copies of one overlap with the work of the other."""
    shipped = bundles.load(SHIPPED / name)
    made, how = Classifier(shipped, "cuda"), shipped.preprocess
    batches = np.random.default_rng(1).integers(0, 256, (4, 64, how.height, how.width, 3), np.uint8)
    alone = [made.classify(batch) for batch in batches]
    wrong = []

    def work(number):
        answers = [made.classify(batches[number]) for _ in range(100)]
        wrong.extend(number for answer in answers if not np.array_equal(answer, alone[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@ON_GPU
def test_a_network_whose_way_depends_on_its_input_runs_without_graphs():
    device = torch.device("cuda")

    def forward(pixels):
        wide = pixels.float().mean(dim=(1, 2))
        return wide * 2 if wide.sum().item() > 0 else wide

    made = graphs.Graphs(forward, device)
    some = np.full((5, 4, 4, 3), 3, np.uint8)

    np.testing.assert_array_equal(made.classify(some), np.full((5, 3), 6, np.float32))
    assert made.plain
    np.testing.assert_array_equal(made.classify(some), np.full((5, 3), 6, np.float32))


@ON_GPU
def test_a_card_without_memory_says_so_and_goes_on_with_less():
    device = torch.device("cuda")

    def forward(pixels):
        size = 1 << (50 if len(pixels) > 8 else 10)
        return pixels[:, 0, 0, :].float() + torch.empty(size, dtype=torch.uint8, device=device)[:1] * 0

    made = graphs.Graphs(forward, device)
    with pytest.raises(torch.OutOfMemoryError):
        made.classify(np.ones((16, 4, 4, 3), np.uint8))
    np.testing.assert_array_equal(made.classify(np.ones((8, 4, 4, 3), np.uint8)), np.ones((8, 3), np.float32))
    assert made.plain == ""
