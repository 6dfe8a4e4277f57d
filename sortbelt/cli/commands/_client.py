"""Shared by the subcommands that talk to a server: its options, retry policies, and the handling of ctrl-C."""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

import click

from sortbelt import errors
from sortbelt.cli import main
from sortbelt.cli.commands import _options
from sortbelt.client import discovery, transport
from sortbelt.client.sync_client import Client

INTERACTIVE_RETRY = transport.RetryPolicy(down=5.0, busy=30.0)  # a person waits for the response
LONG_RUN_RETRY = transport.RetryPolicy(down=60.0, busy=86_400.0)  # outlives a restart, and a full queue


def client_options(
    retry_policy: transport.RetryPolicy = INTERACTIVE_RETRY, may_be_empty: Collection[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--json`, and the options that select a server; the command gets a client as its first argument.

    Empty values are rejected, except those of the parameters in `may_be_empty`.
    """

    def decorate(command_function: Callable[..., Any]) -> Callable[..., Any]:
        @_options.json_option
        @click.option(
            "--url", metavar="URL", help="URL of the server [default: SORTBELT_URL, else that of `sortbelt up`]."
        )
        @_options.data_dir_option
        @functools.wraps(command_function)
        def wrapped(*args: Any, url: str | None, data_dir: str | None, **kwargs: Any) -> Any:
            _options.reject_empty_values(may_be_empty)
            config = discovery.find_server(url, data_dir=data_dir)
            with Client(config.url, config.key, retry_policy=retry_policy, notice=_options.print_stderr) as client:
                return command_function(client, *args, **kwargs)

        return wrapped

    return decorate


@contextlib.contextmanager
def interruptible(resume_hint: Callable[[], str]) -> Iterator[None]:
    """On ctrl-C, exit with 130 and one line that says how to go on; too many failures say it, too."""
    try:
        yield
    except errors.TooManyFailures as problem:
        raise errors.TooManyFailures(f"{problem} {resume_hint()}") from None
    except KeyboardInterrupt:
        raise main.CommandFailed(f"Stopped. {resume_hint()}", 130) from None
