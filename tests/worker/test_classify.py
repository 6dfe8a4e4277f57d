import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from jobs import errors
from jobs.store import work
from model import classifier
from worker import classify, decoders

SHAPE = (24, 32, 3)


class FakeNetwork:
    """A classifier that says what the test wants: of the second label, a picture's first byte / 255."""

    def __init__(self, labels=("sandwich", "sushi"), memory=10_000, error=torch.OutOfMemoryError):
        self.bundle = dataclasses.make_dataclass("Bundle", [("labels", tuple)])(labels)
        self.device = torch.device("meta")  # any but a CPU, which has a limit of its own
        self.memory = memory
        self.error = error
        self.batches = []

    def classify(self, pixels):
        """As `model.classifier.Classifier.classify`."""
        self.batches.append(len(pixels))
        if len(pixels) > self.memory:
            raise self.error("CUDA out of memory")
        second = pixels[:, 0, 0, 0].astype(np.float32) / 255
        scores = np.stack([1 - second, second], 1)
        scores[pixels[:, 0, 0, 1] == 1] = np.nan
        scores[pixels[:, 0, 0, 1] == 2, 0] = np.inf
        return scores


def claim(number):
    return work.Claim(number, "job", f"{number}.jpg", "0" * 64, 1, "me", datetime.now(UTC))


def fates(network, firsts, seconds=None, bad=()):
    """The fates of pictures with these first bytes; `bad` ones were not decoded."""
    pixels = np.zeros((len(firsts), *SHAPE), np.uint8)
    pixels[:, 0, 0, 0] = firsts
    pixels[:, 0, 0, 1] = 0 if seconds is None else seconds
    error = errors.BadPicture("undecodable", "No.")
    outcomes = [decoders.Outcome(error if row in bad else None, 1.23456) for row in range(len(firsts))]
    judge = classify.Judge(network)
    return judge, judge.fates([claim(row) for row in range(len(firsts))], pixels, outcomes)


def test_the_best_label_wins_with_its_score():
    """Labels are in the order of the network's outputs."""
    _, (low, high) = fates(FakeNetwork(), [51, 204])
    assert (low.label, low.confidence, low.scores) == ("sandwich", 0.8, {"sandwich": 0.8, "sushi": 0.2})
    assert (high.label, high.confidence, high.scores) == ("sushi", 0.8, {"sandwich": 0.2, "sushi": 0.8})
    assert low.error_code is high.error_code is None


def test_each_claim_gets_its_own_fate_in_order():
    """Whatever failed in between."""
    _, given = fates(FakeNetwork(), [0, 255, 0, 255, 0], bad={0, 3})
    assert [fate.claim.image_id for fate in given] == [0, 1, 2, 3, 4]
    assert [fate.label for fate in given] == [None, "sushi", "sandwich", None, "sandwich"]
    assert [fate.error_code for fate in given] == ["undecodable", None, None, "undecodable", None]


def test_what_was_not_decoded_is_not_classified():
    """The network sees only good pictures, and none if there is none."""
    network = FakeNetwork()
    fates(network, [0] * 5, bad={1, 2})
    fates(network, [0] * 3, bad={0, 1, 2})
    assert network.batches == [3]


def test_an_empty_batch_has_no_fates():
    """Nothing in, nothing out."""
    assert fates(FakeNetwork(), [])[1] == []


@pytest.mark.parametrize("odd", [1, 2])
def test_not_a_number_is_that_picture_s_failure_alone(odd):
    """NaN and infinity give `bad_output`, and neighbours their labels."""
    _, given = fates(FakeNetwork(), [255] * 5, [0, 0, odd, 0, 0])
    assert [fate.error_code for fate in given] == [None, None, "bad_output", None, None]
    assert given[2].label is given[2].scores is None
    assert "2 finite scores" in given[2].error_detail


def test_another_number_of_classes_is_bad_output():
    """Two scores for three labels are no answer."""
    _, given = fates(FakeNetwork(("a", "b", "c")), [255, 0])
    assert [fate.error_code for fate in given] == ["bad_output", "bad_output"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_out_of_memory_halves_the_batch_and_remembers(error):
    """64 do not fit, 32 do not, 16 do: every picture has its label, and the next batch begins with what fits."""
    network = FakeNetwork(memory=16, error=error)
    judge, given = fates(network, [255] * 64)
    assert [fate.label for fate in given] == ["sushi"] * 64
    assert network.batches[:3] == [64, 32, 16]
    network.batches.clear()
    pixels = np.zeros((40, *SHAPE), np.uint8)
    again = judge.fates([claim(n) for n in range(40)], pixels, [decoders.Outcome(None, 1.0)] * 40)
    assert [fate.label for fate in again] == ["sandwich"] * 40
    assert max(network.batches) <= 16


def test_a_cpu_takes_sixteen_at_most_at_a_time():
    """More is no faster there; pieces of one size go to the cores, and every picture has its label."""
    network = FakeNetwork()
    network.device = torch.device("cpu")
    _, given = fates(network, [255] * 40)
    assert sum(network.batches) == 40
    assert max(network.batches) <= 16
    assert max(network.batches) - min(network.batches) <= 1
    assert [fate.label for fate in given] == ["sushi"] * 40


def test_halves_keep_the_order():
    """Each picture has its own score, however often the batch was cut."""
    _, given = fates(FakeNetwork(memory=3), list(range(0, 250, 10)))
    assert [fate.scores["sushi"] for fate in given] == pytest.approx([n / 255 for n in range(0, 250, 10)], abs=1e-5)


def test_a_picture_too_big_even_alone_fails_alone():
    """There is an end to halving."""
    network = FakeNetwork(memory=0)
    _, given = fates(network, [255] * 4)
    assert [fate.error_code for fate in given] == ["bad_output"] * 4
    assert len(network.batches) < 20


def test_any_other_error_is_not_taken_for_lack_of_memory():
    """A broken network is not cut into pieces."""
    network = FakeNetwork(memory=0, error=RuntimeError)
    with pytest.raises(RuntimeError):
        fates(network, [255] * 4)
    assert network.batches == [4]


def test_timings_say_what_it_cost():
    """Milliseconds of decoding and of the forward pass, and the size of the batch."""
    _, given = fates(FakeNetwork(), [0, 1, 2], bad={1})
    assert [fate.timings["decode_ms"] for fate in given] == [1.235] * 3
    assert {fate.timings["batch"] for fate in given} == {2}
    assert all(fate.timings["forward_ms"] >= 0 for fate in given)


def test_a_picture_s_label_does_not_depend_on_its_company(shipped):
    """The shipped network: alone, in a batch, between others, halved: the same fate."""
    network = classifier.Classifier(shipped, "cpu")
    how = shipped.preprocess
    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (17, how.height, how.width, 3), dtype=np.uint8)

    def judged(rows, most=None):
        judge = classify.Judge(network)
        judge.most = most or judge.most
        outcomes = [decoders.Outcome(None, 1.0)] * len(rows)
        return [(f.label, f.confidence) for f in judge.fates([claim(r) for r in rows], pixels[rows], outcomes)]

    together = judged(list(range(17)))
    for others in (judged(list(range(17))[::-1])[::-1], judged(list(range(17)), most=3)):
        assert [label for label, _ in others] == [label for label, _ in together]
        assert [score for _, score in others] == pytest.approx([score for _, score in together], abs=1e-4)
    assert [judged([row])[0][0] for row in range(17)] == [label for label, _ in together]
