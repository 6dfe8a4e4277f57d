"""`sortbelt sources`: the folders and buckets that the server reads itself."""

import click

from sortbelt.cli import terminal
from sortbelt.cli.commands import _client, _options
from sortbelt.client.sync_client import Client


@click.command()
@_client.client_options()
def sources(client: Client, *, as_json: bool) -> None:
    """List the sources whose images the server reads itself.

    Admins see their addresses, too. The server's setting SORTBELT_SOURCES defines them.

    \b
    Examples:
      sortbelt sources
      sortbelt enqueue --on-server camera/january
    """
    rows = [(source.name, source.address) for source in client.sources()]
    if as_json:
        print(terminal.to_json_line({"sources": [{"name": name, "address": address} for name, address in rows]}))
        return
    terminal.print_table(("source", "address"), rows)
    if not rows:
        _options.print_stderr("The server has no sources: its setting SORTBELT_SOURCES defines them.")
