"""A checkpoint survives a round trip bit by bit; one of another plan is rejected with the differences."""

import json
import os

import pytest
import torch

from model.packaging import atomic_files
from model.training import checkpoint
from tests.support import modules

PLAN = {"recipe": {"epochs": 3, "learning_rate": 0.1}, "data": {"fingerprint": "a" * 64}}


@pytest.fixture
def training_checkpoint(tmp_path):
    return checkpoint.create(tmp_path / "b.training", PLAN, 0)


def test_tensors_and_metadata_survive_a_round_trip(training_checkpoint):
    tensors = {
        "a": torch.rand(3, 4, 5, 5).to(memory_format=torch.channels_last),
        "b": torch.tensor(7),
        "c": torch.empty(0),
    }
    tensors["same"] = tensors["a"]
    metadata = {"loss": 0.1 + 0.2, "epoch": 3, "curve": [{"epoch": 1}]}

    training_checkpoint.save("fold 1/5, network 2/3", tensors, metadata)
    restored = training_checkpoint.read("fold 1/5, network 2/3")

    assert restored.metadata == metadata
    assert all(torch.equal(restored.tensors[name], tensor) for name, tensor in tensors.items())
    assert training_checkpoint.read("fold 2/5, network 2/3") is None


def test_a_save_replaces_the_previous_one_or_nothing(training_checkpoint, monkeypatch):
    training_checkpoint.save("all", {"a": torch.ones(1)}, {"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_files, "os", modules.with_changes(os, fsync=full))
    with pytest.raises(OSError, match="No space"):
        training_checkpoint.save("all", {"a": torch.zeros(1)}, {"step": 2})

    assert training_checkpoint.read("all").metadata == {"step": 1}
    assert sorted(path.name for path in training_checkpoint.folder.iterdir()) == ["all.safetensors", "plan.json"]


def test_the_same_plan_resumes_and_a_new_start_discards(training_checkpoint):
    training_checkpoint.save("all", {}, {"step": 1})

    assert checkpoint.resume(training_checkpoint.folder, PLAN, 0).read("all").metadata == {"step": 1}
    assert checkpoint.create(training_checkpoint.folder, PLAN, 0).read("all") is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({**PLAN, "recipe": {"epochs": 4, "learning_rate": 0.1}}, r"recipe\.epochs 3, not 4\."),
        ({**PLAN, "data": {"fingerprint": "b" * 64}}, r"data\.fingerprint aaaaaaaaaaaa…, not bbbbbbbbbbbb…\."),
        ({**PLAN, "folds": 5}, r"folds none, not 5\."),
    ],
)
def test_another_plan_is_rejected_with_the_differences(training_checkpoint, other, message):
    with pytest.raises(checkpoint.InvalidCheckpoint, match=message):
        checkpoint.resume(training_checkpoint.folder, other, 0)


@pytest.mark.parametrize("data", [b"", b"\x80\x04.", b"0" * 100])
def test_a_damaged_file_is_rejected(training_checkpoint, data):
    (training_checkpoint.folder / "all.safetensors").write_bytes(data)

    with pytest.raises(checkpoint.InvalidCheckpoint, match="damaged"):
        training_checkpoint.read("all")


def test_a_damaged_plan_is_rejected(training_checkpoint):
    (training_checkpoint.folder / "plan.json").write_text("[]")

    with pytest.raises(checkpoint.InvalidCheckpoint, match="damaged"):
        checkpoint.resume(training_checkpoint.folder, PLAN, 0)


def test_a_checkpoint_of_an_older_version_is_rejected(training_checkpoint):
    plan_file = training_checkpoint.folder / "plan.json"
    plan_file.write_text(json.dumps(PLAN))

    with pytest.raises(checkpoint.InvalidCheckpoint, match="format 1, this version of sortbelt reads 2: leave out"):
        checkpoint.resume(training_checkpoint.folder, PLAN, 0)


def test_a_save_is_due_after_the_interval(tmp_path):
    assert checkpoint.create(tmp_path / "a", PLAN, 0).is_due()
    assert not checkpoint.create(tmp_path / "b", PLAN, 1000).is_due()
