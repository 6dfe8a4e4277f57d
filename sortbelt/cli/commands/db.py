"""`sortbelt db`: manage the server's database, on the server's machine."""

import subprocess
import sys

import click

from sortbelt.cli.commands import _options
from sortbelt.local import child_env, child_process, data_directory


@click.group()
def db() -> None:
    """Manage the database.

    \b
    Example:
      sortbelt db upgrade
    """


@db.command()
@_options.database_url_option
@_options.data_dir_option
def upgrade(database_url: str | None, data_dir: str | None) -> None:
    """Migrate the database to the tables of this version.

    `sortbelt up` does this itself; use this command for a database of your own.

    \b
    Examples:
      sortbelt db upgrade
      sortbelt db upgrade --database-url-file /run/secrets/database_url
    """
    _options.reject_empty_values()
    command = child_env.server_command("migrations")
    folder = data_directory.locate(data_dir)
    data_directory.prepare(folder)
    environment = child_env.child_environment(folder, database_url=database_url)
    sys.exit(subprocess.run(command, env=environment, check=False, umask=child_process.PRIVATE_UMASK).returncode)
