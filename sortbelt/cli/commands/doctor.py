"""`sortbelt doctor`: check this machine's setup."""

import subprocess
import sys

import click

from sortbelt.cli.commands import _options
from sortbelt.local import child_env, data_directory


@click.command()
@_options.database_url_option
@click.option("--redis-url", metavar="URL", help="Redis [default: SORTBELT_REDIS_URL, else that of `sortbelt up`].")
@_options.data_dir_option
@_options.json_option
def doctor(database_url: str | None, redis_url: str | None, data_dir: str | None, *, as_json: bool) -> None:
    """Check this machine's setup, and say what to fix.

    \b
    Examples:
      sortbelt doctor
      sortbelt doctor --json
    """
    _options.reject_empty_values()
    command = child_env.server_command("core.maintenance.doctor", *(["--json"] if as_json else []))
    folder = data_directory.locate(data_dir)
    running_server = data_directory.find_running(folder)
    redis_url = redis_url or (running_server.redis_url if running_server else None)
    environment = child_env.child_environment(folder, database_url=database_url, redis_url=redis_url)
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)
