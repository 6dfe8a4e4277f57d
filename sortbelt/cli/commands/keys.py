"""`sortbelt keys`: create, list, change and revoke API keys."""

from typing import Any

import click

from sortbelt.cli import terminal
from sortbelt.cli.commands import _client, _options
from sortbelt.client import responses
from sortbelt.client.responses import administration
from sortbelt.client.sync_client import Client

HEADERS = ("id", "name", "role", "prefix", "created", "expires", "revoked", "limits")
LIMIT_OPTIONS = (
    click.option(
        "--images-per-minute", type=_options.QUOTA, metavar="N", help="Images that the key may submit per minute."
    ),
    click.option(
        "--bytes-per-minute", type=_options.QUOTA, metavar="N", help="Bytes that the key may submit per minute."
    ),
    click.option("--open-images", type=_options.QUOTA, metavar="N", help="Most images without a result at a time."),
    click.option(
        "--open-bytes", type=_options.QUOTA, metavar="N", help="Most bytes of images without a result at a time."
    ),
    click.option(
        "--work-seconds-per-minute",
        type=_options.QUOTA,
        metavar="N",
        help="Seconds that decoding and classifying its images may take per minute.",
    ),
    click.option(
        "--expires-in",
        type=_options.DURATION,
        metavar="DURATION",
        help="Time until the key expires: 90d, 12h, or never.",
    ),
)
limit_options = _options.combine(LIMIT_OPTIONS)
"""Adds the options for quotas and expiry."""


@click.group()
def keys() -> None:
    """Create, list, change and revoke API keys (for admins).

    \b
    Examples:
      sortbelt keys create camera-7 --images-per-minute 600 --expires-in 90d
      sortbelt keys create analyst --role read
      sortbelt keys list
      sortbelt keys set ID --open-images 10000
      sortbelt keys revoke ID
    """


@keys.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["submit", "read", "review", "admin"]),
    default="submit",
    show_default=True,
    help="What the key may do.",
)
@limit_options
@_client.client_options()
def create(client: Client, name: str, *, role: str, as_json: bool, **limit_values: _options.OptionValue | None) -> None:
    """Create a key, and print it: it is shown only once.

    \b
    Roles:
      submit  submit jobs, and see the key's own
      read    see all jobs, names, metadata, results and thumbnails; change nothing
      review  see what `read` sees, download the images, and review results
      admin   see all jobs, and manage models and keys

    A limit is a number, `none`, or `default` for the server's setting.

    \b
    Examples:
      SORTBELT_KEY=$(sortbelt keys create camera-7)
      sortbelt keys create dashboard --role read
      sortbelt keys create trial --expires-in 12h --images-per-minute 60 --open-images 1000
    """
    key = client.create_key(name, role, **_explicit_limits(limit_values))
    print(terminal.to_json_line(key.raw) if as_json else key.secret)
    _options.print_stderr(f"Save the key of {key.name} ({key.role}, id {key.id}) now: it is not shown again.")


@keys.command("list")
@_client.client_options()
def list_keys(client: Client, *, as_json: bool) -> None:
    """List all keys.

    \b
    Example:
      sortbelt keys list
    """
    terminal.print_items("keys", client.keys(), HEADERS, _to_row, as_json=as_json)


@keys.command("set")
@click.argument("key_id", metavar="ID")
@click.option("--name", help="New name of the key.")
@limit_options
@_client.client_options()
def change(
    client: Client, key_id: str, *, name: str | None, as_json: bool, **limit_values: _options.OptionValue | None
) -> None:
    """Change a key's name, limits or expiry; options that are not given leave their values as they are.

    A limit is a number, `none`, or `default` for the server's setting.

    \b
    Examples:
      sortbelt keys set ID --images-per-minute 600 --open-bytes none
      sortbelt keys set ID --expires-in never
    """
    changes: dict[str, Any] = _explicit_limits(limit_values) | ({} if name is None else {"name": name})
    if not changes:
        raise click.UsageError("Name at least one change, such as --images-per-minute 600.")
    terminal.print_item(client.change_key(key_id, **changes), HEADERS, _to_row, as_json=as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@_client.client_options()
def revoke(client: Client, key_id: str, *, as_json: bool) -> None:
    """Revoke a key: requests with it are rejected from now on.

    \b
    Example:
      sortbelt keys revoke ID
    """
    terminal.print_item(client.revoke_key(key_id), HEADERS, _to_row, as_json=as_json)


def _explicit_limits(limit_values: dict[str, _options.OptionValue | None]) -> dict[str, int | None]:
    return {name: option_value.value for name, option_value in limit_values.items() if option_value is not None}


def _to_row(key: responses.Key) -> tuple[object, ...]:
    times = (key.created_at, key.expires_at, key.revoked_at)
    quotas = {name.replace("_", " "): getattr(key, name) for name in administration.QUOTA_FIELDS}
    limits = [f"{'any' if value == 0 else value} {name}" for name, value in quotas.items() if value is not None]
    return key.id, key.name, key.role, key.prefix, *times, ", ".join(limits)
