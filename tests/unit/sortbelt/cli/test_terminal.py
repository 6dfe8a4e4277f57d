import io
import json

import pytest

from sortbelt.cli import terminal
from sortbelt.cli.commands import jobs


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """It is one."""
        return True


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("寿司 lunch.jpg", "寿司 lunch.jpg"),
        ("\x1b[31mred\x1b[0m.jpg", "\\x1b[31mred\\x1b[0m.jpg"),
        ("two\nlines\t.jpg", "two\\nlines\\t.jpg"),
        ("\x9b2J.jpg", "\\x9b2J.jpg"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
    ],
)
def test_a_name_cannot_command_the_terminal(name, shown):
    assert terminal.escape(name) == shown


def test_json_is_one_line_of_ascii():
    line = terminal.to_json_line({"image": "寿司\x9b\n"})

    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"image": "寿司\x9b\n"}


def test_rows_are_tab_separated_without_a_head_where_no_person_looks():
    out = io.StringIO()

    terminal.print_table(("image", "label", "confidence"), [("a\tb", None, 0.5), ("c", "sushi", 1.0)], out)

    assert out.getvalue() == "a\\tb\t\t0.5000\nc\tsushi\t1.0000\n"


def test_rows_are_a_table_with_a_head_on_a_terminal():
    out = Screen()

    terminal.print_table(("image", "label"), [("[bold]a[/bold]", "sushi"), ("\x1b[2J", None)], out)

    assert "image" in out.getvalue()
    assert "[bold]a[/bold]" in out.getvalue()
    assert "\\x1b[2J" in out.getvalue()


@pytest.mark.parametrize("width", [200, 110, 97, 96])
def test_an_id_and_a_number_are_whole_in_a_table_that_fits(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    out, ids = Screen(), ["019a0000-0000-7000-8000-000000000000", "019a0000-0000-7000-8000-000000000001"]

    terminal.print_table(jobs.HEADERS[:9], [(id_, "running (open)", 123456, 1, 2, 3, 4, 5, 6) for id_ in ids], out)

    lines = [line for line in out.getvalue().splitlines() if "123456" in line]
    assert [line.startswith(id_) for line, id_ in zip(lines, ids, strict=True)] == [True, True]
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", ["80", "10"])
def test_rows_are_records_on_a_terminal_too_narrow_for_a_table(width, monkeypatch):
    """One field per line, and nothing cut into single letters."""
    monkeypatch.setenv("COLUMNS", width)
    out, id_ = Screen(), "019a0000-0000-7000-8000-000000000000"

    terminal.print_table(jobs.HEADERS[:9], [(id_, "running (\x1b[1m)", 123456, 1, 2, 3, 4, 5, None)] * 2, out)

    record = out.getvalue().split("\n\n")[0].splitlines()
    assert record[:3] == [f"      job: {id_}", "   status: running (\\x1b[1m)", "    total: 123456"]
    assert (len(record), record[-1]) == (9, "  expired: ")
    assert out.getvalue().count(id_) == 2


def test_a_terminal_gets_no_column_that_is_empty_everywhere():
    """Only of those that are named; what is not a terminal gets all of them."""
    rows = [("a", 0, None, 0), ("b", 3, "", 0)]
    screen, pipe = Screen(), io.StringIO()
    for out in (screen, pipe):
        terminal.print_table(("image", "failed", "note", "size"), rows, out, optional=("failed", "note"))
    assert "failed" in screen.getvalue()
    assert "note" not in screen.getvalue()
    assert pipe.getvalue() == "a\t0\t\t0\nb\t3\t\t0\n"


def test_a_long_list_is_shown_before_it_has_ended():
    out = Screen()

    def rows():
        for number in range(terminal.TABLE_CHUNK_ROWS + 1):
            assert ("499" in out.getvalue()) == (number == terminal.TABLE_CHUNK_ROWS)
            yield (number,)

    terminal.print_table(("n",), rows(), out)

    assert str(terminal.TABLE_CHUNK_ROWS) in out.getvalue()


def test_nothing_is_shown_of_an_empty_list():
    out = Screen()

    terminal.print_table(("n",), [], out)

    assert out.getvalue() == ""
