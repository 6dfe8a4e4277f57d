"""The table of a network's layers."""

import pytest

from model import summary


def test_the_table_ends_with_the_total(capsys):
    assert summary.main(["cookpad-cnn"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "output", "parameters"]
    assert lines[-1].split() == ["total", "5,008,674"]


def test_classes_and_size_are_choices(capsys):
    assert summary.main(["cookpad-cnn", "--classes", "10", "--size", "96"]) == 0

    assert "128x10x10" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nonsense"], ["cookpad-cnn", "--size", "8"]])
def test_what_cannot_be_built_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        summary.main(arguments)

    assert stop.value.code == 2
    assert "cookpad-cnn" in capsys.readouterr().err
