"""`sortbelt webhooks`: webhook deliveries, replays, and the signing secret."""

import click

from sortbelt import errors
from sortbelt.cli import terminal
from sortbelt.cli.commands import _client
from sortbelt.client import responses
from sortbelt.client.sync_client import Client

HEADERS = ("id", "job", "status", "attempts", "answer", "next attempt", "error")


@click.group()
def webhooks() -> None:
    """List and replay webhook deliveries, and manage the signing secret.

    \b
    Examples:
      sortbelt webhooks list --status failed
      sortbelt webhooks replay ID
      sortbelt webhooks secret
    """


@webhooks.command("list")
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option(
    "--status", type=click.Choice(["pending", "delivered", "failed", "disabled"]), help="Only deliveries in this state."
)
@_client.client_options()
def list_webhooks(client: Client, job_id: str | None, *, status: str | None, as_json: bool) -> None:
    """List webhook deliveries of one job or of all jobs, newest first.

    \b
    Examples:
      sortbelt webhooks list
      sortbelt webhooks list JOB --json
      sortbelt webhooks list --status failed
    """
    terminal.print_items("deliveries", client.deliveries(job_id, status), HEADERS, _to_row, as_json=as_json)


@webhooks.command()
@click.argument("ids", metavar="ID…", nargs=-1)
@click.option("--failed", is_flag=True, help="All deliveries that failed.")
@_client.client_options()
def replay(client: Client, ids: tuple[str, ...], *, failed: bool, as_json: bool) -> None:
    """Send webhooks again, now and with the same ids.

    \b
    Examples:
      sortbelt webhooks replay ID
      sortbelt webhooks replay --failed
    """
    if bool(ids) == failed:
        raise errors.BadInput("Name deliveries by their ids, or use --failed: `sortbelt webhooks list` shows them.")
    delivery_ids = [delivery.id for delivery in client.deliveries(status="failed")] if failed else ids
    replayed = [client.replay(id_) for id_ in delivery_ids]
    terminal.print_items("deliveries", replayed, HEADERS, _to_row, as_json=as_json)


@webhooks.command()
@click.option("--rotate", is_flag=True, help="Create a new secret; the old one signs, too, for a day.")
@_client.client_options()
def secret(client: Client, *, rotate: bool, as_json: bool) -> None:
    """Print the secret that signs the webhooks of your jobs.

    \b
    Examples:
      export WEBHOOK_SECRET=$(sortbelt webhooks secret)
      sortbelt webhooks secret --rotate
    """
    signing_secret = client.rotate_webhook_secret() if rotate else client.webhook_secret()
    print(terminal.to_json_line({"secret": signing_secret}) if as_json else signing_secret)


def _to_row(d: responses.WebhookDelivery) -> tuple[object, ...]:
    return d.id, d.job_id, d.status, d.attempts, d.response_status, d.next_attempt_at, d.error
