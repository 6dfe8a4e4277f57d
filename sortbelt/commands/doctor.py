"""`sortbelt doctor`: is this machine's set-up sound, and what to mend if it is not."""

import subprocess
import sys

import click

from sortbelt import datafolder, environment
from sortbelt.commands import options


@click.command()
@click.option(
    "--database-url", metavar="URL", help="Database [default: SORTBELT_DATABASE_URL, else in the data folder]."
)
@click.option("--redis-url", metavar="URL", help="Redis [default: SORTBELT_REDIS_URL, else the one that `up` runs].")
@options.data_dir
@options.as_json
def doctor(database_url: str | None, redis_url: str | None, data_dir: str | None, *, as_json: bool) -> None:
    """Check this machine's set-up, and say what to mend.

    \b
    Examples:
      sortbelt doctor
      sortbelt doctor --json
    """  # noqa: D301 - click wants the \b as it is
    folder = datafolder.locate(data_dir)
    up = datafolder.running(folder)
    child = subprocess.run(
        [sys.executable, "-m", "jobs.doctor", *(["--json"] if as_json else [])],
        env=environment.of_children(
            folder, database_url=database_url, redis_url=redis_url or (up.redis_url if up else None)
        ),
        check=False,
    )
    sys.exit(child.returncode)
