import platform

import pytest
import torch

from model.inference import classifier
from sortbelt import version
from tests.support import modules
from worker import runtime_info


def test_the_environment_names_device_precision_and_libraries(shipped_bundle):
    """The processor with the instruction set that torch uses, the precision, and the library versions."""
    network = classifier.Classifier(shipped_bundle, "cpu")
    environment = runtime_info.describe_environment(network)
    assert environment.device.startswith("cpu: ")
    assert environment.device.endswith(torch.backends.cpu.get_cpu_capability())
    assert (environment.precision, environment.torch, environment.sortbelt) == (
        network.precision,
        torch.__version__,
        version.VERSION,
    )
    assert environment.decoder.startswith("Pillow ")
    assert "jpeg" in environment.decoder


@pytest.mark.parametrize(
    ("cpuinfo", "name"), [("processor: 0\nmodel name\t: AMD EPYC 9B14\nflags\t: avx\n", "AMD EPYC 9B14"), ("", "arm")]
)
def test_a_processor_without_a_model_name_is_named_by_its_architecture(tmp_path, monkeypatch, cpuinfo, name):
    """Linux does not give the model name of every processor."""
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(runtime_info, "CPUINFO_PATH", tmp_path / "cpuinfo")
    monkeypatch.setattr(runtime_info, "platform", modules.with_changes(platform, machine=lambda: "arm"))
    capability = torch.backends.cpu.get_cpu_capability()
    assert runtime_info._device_name(torch.device("cpu")) == f"cpu: {name}, {capability}"
