"""`sortbelt webhooks`: what has become of webhooks, another try, and the secret that signs them."""

from collections.abc import Iterable

import click

from sortbelt import errors, records, terminal
from sortbelt.client import Client
from sortbelt.commands import options, serving

HEADS = ("id", "job", "status", "attempts", "answer", "next attempt", "error")


@click.group()
def webhooks() -> None:
    """See what has become of webhooks, send them again, and change their secret.

    \b
    Examples:
      sortbelt webhooks list --status failed
      sortbelt webhooks replay ID
      sortbelt webhooks secret
    """  # noqa: D301 - click wants the \b as it is


@webhooks.command("list")
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option(
    "--status", type=click.Choice(["pending", "delivered", "failed", "disabled"]), help="Only those that are so."
)
@options.as_json
@serving.server()
def list_webhooks(client: Client, job_id: str | None, *, status: str | None, as_json: bool) -> None:
    """List webhooks and what has become of them, newest first: of one job, or of all.

    \b
    Examples:
      sortbelt webhooks list
      sortbelt webhooks list JOB --json
      sortbelt webhooks list --status failed
    """  # noqa: D301 - click wants the \b as it is
    _tell(client.deliveries(job_id, status), as_json=as_json)


@webhooks.command()
@click.argument("ids", metavar="ID…", nargs=-1)
@click.option("--failed", is_flag=True, help="All those that were given up.")
@options.as_json
@serving.server()
def replay(client: Client, ids: tuple[str, ...], *, failed: bool, as_json: bool) -> None:
    """Send webhooks once more, at once and under the same id.

    \b
    Examples:
      sortbelt webhooks replay ID
      sortbelt webhooks replay --failed
    """  # noqa: D301 - click wants the \b as it is
    if bool(ids) == failed:
        raise errors.BadInput("Name webhooks by their ids, or say --failed: `sortbelt webhooks list` shows them.")
    wanted = [found.id for found in client.deliveries(status="failed")] if failed else ids
    _tell([client.replay(id_) for id_ in wanted], as_json=as_json)


@webhooks.command()
@click.option("--rotate", is_flag=True, help="Make another; for a day the one before signs, too.")
@options.as_json
@serving.server()
def secret(client: Client, *, rotate: bool, as_json: bool) -> None:
    """Print the secret that signs the webhooks of your jobs.

    \b
    Examples:
      export WEBHOOK_SECRET=$(sortbelt webhooks secret)
      sortbelt webhooks secret --rotate
    """  # noqa: D301 - click wants the \b as it is
    found = client.rotate_webhook_secret() if rotate else client.webhook_secret()
    print(terminal.as_json({"secret": found}) if as_json else found)


def _tell(found: Iterable[records.Delivery], *, as_json: bool) -> None:
    if as_json:
        print(terminal.as_json({"deliveries": [one.raw for one in found]}))
        return
    rows = ((d.id, d.job_id, d.status, d.attempts, d.response_status, d.next_attempt_at, d.error) for d in found)
    terminal.table(HEADS, rows)
