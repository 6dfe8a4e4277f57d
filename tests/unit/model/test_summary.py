"""The table of a network's layers."""

import pytest

from model import summary


def test_the_table_is_markdown_and_ends_with_the_total(capsys):
    assert summary.main(["cookpad-cnn"]) == 0

    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["Layer", "Output", "Parameters"]
    assert cells[2] == ["conv 3×3 same, 32", "32×64×64", "896"]
    assert cells[-1] == ["total", "", "5,008,674"]
    assert len({len(line) for line in lines}) == 1


def test_classes_and_size_are_options(capsys):
    assert summary.main(["cookpad-cnn", "--classes", "10", "--size", "96"]) == 0

    output = capsys.readouterr().out
    assert "128×10×10" in output
    assert "dense 10, softmax" in output


def test_the_rows_of_any_network_add_up_to_its_total(capsys):
    assert summary.main(["resnet18", "--size", "64"]) == 0

    output = capsys.readouterr().out
    assert "11,177,538" in output
    assert "outside" not in output


@pytest.mark.parametrize("arguments", [["nonsense"], ["cookpad-cnn", "--size", "8"], ["alexnet", "--size", "40"]])
def test_an_impossible_network_is_rejected_in_one_line(arguments, capsys):
    assert summary.main(arguments) == 2

    assert capsys.readouterr().err.startswith("model.summary: ")
