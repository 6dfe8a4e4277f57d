"""bfloat16 is chosen only on devices with instructions for it."""

import pytest
import torch

from model.inference import devices

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_with_instructions_for_it(monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    assert devices.resolve_dtype("auto", CPU) == dtype
    assert devices.resolve_dtype("float32", CPU) == torch.float32


def test_unknown_and_unavailable_devices_and_precisions_are_rejected():
    for name in ("tpu9", "mps", "xpu", "meta", "cuda:99"):
        with pytest.raises(ValueError, match="use auto"):
            devices.resolve_device(name)
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        devices.resolve_dtype("int3", CPU)
