"""The `sortbelt` command: its subcommands, and how each ends.

Exit codes: 0 all well, 1 some images failed, 2 wrong usage, 3 no server answers, 130 stopped by ctrl-C.
"""

import errno
import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from sortbelt import __version__, errors, terminal

# The words beside each name are here too, because `sortbelt --help` must not import twelve modules; a test compares.
COMMANDS = {
    "up": ("up", "Start everything on this machine, and stop it with ctrl-C."),
    "submit": ("submit", "Submit some pictures as one job."),
    "enqueue": ("enqueue", "Put a whole folder through as one job, and show what came of it."),
    "sources": ("sources", "List where the server finds pictures that need not be sent."),
    "sort": ("sort", "Put the pictures of a folder into a folder per label."),
    "jobs": ("jobs", "List jobs, newest first."),
    "status": ("jobs", "Show how a job is, and when it may be over."),
    "wait": ("jobs", "Stay with a job until it has ended."),
    "cancel": ("jobs", "Stop a job; the results that it has stay."),
    "retry": ("jobs", "Try again what failed in a job."),
    "results": ("results", "Show the results of a job, or find results among all jobs."),
    "stats": ("results", "Count results, by label or by whatever else tells them apart."),
    "diff": ("compare", "Show which labels are not the same in two jobs."),
    "verify": ("compare", "Classify the picture of a result again, alone, and compare."),
    "webhooks": ("webhooks", "See what has become of webhooks, send them again, and change their secret."),
    "keys": ("keys", "Make, list, change and revoke API keys (for admins)."),
    "models": ("models", "Add, promote and compare versions of models (for admins)."),
    "db": ("db", "Look after the database."),
    "sql": ("sql", "Ask the server's database in SQL; nothing can be changed."),
    "completion": ("completion", "Print what makes the tab key complete `sortbelt` commands."),
    "doctor": ("doctor", "Check this machine's set-up, and say what to mend."),
}


class Failed(click.ClickException):
    """The end of a command that did not work out: one sentence on stderr, and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class, and reads it from here

    def show(self, file: Any = None) -> None:
        """Say it."""
        for line in f"sortbelt: {self.message}".splitlines():
            print(terminal.clean(line), file=file or sys.stderr)


class Commands(click.Group):
    """Subcommands that are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which people meet them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of this name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            importlib.import_module(f"sortbelt.commands.{COMMANDS[cmd_name][0]}"), cmd_name
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `sortbelt --help`."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The subcommand that the arguments begin with."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(
                f"There is no command {terminal.clean(args[0])!r}: `sortbelt --help` lists them.", ctx
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; whatever goes wrong becomes one sentence."""
        try:
            return super().invoke(ctx)
        except errors.SortbeltError as problem:
            raise Failed(sentence(problem), exit_code(problem)) from None
        except KeyboardInterrupt:
            raise Failed("Stopped.", 130) from None
        except OSError as problem:
            if problem.errno == errno.EPIPE:
                raise
            raise Failed(f"{problem.filename or 'System'}: {problem.strerror or problem}.", 1) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as problem:
            if sys.flags.dev_mode:
                raise
            raise Failed(_bug(problem), 1) from None


def exit_code(problem: errors.SortbeltError) -> int:
    """The exit code that stands for an error."""
    if isinstance(problem, errors.Unreachable | errors.ServerFault):
        return 3
    return 1 if isinstance(problem, errors.StillRunning | errors.TooManyFailures) else 2


def sentence(problem: errors.SortbeltError) -> str:
    """What to tell about an error, with the images that it is about and a number to ask for where it helps."""
    words = [str(problem)]
    if isinstance(problem, errors.KeyRefused):
        words.append("Check SORTBELT_KEY.")
    if isinstance(problem, errors.Refused):
        words += [f"{e.get('image', '')}: {e.get('detail') or e.get('code')}" for e in problem.errors[:5]]
    if isinstance(problem, errors.ServerFault) and problem.request_id:
        words.append(f"(request {problem.request_id})")
    return " ".join(words)


def _bug(problem: Exception) -> str:
    last = traceback.extract_tb(problem.__traceback__)[-1]
    return (
        f"This is a mistake in sortbelt itself ({type(problem).__name__}: {problem}, {last.name} line {last.lineno}). "
        "`python -X dev -m sortbelt …` shows all of it."
    )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="sortbelt")
def cli() -> None:
    """Labels on pictures in bulk.

    \b
    Examples:
      sortbelt up                            start everything on this machine
      sortbelt enqueue ~/Pictures            label a folder, with progress
      sortbelt submit lunch.jpg --wait       label one picture
      sortbelt results JOB --format csv      get the results of a job

    SORTBELT_URL and SORTBELT_KEY say which server to talk to; without them it is the one that
    `sortbelt up` started here. Exit codes: 0 all well, 1 some images failed, 2 wrong usage (or key, or
    folder), 3 no server answers, 130 stopped by ctrl-C.
    """  # noqa: D301 - click wants the \b as it is


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the process, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    cli(arguments, prog_name="sortbelt")
