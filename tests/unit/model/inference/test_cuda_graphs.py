"""Batch sizes, batches in flight and GPU errors; on a GPU, correct results."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from model.inference import cuda_graphs, selftest
from model.inference.classifier import Classifier
from model.packaging import bundle as bundles

SHIPPED = Path(bundles.__file__).parents[1] / "bundles"
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
BUNDLES = ["cookpad-cnn", "sushi-or-sandwich-small", "sushi-or-sandwich"]


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (64, 64), (65, 128), (1000, 1024)])
def test_a_batch_goes_through_the_next_larger_power_of_two(count, size):
    assert cuda_graphs.bucket_size(count) == size


class OnCpu:
    """A slot that computes at once or raises `error`; it records its batch sizes."""

    def __init__(self, forward, free_slots):
        self.forward, self.free_slots = forward, free_slots
        self.batch_sizes = []
        self.error = None

    def release(self):
        self.free_slots.put(self)

    def submit(self, pixels):
        if self.error is not None:
            raise self.error
        self.batch_sizes.append(len(pixels))
        return PendingOnCpu(self, self.forward(torch.from_numpy(pixels)).numpy())


class PendingOnCpu:
    """The pending result of `OnCpu`."""

    def __init__(self, slot, output):
        self.slot, self.output = slot, output

    def result(self):
        self.slot.release()
        return self.output


def first_pixel(pixels):
    """A forward pass whose output identifies the image."""
    return pixels[:, 0, 0, :2].float()


@pytest.fixture
def cpu_graphs(monkeypatch):
    """Return a graph runner without a GPU, and its slots."""
    slots = []
    monkeypatch.setattr(
        cuda_graphs, "_Slot", lambda forward, _, free_slots: slots.append(OnCpu(forward, free_slots)) or slots[-1]
    )
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPH_BATCH", 4)
    return cuda_graphs.CudaGraphRunner(first_pixel, torch.device("cpu")), slots


def numbered(count):
    pixels = np.zeros((count, 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0] = range(count)
    return pixels


def test_a_large_batch_goes_in_pieces_whose_answers_come_in_order(cpu_graphs):
    runner, slots = cpu_graphs

    results = runner.classify(numbered(11))

    assert results[:, 0].tolist() == list(range(11))
    assert [slot.batch_sizes for slot in slots] == [[4, 3], [4]]


def test_a_thread_with_a_slot_does_not_wait_for_the_other_slot(cpu_graphs):
    """Otherwise two threads with large batches could deadlock."""
    runner, slots = cpu_graphs
    held_slot = runner._free_slots.get()

    assert runner.classify(numbered(11))[:, 0].tolist() == list(range(11))

    held_slot.release()
    assert [slot.batch_sizes for slot in slots] == [[], [4, 4, 3]]


def test_out_of_memory_is_raised_and_both_slots_are_free_again(cpu_graphs):
    runner, slots = cpu_graphs
    slots[1].error = torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        runner.classify(numbered(11))

    slots[1].error = None
    assert runner.disabled_reason == ""
    assert len(runner.classify(numbered(11))) == 11


def test_a_network_that_cannot_be_captured_runs_without_graphs_from_then_on(cpu_graphs, caplog):
    runner, slots = cpu_graphs
    slots[0].error = RuntimeError("operation not permitted when stream is capturing\nmore")

    for _ in range(2):
        assert runner.classify(numbered(3))[:, 0].tolist() == [0, 1, 2]

    assert runner.disabled_reason == "operation not permitted when stream is capturing"
    assert len(caplog.records) == 1


@pytest.fixture(scope="module")
def pixels():
    """Return the self-test's image among noise and flat images, 64 x 64."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (1500, 64, 64, 3), np.uint8)
    pixels[::3] = random.integers(0, 256, (500, 1, 1, 3), np.uint8)
    pixels[7] = selftest.reference_image(64, 64)[0]
    return pixels


@pytest.fixture(scope="module")
def gpu_classifier(shipped_bundle):
    return Classifier(shipped_bundle, "cuda")


@pytest.fixture(scope="module")
def shipped_bundle():
    return bundles.load(SHIPPED / "cookpad-cnn")


@ON_GPU
def test_a_result_is_the_same_to_four_digits_in_batches_of_every_size(gpu_classifier, pixels):
    expected = gpu_classifier.classify(pixels)

    for size in (1, 2, 3, 17, 64, 100, 256, 700):
        probabilities = gpu_classifier.classify(pixels[:size])
        np.testing.assert_allclose(probabilities, expected[:size], atol=2e-5)
        assert (probabilities.argmax(axis=1) == expected[:size].argmax(axis=1)).all()
    assert gpu_classifier._graph_runner.disabled_reason == ""


@ON_GPU
def test_padding_rows_do_not_change_a_result(gpu_classifier, pixels):
    gpu_classifier.classify(pixels[100:164])
    before = gpu_classifier.classify(pixels[:33])
    gpu_classifier.classify(np.full_like(pixels[:64], 255))

    np.testing.assert_array_equal(gpu_classifier.classify(pixels[:33]), before)


@ON_GPU
def test_results_are_those_of_a_cpu_in_float32_up_to_bfloat16_rounding(gpu_classifier, shipped_bundle, pixels):
    exact = Classifier(shipped_bundle, "cpu", "float32").classify(pixels[:128])

    np.testing.assert_allclose(gpu_classifier.classify(pixels[:128]), exact, atol=0.02)


@ON_GPU
@pytest.mark.parametrize("name", BUNDLES)
def test_concurrent_threads_get_their_own_results(name):
    """Two batches are in flight, and copies of one overlap with the computation of the other."""
    loaded_bundle = bundles.load(SHIPPED / name)
    runner, preprocess = Classifier(loaded_bundle, "cuda"), loaded_bundle.preprocess
    batches = np.random.default_rng(1).integers(0, 256, (4, 64, preprocess.height, preprocess.width, 3), np.uint8)
    alone = [runner.classify(batch) for batch in batches]
    mismatches = []

    def work(number):
        results = [runner.classify(batches[number]) for _ in range(100)]
        mismatches.extend(number for result in results if not np.array_equal(result, alone[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mismatches == []


@ON_GPU
def test_a_network_with_data_dependent_control_flow_runs_without_graphs():
    device = torch.device("cuda")

    def forward(pixels):
        wide = pixels.float().mean(dim=(1, 2))
        return wide * 2 if wide.sum().item() > 0 else wide

    runner = cuda_graphs.CudaGraphRunner(forward, device)
    batch = np.full((5, 4, 4, 3), 3, np.uint8)

    np.testing.assert_array_equal(runner.classify(batch), np.full((5, 3), 6, np.float32))
    assert runner.disabled_reason
    np.testing.assert_array_equal(runner.classify(batch), np.full((5, 3), 6, np.float32))


@ON_GPU
def test_a_gpu_out_of_memory_raises_and_works_with_a_smaller_batch():
    device = torch.device("cuda")

    def forward(pixels):
        size = 1 << (50 if len(pixels) > 8 else 10)
        return pixels[:, 0, 0, :].float() + torch.empty(size, dtype=torch.uint8, device=device)[:1] * 0

    runner = cuda_graphs.CudaGraphRunner(forward, device)
    with pytest.raises(torch.OutOfMemoryError):
        runner.classify(np.ones((16, 4, 4, 3), np.uint8))
    np.testing.assert_array_equal(runner.classify(np.ones((8, 4, 4, 3), np.uint8)), np.ones((8, 3), np.float32))
    assert runner.disabled_reason == ""
