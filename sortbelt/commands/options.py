"""What several subcommands share: which server to talk to, `--json`, and how a person interrupts."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from sortbelt import command, terminal, transport, where
from sortbelt.client import Client

BRISK = transport.Patience(down=2.0, busy=30.0)  # somebody waits for a short answer
PATIENT = transport.Patience(down=60.0, busy=86_400.0)  # a long run must outlive a restart, and a full queue

data_dir = click.option(
    "--data-dir", metavar="DIR", help="Data folder of `sortbelt up` [default: SORTBELT_DATA_DIR, else the user's own]."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


def server(patience: transport.Patience = BRISK) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options that say which server to talk to; the command gets a client of it as its first argument."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @click.option("--url", metavar="URL", help="Server [default: SORTBELT_URL, else what `sortbelt up` runs here].")
        @data_dir
        @functools.wraps(function)
        def wrapped(*args: Any, url: str | None, data_dir: str | None, **rest: Any) -> Any:
            place = where.find(url, data_dir=data_dir)
            with Client(place.url, place.key, patience=patience, notice=tell) as client:
                return function(client, *args, **rest)

        return wrapped

    return decorate


def tell(sentence: str) -> None:
    """Say something to the person, beside the output."""
    print(terminal.clean(sentence), file=sys.stderr, flush=True)


@contextlib.contextmanager
def interruptible(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """Answer ctrl-C with one line that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise command.Failed(f"Stopped. {how_to_go_on()}", 130) from None
