"""`sortbelt submit`: some pictures, named one by one, as one job."""

import sys

import click

from sortbelt import export, pictures, terminal
from sortbelt.client import Client
from sortbelt.commands import jobs, options, serving


@click.command()
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path())
@click.option("--wait", "stay", is_flag=True, help="Stay until it has ended, and show the results.")
@click.option("--model", help="Model to use [default: the server's].")
@click.option("--priority", type=click.Choice(["interactive", "bulk"]), default="interactive", show_default=True)
@options.webhook
@click.option(
    "--custom-id", "ids", metavar="ID", multiple=True, help="Your own identifier; one for each FILE, in order."
)
@options.as_json
@serving.server(serving.PATIENT)
def submit(
    client: Client,
    files: tuple[str, ...],
    *,
    stay: bool,
    model: str | None,
    priority: str,
    webhook: str | None,
    ids: tuple[str, ...],
    as_json: bool,
) -> None:
    """Submit some pictures as one job.

    With --wait, exits with 0 if every image was classified, else with 1.

    \b
    Examples:
      sortbelt submit lunch.jpg --wait
      sortbelt submit *.jpg --json
      sortbelt submit *.jpg --webhook https://example.com/labels
      sortbelt submit lunch.jpg dinner.jpg --custom-id order-1 --custom-id order-2
    """  # noqa: D301 - click wants the \b as it is
    if ids and len(ids) != len(files):
        raise click.UsageError(f"--custom-id is wanted for each FILE: there are {len(files)}, and {len(ids)} of it.")
    names = [picture.name for picture in pictures.named(files)]
    custom_ids = dict(zip(names, ids, strict=True)) if ids else None
    job = client.submit(files, model=model, priority=priority, webhook=webhook, custom_ids=custom_ids)
    if not stay:
        jobs.show(job, as_json=as_json)
        return
    ended = jobs.stay(client, job.id)
    results = client.results(job.id)
    if as_json:
        print(terminal.as_json({**ended.raw, "results": [result.raw for result in results]}))
    else:
        export.as_table(results, sys.stdout)
    sys.exit(0 if ended.all_well else 1)
