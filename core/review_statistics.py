"""Statistics of reviewed results: accuracy, precision, recall and calibration, with confidence intervals.

Estimates are made from the random sample only: reviews of images that were drawn with a known probability. Images that
were chosen because they looked doubtful say nothing about the others, however many they are; they are counted, and
their confusions are listed.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from core import enums

Z = 1.959964  # of a 95 % interval
CALIBRATION_BINS = 10
MAX_CONFUSIONS = 100


@dataclass(frozen=True)
class Estimate:
    """A share of all results, estimated from the random sample, with a 95 % interval."""

    value: float
    low: float
    high: float
    count: int
    """Reviews that it is estimated from."""


@dataclass(frozen=True)
class ClassEstimates:
    """The precision and the recall of one label; None without a random review of it."""

    label: str
    precision: Estimate | None
    recall: Estimate | None


@dataclass(frozen=True)
class Confusion:
    """Images with one label by the model and another by their reviews; `review` is None where no label fits."""

    model: str
    review: str | None
    count: int
    in_sample: int
    """How many of them are in the random sample."""


@dataclass(frozen=True)
class CalibrationBin:
    """The results of a range of confidence: how confident the model was, and how often it was right."""

    low: float
    high: float
    mean_confidence: float
    accuracy: Estimate


@dataclass(frozen=True)
class ReviewStatistics:
    """Statistics of the reviews of one version; estimates are None without random reviews."""

    by_strategy: dict[str, int]
    by_outcome: dict[str, int]
    sampled: int
    """Reviews in the random sample."""
    accuracy: Estimate | None
    none_of_these: Estimate | None
    """The share of images that no label fits."""
    bad_image: Estimate | None
    classes: Sequence[ClassEstimates]
    confusions: Sequence[Confusion]
    calibration: Sequence[CalibrationBin]
    calibration_error: float | None
    """|confidence - accuracy|, weighted over the bins (expected calibration error)."""


def summarize(rows: Sequence[Any], outcomes: Sequence[str], strategies: Sequence[str]) -> ReviewStatistics:
    """Return the statistics of the reviews of one version.

    Args:
        rows: each with `verdict`, `label`, `draw_probability`, `model_label` and `confidence`.
        outcomes: of each row, as `reviews.outcome_of` says it.
        strategies: how each image was chosen.
    """
    pairs = list(zip(rows, outcomes, strict=True))
    sample = [(row, outcome) for row, outcome in pairs if row.draw_probability is not None]
    judged = [(row, outcome) for row, outcome in sample if outcome != enums.Verdict.BAD_IMAGE.value]
    bins = _calibration(judged)
    total = sum(_weight(row) for row, _ in judged)
    error = sum(weight * abs(bin_.mean_confidence - bin_.accuracy.value) for weight, bin_ in bins)
    return ReviewStatistics(
        by_strategy=dict(Counter(strategies)),
        by_outcome=dict(Counter(outcomes)),
        sampled=len(sample),
        accuracy=estimate((_weight(row), outcome == "right") for row, outcome in judged),
        none_of_these=estimate((_weight(row), outcome == enums.Verdict.NONE_OF_THESE.value) for row, outcome in judged),
        bad_image=estimate((_weight(row), outcome == enums.Verdict.BAD_IMAGE.value) for row, outcome in sample),
        classes=_classes(judged),
        confusions=_confusions(pairs),
        calibration=[bin_ for _, bin_ in bins],
        calibration_error=error / total if judged else None,
    )


def estimate(items: Iterable[tuple[float, bool]]) -> Estimate | None:
    """Estimate a share from (weight, hit) pairs; None without any.

    The weights are the inverse probabilities of the draws (Hajek); the interval is Wilson's (1927), for as many reviews
    as the weights are worth (Kish's effective sample size).
    """
    pairs = list(items)
    total = sum(weight for weight, _ in pairs)
    if not total:
        return None
    share = sum(weight for weight, hit in pairs if hit) / total
    low, high = wilson_interval(share, total**2 / sum(weight**2 for weight, _ in pairs))
    return Estimate(share, low, high, len(pairs))


def wilson_interval(share: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` independent trials (Wilson, 1927)."""
    denominator = 1 + Z**2 / count
    center = (share + Z**2 / (2 * count)) / denominator
    margin = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2)) / denominator
    return max(0.0, center - margin), min(1.0, center + margin)


def sign_test(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of a difference between paired results, of which so many favour one side.

    The exact binomial form of McNemar's test (1947): without a difference, each side is favoured equally often.
    """
    count, fewer = only_a + only_b, min(only_a, only_b)
    if count == 0:
        return 1.0
    tail = sum(math.comb(count, wins) for wins in range(fewer + 1))
    return float(min(1.0, 2 * tail / 2**count))


def _weight(row: Any) -> float:
    return 1 / float(row.draw_probability)


def _classes(judged: Sequence[tuple[Any, str]]) -> list[ClassEstimates]:
    by_model: defaultdict[str, list[tuple[float, bool]]] = defaultdict(list)
    by_review: defaultdict[str, list[tuple[float, bool]]] = defaultdict(list)
    for row, outcome in judged:
        item = (_weight(row), outcome == "right")
        by_model[row.model_label].append(item)
        if row.label is not None:
            by_review[row.label].append(item)
    labels = sorted({*by_model, *by_review})
    return [ClassEstimates(name, estimate(by_model[name]), estimate(by_review[name])) for name in labels]


def _confusions(pairs: Sequence[tuple[Any, str]]) -> list[Confusion]:
    counts: Counter[tuple[str, str | None]] = Counter()
    in_sample: Counter[tuple[str, str | None]] = Counter()
    for row, outcome in pairs:
        if outcome in ("wrong", enums.Verdict.NONE_OF_THESE.value):
            counts[row.model_label, row.label] += 1
            in_sample[row.model_label, row.label] += row.draw_probability is not None
    return [Confusion(*key, count, in_sample[key]) for key, count in counts.most_common(MAX_CONFUSIONS)]


def _calibration(judged: Sequence[tuple[Any, str]]) -> list[tuple[float, CalibrationBin]]:
    """Return the bins of confidence that have reviews, each with its weight."""
    by_bin: defaultdict[int, list[tuple[Any, str]]] = defaultdict(list)
    for row, outcome in judged:
        by_bin[min(int(row.confidence * CALIBRATION_BINS), CALIBRATION_BINS - 1)].append((row, outcome))
    bins = []
    for number, members in sorted(by_bin.items()):
        total = sum(_weight(row) for row, _ in members)
        mean = sum(_weight(row) * row.confidence for row, _ in members) / total
        accuracy = estimate((_weight(row), outcome == "right") for row, outcome in members)
        assert accuracy is not None  # noqa: S101 (for the type checker: a bin has members)
        low, high = number / CALIBRATION_BINS, (number + 1) / CALIBRATION_BINS
        bins.append((total, CalibrationBin(low, high, mean, accuracy)))
    return bins
