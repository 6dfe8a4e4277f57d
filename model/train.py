"""Train a network on a folder with one sub-folder per class, and write a bundle.

python -m model.train DATA --out BUNDLE                      a linear head on a network with published weights
python -m model.train DATA --extra MORE --out BUNDLE         with extra images
python -m model.train DATA --epochs 80 --folds 5 --out B     a network from scratch, by steps, with held-out metrics
python -m model.train ...the same arguments... --resume      continue an interrupted training by steps
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

import pydantic
import torch

from model.inference import classifier, selftest
from model.packaging import bundle as bundles
from model.packaging import model_card, validation_errors
from model.training import (
    cli_args,
    comparison,
    frozen,
    graceful_stop,
    gradient_training,
    prepare,
    report,
    result,
    trainer,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write one bundle: 0 done, 1 training failed, 2 usage or invalid data, 128 + N stopped by signal N."""
    args = cli_args.build_parser().parse_args(argv)
    if args.out.name in ("", ".."):
        args.out = args.out.resolve()
    with graceful_stop.catch_signals() as stop_flag:
        try:
            saved = train(args, stop_flag)
        except (MemoryError, OSError, RuntimeError, ValueError) as error:
            exit_code, message = _explain(error, args.out, stop_flag)
            sys.stderr.write(f"model.train: {message}\n")
            return exit_code
    sys.stdout.write(f"{args.out}: {saved.name} {saved.version}, digest {saved.digest}\n")
    return 0


def train(args: argparse.Namespace, stop_requested: graceful_stop.StopFlag) -> bundles.Bundle:
    """Check the arguments, train with cross-validation if there are folds, and save the bundle."""
    other = selftest.load_verified(args.compare, args.device) if args.compare else None
    run = prepare.prepare(args, stop_requested, other)
    trained = frozen.fit(run) if run.method.is_frozen else gradient_training.fit(run, args.fold_epochs)
    compared = _compare(run, trained, other) if other else None
    training_report = report.make(run.task.images, trained, compared)
    if training_report:
        folder = prepare.log_folder(args)
        report.write(training_report, folder)
        run.context.reporter.message(report.to_text(training_report, folder))
    elif compared:
        report.write_comparison(compared, prepare.log_folder(args))
        run.context.reporter.message(report.comparison_line(compared))
    return package(run, trained, args.out)


def _compare(
    run: prepare.PreparedRun, trained: result.TrainingResult, other: classifier.Classifier
) -> comparison.Comparison:
    if run.held_out is None:
        return comparison.compare(run.task.images, trained, other)
    stored = bundles.round_to_stored(trained.network, trained.manifest, trained.familiarity)
    return comparison.compare_on(run.held_out, classifier.Classifier(stored, "cpu", "float32"), other)


def package(run: prepare.PreparedRun, trained: result.TrainingResult, out: Path) -> bundles.Bundle:
    """Save the network with its self-test and model card, draw the curves, and remove the checkpoints."""
    # The self-test must use the stored weights, which are rounded.
    stored = bundles.round_to_stored(trained.network, trained.manifest, trained.familiarity)
    selftest_record = selftest.record(classifier.Classifier(stored, "cpu", "float32"))
    manifest = dataclasses.replace(trained.manifest, selftest=selftest_record)
    if run.context.checkpoints and run.context.curves:
        run.context.curves.draw()
    card = model_card.render(manifest, run.notes)
    saved = bundles.save(out, trained.network, manifest, card, trained.familiarity)
    if run.context.checkpoints:
        run.context.checkpoints.remove()
    return saved


def _explain(error: Exception, out: Path, stop_flag: graceful_stop.StopFlag) -> tuple[int, str]:
    """Return exit code and message for an error; raise it again if it is a bug."""
    match error:
        case trainer.TrainingStopped():
            folder = prepare.checkpoint_folder(out)
            advice = f" {folder} holds a checkpoint: continue with --resume." if folder.exists() else ""
            return stop_flag.exit_code, f"Stopped.{advice}"
        case trainer.TrainingDiverged():
            return 1, str(error)
        case _ if _is_out_of_memory(error):
            return 1, "Out of memory: close other programs, or choose a smaller --batch, --size or --network."
        case OSError():
            advice = "continue with --resume" if prepare.checkpoint_folder(out).exists() else "repeat the command"
            return 1, f"{error.filename or out}: {error.strerror or error}. Fix this, then {advice}."
        case ValueError():
            if isinstance(error, pydantic.ValidationError):
                return 2, f"Invalid argument, {validation_errors.first_error(error)}."
            return 2, str(error)
    raise error


def _is_out_of_memory(error: Exception) -> bool:
    # On a CPU, torch raises a RuntimeError like any other.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


if __name__ == "__main__":
    sys.exit(main())
