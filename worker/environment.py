"""The environment in which this worker makes results: its device, its arithmetic, its libraries."""

import platform
import re
from pathlib import Path

import PIL
import torch
from PIL import features

from jobs import version
from jobs.store import environments
from model import classifier

PROCESSORS = Path("/proc/cpuinfo")


def look(network: classifier.Classifier) -> environments.Environment:
    """What a network runs on and by."""
    return environments.Environment(
        device=_device(network.device),
        precision=network.precision,
        torch=str(torch.__version__),
        decoder=f"Pillow {PIL.__version__}, {_jpeg()}",
        sortbelt=version.VERSION,
    )


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu: {_processor()}, {torch.backends.cpu.get_cpu_capability()}"


def _processor() -> str:
    named = re.search(r"^model name\s*:\s*(.+)$", PROCESSORS.read_text("utf-8"), re.MULTILINE)
    return named[1].strip() if named else platform.machine()


def _jpeg() -> str:
    """Most pictures are JPEGs, and another library, or release of it, may round a pixel otherwise."""
    turbo = features.version_feature("libjpeg_turbo")
    return f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version_codec('jpg')}"
