"""Completions by the tab key that ask the server: ids of jobs, labels, and models."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from sortbelt import errors

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from sortbelt.client.responses import Job
    from sortbelt.client.sync_client import Client

MAX_JOBS = 50
TIMEOUT_SECONDS = 2.0
Completion = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def _from_server(list_items: Callable[["Client"], Iterable[tuple[str, str]]]) -> Completion:
    """Return a completion of (value, help) pairs; without a server or a key there is nothing to complete."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - most commands never complete

        from sortbelt.client import discovery, sync_client, transport  # noqa: PLC0415

        try:
            config = discovery.find_server(None)
            no_retry = transport.RetryPolicy(down=0.0, busy=0.0)
            with sync_client.Client(config.url, config.key, timeout=TIMEOUT_SECONDS, retry_policy=no_retry) as client:
                items = dict(list_items(client))
        except errors.SortbeltError:
            return []
        return [CompletionItem(value, help=text) for value, text in items.items() if value.startswith(incomplete)]

    return complete


def _describe(job: "Job") -> str:
    return f"{job.name or 'without a name'}, {job.outcome}"


jobs = _from_server(
    lambda client: [(job.id, _describe(job)) for _, job in zip(range(MAX_JOBS), client.jobs(), strict=False)]
)
labels = _from_server(lambda client: [(label, one.title) for one in client.models() for label in one.labels])
models = _from_server(lambda client: [(one.name, one.version) for one in client.models() if one.stage == "live"])
versions = _from_server(lambda client: [(one.title, one.stage) for one in client.models()])
