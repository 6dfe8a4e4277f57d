"""`sortbelt keys`: make, list and revoke API keys."""

from collections.abc import Iterable

import click

from sortbelt import records, terminal
from sortbelt.client import Client
from sortbelt.commands import options, serving

HEADS = ("id", "name", "role", "prefix", "created", "revoked")


@click.group()
def keys() -> None:
    """Make, list and revoke API keys (for admins).

    \b
    Examples:
      sortbelt keys create camera-7
      sortbelt keys create analyst --role read
      sortbelt keys list
      sortbelt keys revoke 0198c9a2
    """  # noqa: D301 - click wants the \b as it is


@keys.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["submit", "read", "admin"]),
    default="submit",
    show_default=True,
    help="What it may do.",
)
@options.as_json
@serving.server()
def create(client: Client, name: str, *, role: str, as_json: bool) -> None:
    """Make a key, and print it: it is told only this once.

    \b
    Example:
      SORTBELT_KEY=$(sortbelt keys create camera-7)
    """  # noqa: D301 - click wants the \b as it is
    key = client.create_key(name, role)
    print(terminal.as_json(key.raw) if as_json else key.secret)
    options.tell(f"Keep this key of {key.name} ({key.role}, id {key.id}): it is not shown again.")


@keys.command("list")
@options.as_json
@serving.server()
def list_keys(client: Client, *, as_json: bool) -> None:
    """List all keys.

    \b
    Example:
      sortbelt keys list
    """  # noqa: D301 - click wants the \b as it is
    found = list(client.keys())
    if as_json:
        print(terminal.as_json({"keys": [key.raw for key in found]}))
    else:
        _show(found)


@keys.command()
@click.argument("key_id", metavar="ID")
@options.as_json
@serving.server()
def revoke(client: Client, key_id: str, *, as_json: bool) -> None:
    """Revoke a key: it opens nothing from now on.

    \b
    Example:
      sortbelt keys revoke 0198c9a2
    """  # noqa: D301 - click wants the \b as it is
    key = client.revoke_key(key_id)
    if as_json:
        print(terminal.as_json(key.raw))
    else:
        _show([key])


def _show(found: Iterable[records.Key]) -> None:
    terminal.table(HEADS, ((k.id, k.name, k.role, k.prefix, k.created_at, k.revoked_at) for k in found))
