"""`sortbelt keys`: make, list, change and revoke API keys."""

from collections.abc import Callable, Iterable
from typing import Any

import click

from sortbelt import records, terminal
from sortbelt.client import Client
from sortbelt.commands import options, serving

HEADS = ("id", "name", "role", "prefix", "created", "expires", "revoked", "limits")
LIMITS = (
    click.option("--images-per-minute", type=options.QUOTA, metavar="N", help="Pictures that it may hand in a minute."),
    click.option("--bytes-per-minute", type=options.QUOTA, metavar="N", help="Bytes of pictures, the same."),
    click.option("--open-images", type=options.QUOTA, metavar="N", help="Pictures without a result at a time."),
    click.option("--open-bytes", type=options.QUOTA, metavar="N", help="Bytes of pictures, the same."),
    click.option("--expires-in", type=options.SPAN, metavar="SPAN", help="Its end, such as in 90d, 12h; or never."),
)


def limits(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what a key may do, and for how long."""
    for option in reversed(LIMITS):
        function = option(function)
    return function


@click.group()
def keys() -> None:
    """Make, list, change and revoke API keys (for admins).

    \b
    Examples:
      sortbelt keys create camera-7 --images-per-minute 600 --expires-in 90d
      sortbelt keys create analyst --role read
      sortbelt keys list
      sortbelt keys set ID --open-images 10000
      sortbelt keys revoke ID
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
@limits
@options.as_json
@serving.server()
def create(client: Client, name: str, *, role: str, as_json: bool, **wanted: options.Given | None) -> None:
    """Make a key, and print it: it is told only this once.

    \b
    What it may do:
      submit  order jobs, and see its own
      read    see everybody's jobs, names, metadata, results and thumbnails; change nothing
      admin   see everybody's, and keep the models and the keys

    A limit is a number, `none`, or `default` for what the server's settings say.

    \b
    Examples:
      SORTBELT_KEY=$(sortbelt keys create camera-7)
      sortbelt keys create dashboard --role read
      sortbelt keys create guest --expires-in 12h --images-per-minute 60 --open-images 1000
    """  # noqa: D301 - click wants the \b as it is
    key = client.create_key(name, role, **_given(wanted))
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


@keys.command("set")
@click.argument("key_id", metavar="ID")
@click.option("--name", help="What it is called in lists.")
@limits
@options.as_json
@serving.server()
def change(client: Client, key_id: str, *, name: str | None, as_json: bool, **wanted: options.Given | None) -> None:
    """Change a key: its name, its limits, or its end; what is not named stays.

    A limit is a number, `none`, or `default` for what the server's settings say.

    \b
    Examples:
      sortbelt keys set ID --images-per-minute 600 --open-bytes none
      sortbelt keys set ID --expires-in never
    """  # noqa: D301 - click wants the \b as it is
    changes: dict[str, Any] = _given(wanted) | ({} if name is None else {"name": name})
    if not changes:
        raise click.UsageError("Say what is to be changed, such as --images-per-minute 600.")
    key = client.change_key(key_id, **changes)
    if as_json:
        print(terminal.as_json(key.raw))
    else:
        _show([key])


@keys.command()
@click.argument("key_id", metavar="ID")
@options.as_json
@serving.server()
def revoke(client: Client, key_id: str, *, as_json: bool) -> None:
    """Revoke a key: it opens nothing from now on.

    \b
    Example:
      sortbelt keys revoke ID
    """  # noqa: D301 - click wants the \b as it is
    key = client.revoke_key(key_id)
    if as_json:
        print(terminal.as_json(key.raw))
    else:
        _show([key])


def _given(wanted: dict[str, options.Given | None]) -> dict[str, int | None]:
    return {name: given.value for name, given in wanted.items() if given is not None}


def _show(found: Iterable[records.Key]) -> None:
    terminal.table(
        HEADS,
        ((k.id, k.name, k.role, k.prefix, k.created_at, k.expires_at, k.revoked_at, _limits(k)) for k in found),
    )


def _limits(key: records.Key) -> str:
    own = {name.replace("_", " "): getattr(key, name) for name in records.QUOTAS}
    return ", ".join(f"{'any' if value == 0 else value} {name}" for name, value in own.items() if value is not None)
