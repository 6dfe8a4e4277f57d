"""A killed training goes on to the very weights that it would have had."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model import curves, manifest, train

ROOT = Path(__file__).parents[2]
OPTIONS = ["--size", "24", "--epochs", "4", "--folds", "2", "--threads", "1", "--keep-every", "0", "--set", "cutmix=1"]


def trained(shapes, out, *more):
    """The exit code of a training in this process."""
    return train.main([str(shapes), "--out", str(out), *OPTIONS, *more])


def killed(shapes, out, stage, *more):
    """A real training that is killed after a few steps of a stage."""
    command = [sys.executable, "-m", "model.train", str(shapes), "--out", str(out), *OPTIONS, *more]
    kept, seen = out.with_name(f"{out.name}.training") / f"{stage}.safetensors", set()
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        while len(seen) < 3:
            assert process.poll() is None
            time.sleep(0.005)
            with contextlib.suppress(FileNotFoundError):
                seen.add(kept.stat().st_ino)
        process.kill()
    assert not out.exists()


@pytest.fixture(scope="module")
def uninterrupted(shapes, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "bundle"
    assert trained(shapes, out) == 0
    return out


def without_seconds(out):
    table = (out.with_name("bundle-log") / "curves.csv").read_text()
    return [line.rpartition(",")[0] for line in table.splitlines()]


@pytest.mark.timeout(600)  # two processes that load torch, on a machine that may be busy
def test_a_training_killed_in_a_fold_and_after_them_gives_the_same_bundle(shapes, uninterrupted, tmp_path):
    out = tmp_path / "bundle"

    killed(shapes, out, "fold-2-2")
    killed(shapes, out, "all", "--resume")
    assert trained(shapes, out, "--resume") == 0

    one, other = manifest.read(out), manifest.read(uninterrupted)
    assert one == other
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle-log"]
    assert len(without_seconds(out)) == 13
    assert without_seconds(out) == without_seconds(uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_learned_and_says_how_to_go_on(
    shapes, uninterrupted, tmp_path, number, capsys, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(curves.Curves, "write", lambda _: signal.raise_signal(number))
        assert trained(shapes, tmp_path / "bundle", "--keep-every", "1000") == 128 + number
    assert "go on with --resume" in capsys.readouterr().err.splitlines()[-1]

    assert trained(shapes, tmp_path / "bundle", "--resume") == 0
    assert manifest.read(tmp_path / "bundle").digest == manifest.read(uninterrupted).digest


def test_another_recipe_is_refused_with_what_differs(shapes, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(curves.Curves, "write", lambda _: signal.raise_signal(signal.SIGINT))
        trained(shapes, tmp_path / "bundle")

    assert trained(shapes, tmp_path / "bundle", "--resume", "--learning-rate", "0.5") == 2

    assert "recipe.learning rate 0.006, not 0.5." in capsys.readouterr().err.splitlines()[-1]


def test_with_nothing_to_resume_it_begins(shapes, uninterrupted, tmp_path):
    assert trained(shapes, tmp_path / "bundle", "--resume") == 0

    assert manifest.read(tmp_path / "bundle").digest == manifest.read(uninterrupted).digest
