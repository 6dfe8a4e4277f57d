"""Options and parameter types shared by all subcommands, and messages on stderr."""

import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from sortbelt.cli import terminal
from sortbelt.cli.commands import _completion
from sortbelt.files import file_names

MAX_JOB_NAME_LENGTH = 255

URL_FILE_KEY = "sortbelt.database_url"
F = TypeVar("F", bound=Callable[..., Any])

data_dir_option = click.option(
    "--data-dir", metavar="DIR", help="Data folder of `sortbelt up` [default: SORTBELT_DATA_DIR, else the user's own]."
)
manifest_option = click.option(
    "--manifest", metavar="FILE", type=click.Path(), help="File that records what was sent [default: one per folder]."
)
model_option = click.option(
    "--model", metavar="NAME", help="Model to use [default: the server's].", shell_complete=_completion.models
)
name_option = click.option("--name", metavar="NAME", help="Name of the job, by which `sortbelt jobs --name` finds it.")


def priority_option(default: str) -> Callable[[F], F]:
    """Return the decorator for `--priority`."""
    choice = click.Choice(["interactive", "bulk"])
    help_text = "Interactive images are classified before bulk ones."
    return click.option("--priority", type=choice, default=default, show_default=True, help=help_text)


webhook_option = click.option("--webhook", metavar="URL", help="URL that gets a signed POST when the job has ended.")
since_option = click.option(
    "--since", metavar="TIME", help="Only from this time on: 24h, 7d, yesterday, 2026-01-31 or 2026-01-31T12:00:00Z."
)
until_option = click.option("--until", metavar="TIME", help="Only from before this time.")
owner_option = click.option(
    "--owner", metavar="KEY", help="Only of this key, by name or id (for the roles read, review and admin)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _read_url_file(ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    if path is not None:
        try:
            ctx.meta[URL_FILE_KEY] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"The file {path} cannot be read ({error}): correct --database-url-file.") from None


def _url_or_file(ctx: click.Context, _param: click.Parameter, url: str | None) -> str | None:
    if url and URL_FILE_KEY in ctx.meta:
        raise click.UsageError("Give --database-url or --database-url-file, not both.")
    return ctx.meta.get(URL_FILE_KEY) if url is None else url


def database_url_options(help_text: str) -> Callable[[F], F]:
    """Return the decorator for `--database-url`, and for a file that holds it: `ps` shows options, not files."""
    file_help = "File that holds the URL of the database, since `ps` shows it and its password as an option."
    url = click.option("--database-url", metavar="URL", callback=_url_or_file, help=help_text)
    file = click.option(
        "--database-url-file",
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_read_url_file,
        help=file_help,
    )
    return lambda command: url(file(command))


database_url_option = database_url_options("Database [default: SORTBELT_DATABASE_URL, else in the data folder].")


class _Duration(click.ParamType):  # type: ignore[type-arg]  # older releases of click know no arguments
    """Seconds, written as 90d, 12h, 30m or 45s; `never` is None."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "OptionValue":
        """Parse a duration."""
        if isinstance(value, OptionValue):
            return value
        match = re.fullmatch(r"(\d{1,9})([smhd])", value, re.ASCII)
        if not match and value != "never":
            self.fail(f"{value!r} is not a duration: write one such as 90d, 12h, 30m, or `never`.", param, ctx)
        return OptionValue(int(match[1]) * SECONDS_PER_UNIT[match[2]] if match else None)


class _Quota(click.ParamType):  # type: ignore[type-arg]  # as above
    """Limit: a number, `none` for no limit, or `default` (None) for the server's setting."""

    name = "quota"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "OptionValue":
        """Parse a limit."""
        if isinstance(value, OptionValue):
            return value
        if value not in {"none", "default"} and not re.fullmatch(r"[1-9]\d{0,14}", value, re.ASCII):
            self.fail(f"{value!r} is not a limit: write a number from 1 on, `none`, or `default`.", param, ctx)
        return OptionValue({"none": 0, "default": None}[value] if value.isalpha() else int(value))


class _Slug(click.ParamType):  # type: ignore[type-arg]  # as above
    """Name or version of a model, as a bundle can have it."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check a name or a version."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", value):
            self.fail(
                f"{value!r} has other characters than a-z, 0-9, dot, underscore and hyphen, or is too long: write one "
                "such as lunch-2.",
                param,
                ctx,
            )
        return str(value)


class OptionValue(NamedTuple):
    """Value of an option that was given; distinguishes a given None from an option that was not given."""

    value: int | None


SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION, QUOTA, SLUG = _Duration(), _Quota(), _Slug()


def combine(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Return one decorator for several options, which the help shows in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def reject_empty_values(may_be_empty: Collection[str] = ()) -> None:
    """Reject an empty option or argument of this command, such as a shell variable that is not set.

    Args:
        may_be_empty: names of parameters for which an empty text has a meaning.

    Raises:
        click.BadParameter: a value is empty: it would act on all jobs, on the current folder, or as if not given.
    """
    ctx = click.get_current_context()
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        if param.name not in may_be_empty and "" in (value if isinstance(value, tuple) else (value,)):
            raise click.BadParameter("it is empty: give a value, or leave it out.", ctx, param)


def job_name(address: str) -> str | None:
    """Return the name of the job of a folder, or of a source of the server: the last part of its path."""
    path = address if "://" in address else os.path.abspath(address)  # noqa: PTH100 - a text is all that is needed
    return file_names.escape_name(path.rstrip("/").rpartition("/")[2])[:MAX_JOB_NAME_LENGTH] or None


def print_stderr(message: str) -> None:
    """Print a message for people, apart from the output."""
    print(terminal.escape(message), file=sys.stderr, flush=True)
