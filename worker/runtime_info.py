"""Runtime info: the device, precision and library versions that a worker's results depend on."""

import platform
import re
from pathlib import Path

import PIL
import torch
from PIL import features

from core.db.queries import environments
from model.inference import classifier
from sortbelt import version

CPUINFO_PATH = Path("/proc/cpuinfo")


def describe_environment(network: classifier.Classifier) -> environments.Environment:
    """Return the environment that a network runs in."""
    return environments.Environment(
        device=_device_name(network.device),
        precision=network.precision,
        torch=str(torch.__version__),
        decoder=f"Pillow {PIL.__version__}, {_jpeg_library()}",
        sortbelt=version.VERSION,
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu: {_cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"


def _cpu_name() -> str:
    model_name = re.search(r"^model name\s*:\s*(.+)$", CPUINFO_PATH.read_text("utf-8"), re.MULTILINE)
    return model_name[1].strip() if model_name else platform.machine()


def _jpeg_library() -> str:
    """Return the JPEG library and its version: another one may round pixels differently."""
    turbo_version = features.version_feature("libjpeg_turbo")
    return f"libjpeg-turbo {turbo_version}" if turbo_version else f"libjpeg {features.version_codec('jpg')}"
