"""Every command has help, and every flag a description."""

import re

import pytest

from model import evaluate, predict, summary, train, verify


@pytest.mark.parametrize("command", [train, evaluate, predict, verify, summary], ids=lambda module: module.__name__)
def test_every_flag_is_explained(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")

    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])

    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    flags = [number for number, line in enumerate(lines) if re.match(r"  (-\w, )?--\w", line)]
    # The meaning follows on the same line, or on the next when the flag is long.
    silent = [lines[n] for n in flags if not re.match(r"  \S.*\S {2,}\S", lines[n]) and lines[n + 1][:20].strip()]
    assert flags
    assert silent == []
