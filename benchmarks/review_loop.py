"""Measure what reviews are worth: train on photos with wrong labels, review the most doubtful, and train again.

    python -m benchmarks.review_loop PHOTOS [--folds 3] [--wrong 0.15] [--reviews 60] [--one-way]

PHOTOS has one sub-folder per label. In each round, a fold is held out, and some labels of the other photos are made
wrong: at random, or with --one-way those of one label only, as if a batch of it was in another folder. Everything is
done as by a user: `sortbelt up`, `train`, `enqueue`, reviews over HTTP, and `train` with the reviews, which promotes
the new model if it is better on the held-out fold. A review gives the label of PHOTOS. Both models are evaluated on
the held-out fold, which has its true labels.
"""

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import model_selection

from benchmarks import stack
from sortbelt import Client

SEED = 0
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True)
class Round:
    """One fold: its sizes, and the held-out accuracy before and after the reviews."""

    trained: int
    held_out: int
    wrong: int
    found: int
    """How many of the wrong labels were among the reviewed ones."""
    before: float
    after: float
    promoted: bool
    cpu_seconds: float
    """Of both trainings, the client and the evaluations; not of the server."""


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.review_loop", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--wrong", type=float, default=0.15, help="share of the labels that are made wrong")
    parser.add_argument("--reviews", type=int, default=60, help="photos to review")
    parser.add_argument("--one-way", action="store_true", help="wrong labels are all of one label")
    args = parser.parse_args()
    paths = sorted(path for path in args.photos.glob("*/*") if path.suffix.lower() in IMAGE_SUFFIXES)
    labels = np.array([path.parent.name for path in paths])
    folds = model_selection.StratifiedKFold(args.folds, shuffle=True, random_state=SEED).split(paths, labels)
    rounds = []
    with stack.up(model="sushi-or-sandwich") as server:
        for number, (training, held_out) in enumerate(folds):
            with tempfile.TemporaryDirectory(prefix="review-loop-") as scratch:
                fold = Fold(server, Path(scratch), f"loop-{number}", args)
                rounds.append(fold.run([paths[i] for i in training], [paths[i] for i in held_out]))
            print(json.dumps(vars(rounds[-1])), file=sys.stderr, flush=True)
    print_table(rounds)


class Fold:
    """A training with wrong labels, its reviews, and the training after them."""

    def __init__(self, server: stack.Stack, scratch: Path, name: str, args: argparse.Namespace) -> None:
        self._server, self._scratch, self._name, self._args = server, scratch, name, args
        self._random = random.Random(name)  # noqa: S311 - the same wrong labels in every run

    def run(self, training: Sequence[Path], held_out: Sequence[Path]) -> Round:
        """Return the accuracies."""
        started = _children_seconds()
        labels = sorted({path.parent.name for path in training})
        wrong = self._choose_wrong(training, labels)
        for path in training:
            others = [label for label in labels if label != path.parent.name]
            self._place(path, "training", self._random.choice(others) if path in wrong else path.parent.name)
        for path in held_out:
            self._place(path, "held-out", path.parent.name)
        first = self._train("--promote")
        true_labels = {path.name: path.parent.name for path in training}
        reviewed = self._review(first["report"]["label_doubts"], true_labels)
        second = self._train("--with-reviews", "--promote-if-better", "--held-out", str(self._scratch / "held-out"))
        return Round(
            trained=len(training),
            held_out=len(held_out),
            wrong=len(wrong),
            found=len({path.name for path in wrong} & reviewed),
            before=self._evaluate(first["bundle"]),
            after=self._evaluate(second["bundle"]),
            promoted=second["refused"] is None,
            cpu_seconds=round(_children_seconds() - started, 1),
        )

    def _choose_wrong(self, training: Sequence[Path], labels: Sequence[str]) -> set[Path]:
        label = self._random.choice(labels)
        candidates = [path for path in training if not self._args.one_way or path.parent.name == label]
        return set(self._random.sample(candidates, round(self._args.wrong * len(training))))

    def _place(self, path: Path, folder: str, label: str) -> None:
        target = self._scratch / folder / label / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)

    def _train(self, *options: str) -> dict[str, Any]:
        command = ("train", str(self._scratch / "training"), "--name", self._name, *options, "--json")
        result: dict[str, Any] = json.loads(self._sortbelt(*command, accept=(0, 1)))
        return result

    def _review(self, doubts: Sequence[dict[str, Any]], true_labels: dict[str, str]) -> set[str]:
        """Classify the training photos, and review the most doubtful; return their names."""
        job = json.loads(self._sortbelt("enqueue", str(self._scratch / "training"), "--model", self._name, "--json"))
        chosen = [Path(doubt["image"]).name for doubt in doubts[: self._args.reviews]]
        with Client(self._server.url, self._server.key) as client:
            result_ids = {Path(result.image).name: result.id for result in client.results(job["job_id"])}
            for name in chosen:
                client.review(result_ids[name], true_labels[name])
        return set(chosen)

    def _sortbelt(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        command = [sys.executable, "-m", "sortbelt", *arguments, "--data-dir", str(self._server.data_dir)]
        run = subprocess.run(command, env=self._server.environment, capture_output=True, text=True, check=False)
        if run.returncode not in accept or not run.stdout:
            sys.exit(f"sortbelt {' '.join(arguments)} ended with {run.returncode}: {run.stderr}")
        return run.stdout

    def _evaluate(self, bundle: str) -> float:
        command = [sys.executable, "-m", "model.evaluate", bundle, str(self._scratch / "held-out"), "--json"]
        run = subprocess.run(command, env=stack.clean_environment(), capture_output=True, text=True, check=True)
        return float(json.loads(run.stdout)["accuracy"])


def print_table(rounds: Sequence[Round]) -> None:
    """Print each round, and the accuracy over all held-out photos."""
    print("trained on  wrong  reviewed, of these wrong  held out  before  after   gain")
    for one in rounds:
        counts = f"{one.trained:10}  {one.wrong:5}  {one.found:24}  {one.held_out:8}"
        print(f"{counts}  {one.before:.3f}  {one.after:.3f}  {100 * (one.after - one.before):+.1f}")
    total = sum(one.held_out for one in rounds)
    before, after = (sum(getattr(one, name) * one.held_out for one in rounds) / total for name in ("before", "after"))
    gain = f"{100 * (after - before):+.1f} points"
    print(f"each of {total} photos held out once: {before:.3f} before, {after:.3f} after, {gain}")


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    started_at = time.monotonic()
    main()
    print(f"{time.monotonic() - started_at:.0f} s", file=sys.stderr)
