"""`sortbelt db`: the database of the server, on the server's machine."""

import subprocess
import sys

import click

from sortbelt import datafolder, environment
from sortbelt.commands import options


@click.group()
def db() -> None:
    """Look after the database.

    \b
    Example:
      sortbelt db upgrade
    """  # noqa: D301 - click wants the \b as it is


@db.command()
@click.option(
    "--database-url", metavar="URL", help="Database [default: SORTBELT_DATABASE_URL, else in the data folder]."
)
@options.data_dir
def upgrade(database_url: str | None, data_dir: str | None) -> None:
    """Bring the database to this version's tables.

    `sortbelt up` does it by itself; this is for a database of your own.

    \b
    Examples:
      sortbelt db upgrade
      sortbelt db upgrade --database-url postgresql+psycopg://me:secret@db/sortbelt
    """  # noqa: D301 - click wants the \b as it is
    folder = datafolder.locate(data_dir)
    datafolder.prepare(folder)
    child = subprocess.run(
        [sys.executable, "-m", "migrations"],
        env=environment.of_children(folder, database_url=database_url),
        check=False,
    )
    sys.exit(child.returncode)
