"""`sortbelt up`: the whole server on this machine, until ctrl-C or for as long as one command runs."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import click

from sortbelt.cli import main, terminal
from sortbelt.cli.commands import _options
from sortbelt.local import child_env, command_runner, data_directory, supervisor


class StopSignals:
    """Signal handler that counts requests to stop: ctrl-C, SIGTERM, or a closed terminal."""

    def __init__(self) -> None:
        self.interrupts = 0
        self.is_requested = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Record a signal."""
        del frame
        self.is_requested = True
        self.interrupts += signum == signal.SIGINT

    def is_forced(self) -> bool:
        """Return whether ctrl-C was pressed twice."""
        return self.interrupts > 1


@click.command()
@click.argument("command", metavar="[-- COMMAND…]", nargs=-1, type=click.UNPROCESSED)
@click.option("--host", envvar="SORTBELT_HOST", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    envvar="SORTBELT_PORT",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 for any free port.",
)
@_options.data_dir_option
@_options.database_url_options("Your own PostgreSQL [default: SQLite in the data folder].")
@click.option("--redis-url", metavar="URL", help="Your own Redis [default: a private one, started here].")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Number of worker processes.")
@click.option("--json", "as_json", is_flag=True, help="When ready, print one line of JSON: url, key, data_dir.")
def up(
    command: tuple[str, ...],
    *,
    host: str,
    port: int,
    data_dir: str | None,
    database_url: str | None,
    redis_url: str | None,
    workers: int,
    as_json: bool,
) -> None:
    """Start Redis, database, API, dispatcher and workers on this machine; stop them with ctrl-C.

    Everything is stored in one data folder; a restart continues unfinished jobs. A COMMAND after -- is run
    when the server is ready, with SORTBELT_URL and SORTBELT_KEY set; when it ends, the server stops, and
    its exit code is returned.

    \b
    Examples:
      sortbelt up
      sortbelt up --port 0 --json --data-dir /tmp/try
      sortbelt up --database-url-file ~/database_url --workers 2
      sortbelt up --port 0 -- sortbelt enqueue ~/Pictures
    """
    _options.reject_empty_values(["command"])
    child_env.check_server_installed()
    folder = data_directory.locate(data_dir)
    data_directory.prepare(folder)
    config = supervisor.StackConfig(folder, host.strip("[]"), port, database_url, redis_url, workers)
    with data_directory.locked(folder), _handle_stop_signals() as stop_signals:
        stack = supervisor.Supervisor(config, _options.print_stderr)
        try:
            exit_code = _run(stack, stop_signals, folder, command, as_json=as_json)
        except supervisor.StackFailed as failure:
            raise main.CommandFailed(str(failure), failure.exit_code) from None
        finally:
            stack.stop(stop_signals.is_forced)
    sys.exit(130 if stop_signals.is_forced() else exit_code)


@contextlib.contextmanager
def _handle_stop_signals() -> Iterator[StopSignals]:
    stop_signals = StopSignals()
    signums = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has set it
        signums.append(signal.SIGHUP)
    previous_handlers = [signal.signal(signum, stop_signals) for signum in signums]
    try:
        yield stop_signals
    finally:
        for signum, handler in zip(signums, previous_handlers, strict=True):
            signal.signal(signum, handler)


def _run(
    stack: supervisor.Supervisor, stop_signals: StopSignals, folder: Path, command: Sequence[str], *, as_json: bool
) -> int:
    """Start the stack, announce it, and supervise it until a stop is requested or the command has ended."""
    stack.start()
    for _ in stack.wait_until_ready():
        if stop_signals.is_requested:
            return 130 if command else 0
    if as_json:
        payload = {"url": stack.url, "key": stack.key, "data_dir": str(folder)}
        print(terminal.to_json_line(payload), flush=True)
    elif not command:
        _announce(stack, folder)
    if command:
        return _run_wrapped_command(stack, stop_signals, folder, command)
    while not stop_signals.is_requested:
        stack.check()
        time.sleep(supervisor.POLL_SECONDS)
    _options.print_stderr("Stopping: batches in progress are finished first (ctrl-C again stops at once).")
    return 0


def _run_wrapped_command(
    stack: supervisor.Supervisor, stop_signals: StopSignals, folder: Path, command: Sequence[str]
) -> int:
    """Supervise the stack until the command has ended; return its exit code."""
    wrapped_command = command_runner.WrappedCommand(command, stack.url, stack.key, folder)
    try:
        while (code := wrapped_command.exit_code()) is None:
            stack.check()
            time.sleep(supervisor.POLL_SECONDS)
            if stop_signals.is_requested:
                wrapped_command.request_stop(interrupted=stop_signals.interrupts > 0, force=stop_signals.is_forced())
    finally:
        wrapped_command.kill()
    return code


def _announce(stack: supervisor.Supervisor, folder: Path) -> None:
    print(f"Sortbelt runs at    {stack.url}")
    print(f"Key                 {stack.key}")
    print(f"Data folder         {folder}")
    print(f"Web page            {stack.url}/  (log in with the key)")
    print(f"API documentation   {stack.url}/docs")
    print("Try                 sortbelt enqueue FOLDER", flush=True)
    _options.print_stderr("Stop with ctrl-C.")
