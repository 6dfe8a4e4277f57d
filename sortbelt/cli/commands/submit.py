"""`sortbelt submit`: images, named one by one, as one job."""

import sys

import click

from sortbelt.cli import export, terminal
from sortbelt.cli.commands import _client, _options, jobs
from sortbelt.client import image_files
from sortbelt.client.sync_client import Client


@click.command()
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path())
@click.option("--wait", is_flag=True, help="Wait until the job has ended, and show the results.")
@_options.name_option
@_options.model_option
@_options.priority_option("interactive")
@_options.webhook_option
@click.option(
    "--custom-id",
    "custom_ids",
    metavar="ID",
    multiple=True,
    help="Your own identifier; one for each FILE, in the same order.",
)
@_client.client_options(_client.LONG_RUN_RETRY)
def submit(
    client: Client,
    files: tuple[str, ...],
    *,
    wait: bool,
    name: str | None,
    model: str | None,
    priority: str,
    webhook: str | None,
    custom_ids: tuple[str, ...],
    as_json: bool,
) -> None:
    """Submit images as one job.

    With --wait, exits with 0 if every image was classified, else with 1.

    \b
    Examples:
      sortbelt submit lunch.jpg --wait
      sortbelt submit *.jpg --json
      sortbelt submit *.jpg --webhook https://example.com/labels
      sortbelt submit lunch.jpg dinner.jpg --custom-id order-1 --custom-id order-2
    """
    if custom_ids and len(custom_ids) != len(files):
        raise click.UsageError(f"Give one --custom-id for each FILE: {len(custom_ids)} for {len(files)} files.")
    names = [image.name for image in image_files.from_files(files)]
    ids = dict(zip(names, custom_ids, strict=True)) if custom_ids else None
    job = client.submit(files, name=name, model=model, priority=priority, webhook=webhook, custom_ids=ids)
    if not wait:
        jobs.print_job(job, as_json=as_json)
        return
    ended_job = jobs.wait_for_job(client, job.id)
    results = client.results(job.id)
    if as_json:
        print(terminal.to_json_line({**ended_job.raw, "results": [result.raw for result in results]}))
    else:
        export.write_table(results, sys.stdout)
    sys.exit(0 if ended_job.all_well else 1)
