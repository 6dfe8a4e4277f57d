"""`sortbelt submit`: some pictures, named one by one, as one job."""

import sys

import click

from sortbelt import export, terminal
from sortbelt.client import Client
from sortbelt.commands import jobs, options, serving


@click.command()
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path())
@click.option("--wait", "stay", is_flag=True, help="Stay until it has ended, and show the results.")
@click.option("--model", help="Model to use [default: the server's].")
@click.option("--priority", type=click.Choice(["interactive", "bulk"]), default="interactive", show_default=True)
@options.as_json
@serving.server(serving.PATIENT)
def submit(
    client: Client, files: tuple[str, ...], *, stay: bool, model: str | None, priority: str, as_json: bool
) -> None:
    """Submit some pictures as one job.

    With --wait, exits with 0 if every image was classified, else with 1.

    \b
    Examples:
      sortbelt submit lunch.jpg --wait
      sortbelt submit *.jpg --json
    """  # noqa: D301 - click wants the \b as it is
    job = client.submit(files, model=model, priority=priority)
    if not stay:
        jobs.show(job, as_json=as_json)
        return
    job = jobs.stay(client, job.id)
    results = client.results(job.id)
    if as_json:
        print(terminal.as_json({**job.raw, "results": [result.raw for result in results]}))
    else:
        export.as_table(results, sys.stdout)
    sys.exit(0 if job.all_well else 1)
