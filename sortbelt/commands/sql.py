"""`sortbelt sql`: the server's own database, read only, with views that are made for asking."""

import contextlib
import csv
import datetime as dt
import decimal
import json
import os
import sqlite3
import sys
import uuid
from pathlib import Path
from typing import Any

import click

from sortbelt import datafolder, environment, errors, export, sqlshell, terminal, views
from sortbelt.commands import options

HELP = "End a question with a semicolon. .views lists the views, .quit (or ctrl-D) ends; docs/schema.md tells more."


@click.command()
@click.argument("query", required=False)
@click.option(
    "--database-url", metavar="URL", help="Database [default: SORTBELT_DATABASE_URL, else in the data folder]."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How to answer; json is one object to a line.",
)
@click.option("--print-views", is_flag=True, help="Print what makes the views, to have them in the database for good.")
@options.data_dir
def sql(query: str | None, *, database_url: str | None, form: str, print_views: bool, data_dir: str | None) -> None:
    """Ask the server's database in SQL; nothing can be changed.

    Runs on the server's machine. Without QUERY it asks for questions. Views: v_jobs, v_results, v_waiting,
    v_labels, v_days; docs/schema.md tells what is in them.

    \b
    Examples:
      sortbelt sql "SELECT label, count(*) FROM v_results GROUP BY label"
      sortbelt sql "SELECT * FROM v_days" --format csv
      sortbelt sql --database-url postgresql+psycopg://reader@db/sortbelt
    """  # noqa: D301 - click wants the \b as it is
    if print_views:
        print(";\n".join(views.statements()) + ";")
        return
    database = sqlshell.connect(database_url or _configured(datafolder.locate(data_dir)))
    with contextlib.closing(database):
        if query:
            _answer(database, query, form)
        elif sys.stdin.isatty():
            _converse(database, form)
        else:
            for statement in _statements(sys.stdin.read()):
                _answer(database, statement, form)


def _configured(folder: Path) -> str:
    """The database that the server's processes would take."""
    settings = environment.of_children(folder)
    if "SORTBELT_DATABASE_URL_FILE" in settings:
        return Path(settings["SORTBELT_DATABASE_URL_FILE"]).read_text(encoding="utf-8").strip()
    return settings["SORTBELT_DATABASE_URL"]


def _statements(text: str) -> list[str]:
    """The statements of a text, apart at their semicolons."""
    found, statement = [], ""
    for piece in text.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            found.append(statement.strip().removesuffix(";"))
            statement = ""
    return [one for one in [*found, statement.strip(" ;\n")] if one.strip()]


def _converse(database: sqlshell.Database, form: str) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - makes input() a line editor, where there is one
    options.tell(HELP)
    asked = ""
    while True:
        try:
            line = input("...> " if asked else "sql> ")
        except EOFError:
            return
        except KeyboardInterrupt:
            asked = ""
            print()
            continue
        if not asked and line.strip() in {".quit", ".exit"}:
            return
        if not asked and line.strip().startswith("."):
            print("\n".join(views.VIEWS) if line.strip() == ".views" else HELP)
            continue
        asked += line + os.linesep
        if sqlite3.complete_statement(asked):
            _try(database, asked.strip().removesuffix(";"), form)
            asked = ""


def _try(database: sqlshell.Database, query: str, form: str) -> None:
    """Answer, and stay whatever the answer is."""
    try:
        _answer(database, query, form)
    except errors.BadInput as problem:
        options.tell(str(problem))
    except KeyboardInterrupt:
        options.tell("Stopped.")


def _answer(database: sqlshell.Database, query: str, form: str) -> None:
    names, rows = database.ask(query)
    if form == "json":
        for row in rows:
            print(json.dumps(dict(zip(names, row, strict=True)), default=_plain))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\r\n")
        writer.writerow(export.inert(names))
        writer.writerows(map(export.inert, rows))
    else:
        terminal.table(names, rows)


def _plain(value: Any) -> object:
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value.hex() if isinstance(value, bytes) else str(value) if isinstance(value, uuid.UUID) else repr(value)
