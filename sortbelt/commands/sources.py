"""`sortbelt sources`: where the server finds pictures that need not be sent."""

import click

from sortbelt import terminal
from sortbelt.client import Client
from sortbelt.commands import options, serving


@click.command()
@options.as_json
@serving.server()
def sources(client: Client, *, as_json: bool) -> None:
    """List where the server finds pictures that need not be sent.

    Admins see where each is, too. SORTBELT_SOURCES of the server lists them.

    \b
    Examples:
      sortbelt sources
      sortbelt enqueue --on-server camera/january
    """  # noqa: D301 - click wants the \b as it is
    found = client.sources()
    if as_json:
        print(terminal.as_json({"sources": [{"name": one.name, "address": one.address} for one in found]}))
        return
    terminal.table(("source", "address"), [(one.name, one.address or "") for one in found])
    if not found:
        options.tell("There are none: SORTBELT_SOURCES of the server lists them.")
