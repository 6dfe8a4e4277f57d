"""`sortbelt sql`: read-only SQL shell on the server's database, SQLite or PostgreSQL, for its views `v_…`."""

import contextlib
import csv
import decimal
import importlib
import itertools
import json
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from sortbelt import errors
from sortbelt.cli import terminal
from sortbelt.cli.commands import _options
from sortbelt.files import spreadsheets
from sortbelt.local import child_env, data_directory, read_only_database

VIEWS = ("v_jobs", "v_results", "v_reviews", "v_waiting", "v_labels", "v_days")
HELP_TEXT = "End a query with a semicolon. .views lists the views, .quit (or ctrl-D) ends; see docs/schema.md."


@click.command()
@click.argument("query", required=False)
@_options.database_url_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Format of the output.",
)
@_options.data_dir_option
def sql(query: str | None, *, database_url: str | None, output_format: str, data_dir: str | None) -> None:
    """Query the server's database in SQL, read-only.

    Runs on the server's machine. Without QUERY it reads queries from standard input. docs/schema.md
    describes the views v_jobs, v_results, v_reviews, v_waiting, v_labels and v_days. JSON is one object per line.

    \b
    Examples:
      sortbelt sql "SELECT label, count(*) FROM v_results GROUP BY label"
      sortbelt sql "SELECT * FROM v_days" --format csv
      sortbelt sql --database-url postgresql+psycopg://reader@db/sortbelt
    """
    _options.reject_empty_values()
    is_interactive = not query and sys.stdin.isatty()
    lines = [query] if query else _prompt() if is_interactive else sys.stdin
    with read_only_database.connect(database_url or child_env.database_url(data_directory.locate(data_dir))) as execute:
        for statement in _statements(lines):
            try:
                with contextlib.closing(execute(statement)) as rows:
                    _print(rows, output_format)
            except (errors.BadInput, KeyboardInterrupt) as problem:
                if not is_interactive:
                    raise
                _options.print_stderr(str(problem) or "Stopped.")


def _prompt() -> Iterator[str]:
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # makes input() a line editor
    _options.print_stderr(HELP_TEXT)
    with contextlib.suppress(EOFError):
        for line in iter(lambda: input("sql> ").rstrip(), ".quit"):
            if line.startswith("."):
                print("\n".join(VIEWS) if line == ".views" else HELP_TEXT)
            else:
                yield line + "\n"


def _statements(lines: Iterable[str]) -> Iterator[str]:
    pending = ""
    for line in lines:
        *ended, rest = line.split(";")
        for fragment in ended:
            pending += fragment + ";"
            if sqlite3.complete_statement(pending):  # the semicolon is not in a literal or a comment
                yield pending.strip().removesuffix(";")
                pending = ""
        pending += rest
    if pending.strip():
        yield pending.strip()


def _print(rows: Iterator[Sequence[Any]], output_format: str) -> None:
    columns = next(rows)
    if output_format == "json":
        for row in rows:
            print(json.dumps(dict(zip(columns, row, strict=True)), default=_to_json_value))
    elif output_format == "csv":
        csv.writer(sys.stdout).writerows(
            map(spreadsheets.escape_formula, row) for row in itertools.chain([columns], rows)
        )
    else:
        terminal.print_table(columns, rows)


def _to_json_value(value: Any) -> object:
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value.isoformat() if hasattr(value, "isoformat") else value.hex() if isinstance(value, bytes) else str(value)
