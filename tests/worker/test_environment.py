import pytest
import torch

from jobs import version
from model import classifier
from worker import environment


def test_a_worker_knows_what_it_works_with(shipped):
    """The processor with the instructions that torch uses, the arithmetic, and the libraries by their versions."""
    network = classifier.Classifier(shipped, "cpu")
    found = environment.look(network)
    assert found.device.startswith("cpu: ")
    assert found.device.endswith(torch.backends.cpu.get_cpu_capability())
    assert (found.precision, found.torch, found.sortbelt) == (network.precision, torch.__version__, version.VERSION)
    assert found.decoder.startswith("Pillow ")
    assert "jpeg" in found.decoder


@pytest.mark.parametrize(
    ("told", "processor"), [("processor: 0\nmodel name\t: AMD EPYC 9B14\nflags\t: avx\n", "AMD EPYC 9B14"), ("", "arm")]
)
def test_a_processor_has_its_name_or_that_of_its_kind(tmp_path, monkeypatch, told, processor):
    """Linux does not name those of every maker."""
    (tmp_path / "cpuinfo").write_text(told)
    monkeypatch.setattr(environment, "PROCESSORS", tmp_path / "cpuinfo")
    monkeypatch.setattr(environment.platform, "machine", lambda: "arm")
    capability = torch.backends.cpu.get_cpu_capability()
    assert environment._device(torch.device("cpu")) == f"cpu: {processor}, {capability}"
