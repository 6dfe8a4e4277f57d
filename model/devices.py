"""Keeps the choice of a device, and of the arithmetic that is fast on it."""

from __future__ import annotations

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def named(name: str) -> torch.device:
    """The device of a name: auto (the GPU if there is one), cpu, cuda, cuda:1 and so on.

    Raises:
        ValueError: when it is unknown or not here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as unknown:
        raise ValueError(f"There is no device {name!r}; use auto, cpu, cuda or cuda:N.") from unknown
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"{name} is not here ({torch.cuda.device_count()} GPUs are); use auto or cpu.")
    return device


def arithmetic(name: str, device: torch.device) -> torch.dtype:
    """What to multiply in: of float32 and bfloat16 the named one, or with auto the faster.

    Raises:
        ValueError: for another name.
    """
    if name == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise ValueError(f"precision must be auto, {' or '.join(PRECISIONS)}, not {name!r}.")
    return PRECISIONS[name]


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether it has instructions for it; elsewhere bfloat16 is converted back and forth, and slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    can = torch.cpu.get_capabilities()
    return bool(can.get("amx_bf16", False) or can.get("avx512_bf16", False))
