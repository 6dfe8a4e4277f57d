"""A killed training resumes to the weights of an uninterrupted one."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model import train
from model.packaging import manifest
from model.training import learning_curves

ROOT = Path(__file__).parents[4]
OPTIONS = ["--size", "24", "--epochs", "4", "--folds", "2", "--threads", "1", "--keep-every", "0", "--set", "cutmix=1"]


def run_training(shapes, out, *more):
    """Train in this process and return the exit code."""
    return train.main([str(shapes), "--out", str(out), *OPTIONS, *more])


def kill_training(shapes, out, stage, *more):
    """Train in a child process and kill it after a few steps of a stage."""
    command = [sys.executable, "-m", "model.train", str(shapes), "--out", str(out), *OPTIONS, *more]
    checkpoint, versions = out.with_name(f"{out.name}.training") / f"{stage}.safetensors", set()
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        while len(versions) < 3:
            assert process.poll() is None
            time.sleep(0.005)
            with contextlib.suppress(FileNotFoundError):
                versions.add(checkpoint.stat().st_ino)
        process.kill()
    assert not out.exists()


@pytest.fixture(scope="module")
def uninterrupted_bundle(shapes_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "bundle"
    assert run_training(shapes_dir, out) == 0
    return out


def without_seconds(out):
    table = (out.with_name("bundle-log") / "curves.csv").read_text()
    return [line.rpartition(",")[0] for line in table.splitlines()]


@pytest.mark.timeout(600)  # two processes that load torch, on a machine that may be busy
def test_a_training_killed_in_and_after_the_folds_gives_the_same_bundle(shapes_dir, uninterrupted_bundle, tmp_path):
    out = tmp_path / "bundle"

    kill_training(shapes_dir, out, "fold-2-2")
    kill_training(shapes_dir, out, "all", "--resume")
    assert run_training(shapes_dir, out, "--resume") == 0

    resumed, uninterrupted = manifest.read(out), manifest.read(uninterrupted_bundle)
    assert resumed == uninterrupted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle-log"]
    assert len(without_seconds(out)) == 13
    assert without_seconds(out) == without_seconds(uninterrupted_bundle)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_and_the_message_names_resume(
    shapes_dir, uninterrupted_bundle, tmp_path, number, capsys, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(learning_curves.LearningCurves, "write", lambda _: signal.raise_signal(number))
        assert run_training(shapes_dir, tmp_path / "bundle", "--keep-every", "1000") == 128 + number
    assert "continue with --resume" in capsys.readouterr().err.splitlines()[-1]

    assert run_training(shapes_dir, tmp_path / "bundle", "--resume") == 0
    assert manifest.read(tmp_path / "bundle").digest == manifest.read(uninterrupted_bundle).digest


def test_another_recipe_is_rejected_with_the_differences(shapes_dir, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(learning_curves.LearningCurves, "write", lambda _: signal.raise_signal(signal.SIGINT))
        run_training(shapes_dir, tmp_path / "bundle")

    assert run_training(shapes_dir, tmp_path / "bundle", "--resume", "--learning-rate", "0.5") == 2

    assert "recipe.learning rate 0.006, not 0.5." in capsys.readouterr().err.splitlines()[-1]


def test_without_a_checkpoint_resume_starts_a_training(shapes_dir, uninterrupted_bundle, tmp_path):
    assert run_training(shapes_dir, tmp_path / "bundle", "--resume") == 0

    assert manifest.read(tmp_path / "bundle").digest == manifest.read(uninterrupted_bundle).digest
