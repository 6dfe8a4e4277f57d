"""What an unfinished training keeps comes back bit by bit, or is refused with what differs."""

import pytest
import torch

from model import checkpoint

PLAN = {"recipe": {"epochs": 3, "learning_rate": 0.1}, "data": {"fingerprint": "a" * 64}}


@pytest.fixture
def work(tmp_path):
    return checkpoint.begin(tmp_path / "b.training", PLAN, 0)


def test_tensors_and_facts_come_back_as_they_were(work):
    tensors = {
        "a": torch.rand(3, 4, 5, 5).to(memory_format=torch.channels_last),
        "b": torch.tensor(7),
        "c": torch.empty(0),
    }
    tensors["same"] = tensors["a"]
    facts = {"loss": 0.1 + 0.2, "epoch": 3, "curve": [{"epoch": 1}]}

    work.save("fold 1/5, network 2/3", tensors, facts)
    kept = work.read("fold 1/5, network 2/3")

    assert kept.facts == facts
    assert all(torch.equal(kept.tensors[name], tensor) for name, tensor in tensors.items())
    assert work.read("fold 2/5, network 2/3") is None


def test_a_save_replaces_the_one_before_or_nothing(work, monkeypatch):
    work.save("all", {"a": torch.ones(1)}, {"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        work.save("all", {"a": torch.zeros(1)}, {"step": 2})

    assert work.read("all").facts == {"step": 1}
    assert sorted(path.name for path in work.folder.iterdir()) == ["all.safetensors", "plan.json"]


def test_the_same_plan_goes_on_and_a_new_beginning_forgets(work):
    work.save("all", {}, {"step": 1})

    assert checkpoint.resume(work.folder, PLAN, 0).read("all").facts == {"step": 1}
    assert checkpoint.begin(work.folder, PLAN, 0).read("all") is None


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({**PLAN, "recipe": {"epochs": 4, "learning_rate": 0.1}}, r"recipe\.epochs 3, not 4\."),
        ({**PLAN, "data": {"fingerprint": "b" * 64}}, r"data\.fingerprint aaaaaaaaaaaa…, not bbbbbbbbbbbb…\."),
        ({**PLAN, "folds": 5}, r"folds none, not 5\."),
    ],
)
def test_another_plan_is_refused_with_what_differs(work, other, told):
    with pytest.raises(checkpoint.BadCheckpoint, match=told):
        checkpoint.resume(work.folder, other, 0)


@pytest.mark.parametrize("data", [b"", b"\x80\x04.", b"0" * 100])
def test_a_damaged_file_is_refused(work, data):
    (work.folder / "all.safetensors").write_bytes(data)

    with pytest.raises(checkpoint.BadCheckpoint, match="damaged"):
        work.read("all")


def test_a_damaged_plan_is_refused(work):
    (work.folder / "plan.json").write_text("[]")

    with pytest.raises(checkpoint.BadCheckpoint, match="damaged"):
        checkpoint.resume(work.folder, PLAN, 0)


def test_it_is_time_for_a_save_after_so_many_seconds(tmp_path):
    assert checkpoint.begin(tmp_path / "a", PLAN, 0).due()
    assert not checkpoint.begin(tmp_path / "b", PLAN, 1000).due()
