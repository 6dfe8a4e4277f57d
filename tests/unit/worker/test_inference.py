import sys
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from core import errors
from core.db.queries import claims as claim_queries
from model.inference import classifier
from worker import inference
from worker.decoding import decode_batch

SHAPE = (24, 32, 3)


class FakeNetwork:
    """A classifier whose score of the second label is an image's first byte / 255."""

    def __init__(self, labels=("sandwich", "sushi"), memory=10_000, error=torch.OutOfMemoryError):
        self.labels = labels
        self.is_on_cpu = False  # it has its own limit
        self.memory = memory
        self.error = error
        self.batches = []

    def score(self, pixels):
        """Return scores as `model.inference.classifier.Classifier.score` does."""
        self.batches.append(len(pixels))
        if len(pixels) > self.memory:
            raise self.error("CUDA out of memory")
        second = pixels[:, 0, 0, 0].astype(np.float32) / 255
        scores = np.stack([1 - second, second], 1)
        scores[pixels[:, 0, 0, 1] == 1] = np.nan
        scores[pixels[:, 0, 0, 1] == 2, 0] = np.inf
        return classifier.Scores(scores, None)

    def unknown(self, count):
        """Return NaN."""
        return classifier.Scores(np.full((count, 2), np.nan, np.float32), None)


def claim(number):
    return claim_queries.Claim(number, "job", f"{number}.jpg", "0" * 64, 1, "me", datetime.now(UTC))


def classify(network, firsts, seconds=None, bad=()):
    """Classify images with these first and second bytes; `bad` rows were not decoded."""
    pixels = np.zeros((len(firsts), *SHAPE), np.uint8)
    pixels[:, 0, 0, 0] = firsts
    pixels[:, 0, 0, 1] = 0 if seconds is None else seconds
    error = errors.ImageFailed("undecodable", "No.")
    decode_outcomes = [decode_batch.DecodeOutcome(error if row in bad else None, 1.23456) for row in range(len(firsts))]
    batch_classifier = inference.BatchClassifier(network)
    return batch_classifier, batch_classifier.classify(
        [claim(row) for row in range(len(firsts))], pixels, decode_outcomes
    )


def test_the_best_label_wins_with_its_score():
    """Labels are in the order of the network's outputs."""
    _, (low, high) = classify(FakeNetwork(), [51, 204])
    assert (low.label, low.confidence, low.scores) == ("sandwich", 0.8, {"sandwich": 0.8, "sushi": 0.2})
    assert (high.label, high.confidence, high.scores) == ("sushi", 0.8, {"sandwich": 0.2, "sushi": 0.8})
    assert low.error_code is high.error_code is None


def test_each_claim_gets_its_own_outcome_in_order():
    """Also around failed images."""
    _, outcomes = classify(FakeNetwork(), [0, 255, 0, 255, 0], bad={0, 3})
    assert [outcome.claim.image_id for outcome in outcomes] == [0, 1, 2, 3, 4]
    assert [outcome.label for outcome in outcomes] == [None, "sushi", "sandwich", None, "sandwich"]
    assert [outcome.error_code for outcome in outcomes] == ["undecodable", None, None, "undecodable", None]


def test_images_that_were_not_decoded_are_not_classified():
    """The network gets the decoded images only, and is not called if there are none."""
    network = FakeNetwork()
    classify(network, [0] * 5, bad={1, 2})
    classify(network, [0] * 3, bad={0, 1, 2})
    assert network.batches == [3]


def test_an_empty_batch_has_no_outcomes():
    assert classify(FakeNetwork(), [])[1] == []


@pytest.mark.parametrize("second_byte", [1, 2], ids=["NaN", "infinity"])
def test_a_score_that_is_not_finite_fails_its_image_alone(second_byte):
    """It gives `bad_output`; the other images get their labels."""
    _, outcomes = classify(FakeNetwork(), [255] * 5, [0, 0, second_byte, 0, 0])
    assert [outcome.error_code for outcome in outcomes] == [None, None, "bad_output", None, None]
    assert outcomes[2].label is outcomes[2].scores is None
    assert "2 finite scores" in outcomes[2].error_detail


