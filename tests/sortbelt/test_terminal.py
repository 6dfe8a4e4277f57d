import io
import json

import pytest

from sortbelt import terminal
from sortbelt.commands import jobs


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
    assert terminal.clean(name) == shown


def test_json_is_one_line_of_ascii():
    line = terminal.as_json({"image": "寿司\x9b\n"})

    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"image": "寿司\x9b\n"}


def test_rows_are_tab_separated_without_a_head_where_no_person_looks():
    out = io.StringIO()

    terminal.table(("image", "label", "confidence"), [("a\tb", None, 0.5), ("c", "sushi", 1.0)], out)

    assert out.getvalue() == "a\\tb\t\t0.5000\nc\tsushi\t1.0000\n"


def test_rows_are_a_table_with_a_head_on_a_terminal():
    out = Screen()

    terminal.table(("image", "label"), [("[bold]a[/bold]", "sushi"), ("\x1b[2J", None)], out)

    assert "image" in out.getvalue()
    assert "[bold]a[/bold]" in out.getvalue()
    assert "\\x1b[2J" in out.getvalue()


@pytest.mark.parametrize("width", ["80", "40"])
def test_an_id_and_a_number_are_whole_however_narrow_the_terminal_is(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    out, ids = Screen(), ["019a0000-0000-7000-8000-000000000000", "019a0000-0000-7000-8000-000000000001"]

    terminal.table(jobs.HEADS, [(one, "running (open)", 123456, 1, 2, 3, 4, 5, 6) for one in ids], out)

    assert [line for line in out.getvalue().splitlines() if line.startswith(tuple(ids)) and "123456" in line]
    assert all(one in out.getvalue() for one in ids)


def test_a_long_list_is_shown_before_it_has_ended():
    out = Screen()

    def rows():
        for number in range(terminal.TABLE_ROWS + 1):
            assert ("499" in out.getvalue()) == (number == terminal.TABLE_ROWS)
            yield (number,)

    terminal.table(("n",), rows(), out)

    assert str(terminal.TABLE_ROWS) in out.getvalue()


def test_nothing_is_shown_of_an_empty_list():
    out = Screen()

    terminal.table(("n",), [], out)

    assert out.getvalue() == ""
