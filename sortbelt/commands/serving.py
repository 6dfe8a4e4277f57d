"""What the subcommands that talk to a server share: which one, for how long they try, and how a person interrupts."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import click

from sortbelt import command, transport, where
from sortbelt.client import Client
from sortbelt.commands import options

BRISK = transport.Patience(down=5.0, busy=30.0)  # somebody waits for a short answer
PATIENT = transport.Patience(down=60.0, busy=86_400.0)  # a long run must outlive a restart, and a full queue


def server(patience: transport.Patience = BRISK) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options that say which server to talk to; the command gets a client of it as its first argument."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @click.option("--url", metavar="URL", help="Server [default: SORTBELT_URL, else what `sortbelt up` runs here].")
        @options.data_dir
        @functools.wraps(function)
        def wrapped(*args: Any, url: str | None, data_dir: str | None, **rest: Any) -> Any:
            place = where.find(url, data_dir=data_dir)
            with Client(place.url, place.key, patience=patience, notice=options.tell) as client:
                return function(client, *args, **rest)

        return wrapped

    return decorate


@contextlib.contextmanager
def interruptible(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """Answer ctrl-C with one line that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise command.Failed(f"Stopped. {how_to_go_on()}", 130) from None
