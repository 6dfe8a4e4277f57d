"""The verify command checks a bundle."""

import pytest

from model import verify


def test_a_valid_bundle_is_fit_for_use(small_bundle, capsys):
    assert verify.main([str(small_bundle)]) == 0

    captured = capsys.readouterr().out
    assert "fit for use" in captured
    assert "self-test" in captured


@pytest.mark.parametrize("file", ["weights.safetensors", "model.json"])
def test_a_damaged_bundle_is_rejected_in_one_line(small_bundle, file, capsys):
    (small_bundle / file).write_bytes(b"{}")

    assert verify.main([str(small_bundle)]) == 1

    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
