"""`sortbelt up`: everything on this machine, until ctrl-C; or for as long as one command runs."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import click

from sortbelt import command as entrance
from sortbelt import datafolder, guest, stack, terminal
from sortbelt.commands import options


class Stops:
    """How often somebody asked to stop, by ctrl-C, SIGTERM or by closing the terminal."""

    def __init__(self) -> None:
        self.interrupts = 0
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal."""
        del frame
        self.asked = True
        self.interrupts += number == signal.SIGINT

    def hurry(self) -> bool:
        """Whether ctrl-C came twice."""
        return self.interrupts > 1


@click.command()
@click.argument("then", metavar="[-- COMMAND…]", nargs=-1, type=click.UNPROCESSED)
@click.option("--host", envvar="SORTBELT_HOST", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    envvar="SORTBELT_PORT",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 for any that is free.",
)
@options.data_dir
@click.option("--database-url", metavar="URL", help="A PostgreSQL of yours [default: SQLite in the data folder].")
@click.option("--redis-url", metavar="URL", help="A Redis of yours [default: a private one, started here].")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option("--json", "as_json", is_flag=True, help="When ready, print one line of JSON: url, key, data_dir.")
def up(
    then: tuple[str, ...],
    *,
    host: str,
    port: int,
    data_dir: str | None,
    database_url: str | None,
    redis_url: str | None,
    workers: int,
    as_json: bool,
) -> None:
    """Start everything on this machine, and stop it with ctrl-C.

    Redis, the database, workers and the API, all in one data folder; a second start goes on with the
    jobs that were not finished. A COMMAND after -- is run when all is ready, with SORTBELT_URL and
    SORTBELT_KEY set; when it ends, everything stops, and its exit code is the answer.

    \b
    Examples:
      sortbelt up
      sortbelt up --port 0 --json --data-dir /tmp/try
      sortbelt up --database-url postgresql+psycopg://me:secret@db/sortbelt --workers 2
      sortbelt up --port 0 -- sortbelt enqueue ~/Pictures
    """  # noqa: D301 - click wants the \b as it is
    folder = datafolder.locate(data_dir)
    datafolder.prepare(folder)
    with datafolder.occupied(folder), _signals() as stops:
        running = stack.Stack(stack.Plan(folder, host, port, database_url, redis_url, workers), options.tell)
        try:
            code = _run(running, stops, folder, then, as_json=as_json)
        except stack.Broken as trouble:
            raise entrance.Failed(str(trouble), trouble.exit_code) from None
        finally:
            running.stop(stops.hurry)
    sys.exit(130 if stops.hurry() else code)


@contextlib.contextmanager
def _signals() -> Iterator[Stops]:
    stops = Stops()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, stops) for number in numbers]
    try:
        yield stops
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _run(running: stack.Stack, stops: Stops, folder: Path, then: Sequence[str], *, as_json: bool) -> int:
    """Start it, announce it, tend it until somebody asks to stop; or until the command after -- ends."""
    running.start()
    for _ in running.until_ready():
        if stops.asked:
            return 130 if then else 0
    _announce(running, folder, as_json=as_json, alone=not then)
    if then:
        return _entertain(running, stops, then)
    while not stops.asked:
        running.tend()
        time.sleep(stack.TICK_SECONDS)
    options.tell("Stopping: what is at hand is finished first (ctrl-C again stops at once).")
    return 0


def _entertain(running: stack.Stack, stops: Stops, then: Sequence[str]) -> int:
    """Tend it until the command has ended; its exit code."""
    visitor = guest.Guest(then, running.url, running.key)
    try:
        while (code := visitor.exit_code()) is None:
            running.tend()
            time.sleep(stack.TICK_SECONDS)
            if stops.asked:
                visitor.leave(interrupted=stops.interrupts > 0, hurry=stops.hurry())
    finally:
        visitor.turn_out()
    return code


def _announce(running: stack.Stack, folder: Path, *, as_json: bool, alone: bool) -> None:
    if as_json:
        print(terminal.as_json({"url": running.url, "key": running.key, "data_dir": str(folder)}), flush=True)
    elif alone:
        print(f"Sortbelt answers at  {running.url}")
        print(f"Key                  {running.key}")
        print(f"Data folder          {folder}")
        print(f"Web page             {running.url}/  (log in with the key)")
        print(f"Manual of the API    {running.url}/docs")
        print("Try                  sortbelt enqueue FOLDER", flush=True)
        options.tell("Stop with ctrl-C.")