def test_another_number_of_classes_is_bad_output():
    """Two scores do not fit three labels."""
    _, outcomes = classify(FakeNetwork(("a", "b", "c")), [255, 0])
    assert [outcome.error_code for outcome in outcomes] == ["bad_output", "bad_output"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_out_of_memory_halves_the_batch_and_remembers(error):
    """64 do not fit, 32 do not, 16 do: every image gets its label, and the next batch begins with 16."""
    network = FakeNetwork(memory=16, error=error)
    batch_classifier, outcomes = classify(network, [255] * 64)
    assert [outcome.label for outcome in outcomes] == ["sushi"] * 64
    assert network.batches[:3] == [64, 32, 16]
    network.batches.clear()
    pixels = np.zeros((40, *SHAPE), np.uint8)
    second = batch_classifier.classify(
        [claim(n) for n in range(40)], pixels, [decode_batch.DecodeOutcome(None, 1.0)] * 40
    )
    assert [outcome.label for outcome in second] == ["sandwich"] * 40
    assert max(network.batches) <= 16


def test_a_cpu_classifies_at_most_sixteen_images_at_a_time():
    """More would not be faster; chunks of equal size go to the cores, and every image gets its label."""
    network = FakeNetwork()
    network.is_on_cpu = True
    _, outcomes = classify(network, [255] * 40)
    assert sum(network.batches) == 40
    assert max(network.batches) <= 16
    assert max(network.batches) - min(network.batches) <= 1
    assert [outcome.label for outcome in outcomes] == ["sushi"] * 40


def test_halves_keep_the_order():
    """Each image has its own score, however often the batch was halved."""
    _, outcomes = classify(FakeNetwork(memory=3), list(range(0, 250, 10)))
    assert [outcome.scores["sushi"] for outcome in outcomes] == pytest.approx(
        [n / 255 for n in range(0, 250, 10)], abs=1e-5
    )


def test_an_image_too_large_even_alone_fails_alone():
    """Halving ends at one image."""
    network = FakeNetwork(memory=0)
    _, outcomes = classify(network, [255] * 4)
    assert [outcome.error_code for outcome in outcomes] == ["bad_output"] * 4
    assert len(network.batches) < 20


def test_any_other_error_is_raised():
    """The batch of a broken network is not halved."""
    network = FakeNetwork(memory=0, error=RuntimeError)
    with pytest.raises(RuntimeError):
        classify(network, [255] * 4)
    assert network.batches == [4]


def test_timings_are_recorded():
    """The milliseconds of decoding and of the forward pass, and the size of the batch."""
    _, outcomes = classify(FakeNetwork(), [0, 1, 2], bad={1})
    assert [outcome.timings["decode_ms"] for outcome in outcomes] == [1.235] * 3
    assert {outcome.timings["batch"] for outcome in outcomes} == {2}
    assert all(outcome.timings["forward_ms"] >= 0 for outcome in outcomes)


def test_the_label_of_an_image_does_not_depend_on_its_batch(shipped_bundle):
    """The shipped network gives the same outcome alone, in a batch, in another position, and halved."""
    network = classifier.Classifier(shipped_bundle, "cpu")
    preprocessing = shipped_bundle.preprocess
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (17, preprocessing.height, preprocessing.width, 3), dtype=np.uint8)

    def classify_rows(rows, max_batch=sys.maxsize):
        batch_classifier = inference.BatchClassifier(network, max_batch)
        outcomes = [decode_batch.DecodeOutcome(None, 1.0)] * len(rows)
        results = batch_classifier.classify([claim(row) for row in rows], pixels[rows], outcomes)
        return [(outcome.label, outcome.confidence) for outcome in results]

    together = classify_rows(list(range(17)))
    for others in (classify_rows(list(range(17))[::-1])[::-1], classify_rows(list(range(17)), max_batch=3)):
        assert [label for label, _ in others] == [label for label, _ in together]
        assert [score for _, score in others] == pytest.approx([score for _, score in together], abs=1e-4)
    assert [classify_rows([row])[0][0] for row in range(17)] == [label for label, _ in together]
