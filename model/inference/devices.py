"""Resolve the device and the number format of a run."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(name: str) -> torch.device:
    """Return the device of a name: auto (the GPU if there is one), cpu, cuda, cuda:1 and so on.

    Raises:
        ValueError: the name is unknown, or the machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    # Torch also knows mps, xpu, meta and others, on which the networks are not run.
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"Unknown device {name!r}: use auto, cpu, cuda or cuda:N.")
    gpu_count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= gpu_count:
        raise ValueError(f"Device {name} is not available, this machine has {gpu_count} GPU(s): use auto or cpu.")
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return float32 or bfloat16 by name; "auto" gives the one that is faster on the device.

    Raises:
        ValueError: the name is unknown.
    """
    if name == "auto":
        return torch.bfloat16 if _has_native_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise ValueError(f"Unknown precision {name!r}: use auto, {' or '.join(DTYPES)}.")
    return DTYPES[name]


def _has_native_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 instructions; without them, conversions make it slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16", False) or capabilities.get("avx512_bf16", False))
