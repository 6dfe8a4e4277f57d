"""A bundle is checked by hand."""

import pytest

from model import verify


def test_a_sound_bundle_is_fit_for_use(small_bundle, capsys):
    assert verify.main([str(small_bundle)]) == 0

    told = capsys.readouterr().out
    assert "fit for use" in told
    assert "self-test" in told


@pytest.mark.parametrize("file", ["weights.safetensors", "model.json"])
def test_a_damaged_bundle_is_refused_in_one_sentence(small_bundle, file, capsys):
    (small_bundle / file).write_bytes(b"{}")

    assert verify.main([str(small_bundle)]) == 1

    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
