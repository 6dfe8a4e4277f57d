"""Entry point of the `sortbelt` command: subcommands, and the mapping of errors to exit codes.

Exit codes: 0 success, 1 some images failed, 2 wrong usage, 3 no server responds, or it cannot process the request now
(429, 5xx), 130 stopped by ctrl-C.
"""

import errno
import gc
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from sortbelt import __version__, errors
from sortbelt.cli import terminal

# httpx imports rich and pygments for a command of its own, which takes longer than all the rest of the start.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None: the import fails, as httpx expects

# The help texts are repeated here so that `sortbelt --help` does not import every module; a test compares them.
COMMANDS = {
    "up": ("up", "Start Redis, database, API, dispatcher and workers on this machine; stop them with ctrl-C."),
    "submit": ("submit", "Submit images as one job."),
    "enqueue": ("enqueue", "Classify a folder as one job, and show a summary."),
    "sources": ("sources", "List the sources whose images the server reads itself."),
    "sort": ("sort", "Sort the images of a folder into one folder per label."),
    "jobs": ("jobs", "List jobs, newest first."),
    "status": ("jobs", "Show a job's status and its estimated end."),
    "wait": ("jobs", "Wait until a job has ended."),
    "cancel": ("jobs", "Cancel a job; existing results stay."),
    "retry": ("jobs", "Classify again, in a new job, the images of a job that got no label."),
    "rename": ("jobs", "Change the name of a job; an empty one removes it."),
    "delete": ("jobs", "Delete jobs or single images, with their bytes and results."),
    "results": ("results", "Show the results of a job, or search the results of all jobs."),
    "images": ("images", "Review, resubmit, download or delete the images whose results match filters."),
    "stats": ("results", "Count results by label, or by another property; or show how often the model was right."),
    "reviews": ("reviews", "List reviews of results, and export the reviewed images for training."),
    "diff": ("compare", "Show the images whose labels differ between two jobs."),
    "verify": ("compare", "Classify the image of a result again, alone, and compare."),
    "webhooks": ("webhooks", "List and replay webhook deliveries, and manage the signing secret."),
    "keys": ("keys", "Create, list, change and revoke API keys (for admins)."),
    "train": ("train", "Train a model on photos, one sub-folder per label, and add it to the server on this machine."),
    "models": ("models", "Add, promote and compare versions of models (for admins)."),
    "db": ("db", "Manage the database."),
    "sql": ("sql", "Query the server's database in SQL, read-only."),
    "completion": ("completion", "Print a script that completes `sortbelt` commands with the tab key."),
    "doctor": ("doctor", "Check this machine's setup, and say what to fix."),
}


class CommandFailed(click.ClickException):
    """End the command with a message on stderr and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class, and reads it from here

    def show(self, file: Any = None) -> None:
        """Print the message."""
        for line in f"sortbelt: {self.message}".splitlines():
            print(terminal.escape(line), file=file or sys.stderr)


class LazyGroup(click.Group):
    """Command group that imports a subcommand when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of `--help`."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a subcommand."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        gc.disable()  # imports leave nothing to collect, and searching what they create takes a twentieth of the start
        try:
            module = importlib.import_module(f"sortbelt.cli.commands.{COMMANDS[cmd_name][0]}")
        finally:
            gc.enable()
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands in `sortbelt --help`."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the subcommand that the arguments begin with."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(_unknown_command_message(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; every error becomes one message and an exit code."""
        try:
            return super().invoke(ctx)
        except errors.SortbeltError as problem:
            raise CommandFailed(error_message(problem), exit_code(problem)) from None
        except KeyboardInterrupt as stopped:
            raise CommandFailed(" ".join(["Stopped.", *_notes(stopped)]), 130) from None
        except OSError as problem:
            if problem.errno == errno.EPIPE:
                raise
            raise CommandFailed(f"{problem.filename or 'System'}: {problem.strerror or problem}.", 1) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as problem:
            if sys.flags.dev_mode:
                raise
            raise CommandFailed(_internal_error_message(problem), 1) from None


def exit_code(problem: errors.SortbeltError) -> int:
    """Return the exit code for an error."""
    if isinstance(problem, errors.Unreachable | errors.ServerError):
        return 3
    return 1 if isinstance(problem, errors.WaitTimeout | errors.TooManyFailures) else 2


def error_message(problem: errors.SortbeltError) -> str:
    """Return the message for an error, with the images at fault and, for server errors, the request id."""
    parts = [str(problem)]
    if isinstance(problem, errors.AuthenticationError):
        parts.append("Check SORTBELT_KEY.")
    if isinstance(problem, errors.ApiError):
        details = [(e.get("image"), str(e.get("detail") or e.get("code"))) for e in problem.errors[:5]]
        parts += [f"{image}: {detail}" if image else detail for image, detail in details if detail not in parts[0]]
    if isinstance(problem, errors.ServerError) and problem.request_id:
        parts.append(f"(request {problem.request_id})")
    return " ".join([*parts, *_notes(problem)])


def _notes(error: BaseException) -> list[str]:
    """Return the sentences that the client has added to an error."""
    return getattr(error, "__notes__", [])


def _unknown_command_message(name: str) -> str:
    import difflib  # noqa: PLC0415 (for errors only)

    matches = difflib.get_close_matches(name, COMMANDS, n=1)
    suggestion = f" Did you mean `sortbelt {matches[0]}`?" if matches else ""
    return f"Unknown command {terminal.escape(name)!r}: see `sortbelt --help`.{suggestion}"


def _internal_error_message(problem: Exception) -> str:
    import traceback  # noqa: PLC0415 (for bugs only)

    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return (
        f"This is a bug in sortbelt ({type(problem).__name__}: {problem}, {frame.name} line {frame.lineno}): "
        "`python -X dev -m sortbelt …` shows the traceback."
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="sortbelt")
def cli() -> None:
    """Classify images in bulk.

    \b
    Examples:
      sortbelt up                            start a server on this machine
      sortbelt enqueue ~/Pictures            classify a folder, with progress
      sortbelt submit lunch.jpg --wait       classify one image
      sortbelt results JOB --format csv      get the results of a job

    SORTBELT_URL and SORTBELT_KEY select the server; without them it is the one that `sortbelt up` started
    here. Exit codes: 0 success, 1 some images failed, 2 wrong usage (or key, or folder), 3 no server
    responds, or it cannot process the request now (429, 5xx), 130 stopped by ctrl-C.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with the given arguments, by default those of the process, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        cli(arguments, prog_name="sortbelt")
    finally:
        gc.freeze()  # the exit frees all memory: looking for unreachable objects before takes a twentieth of the start
