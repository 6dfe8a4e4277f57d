"""bfloat16 is chosen only where it is multiplied."""

import pytest
import torch

from model import devices

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("can", "chosen"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_with_instructions_for_it(monkeypatch, can, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)

    assert devices.arithmetic("auto", CPU) == chosen
    assert devices.arithmetic("float32", CPU) == torch.float32


def test_what_is_unknown_or_not_here_is_refused():
    for name in ("tpu9", "cuda:99"):
        with pytest.raises(ValueError, match="use auto"):
            devices.named(name)
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        devices.arithmetic("int3", CPU)
