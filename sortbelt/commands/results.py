"""`sortbelt results`: what came of a job's images, or a search among all jobs."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import click

from sortbelt import export, records
from sortbelt.client import Client
from sortbelt.commands import options, serving

MOST_UNASKED = 100  # of a search; a job's results are shown whole


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option("--label", help="Only images with this label.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="Only labels at least so sure.")
@click.option("--max-confidence", type=click.FloatRange(0, 1), help="Only labels at most so sure.")
@click.option(
    "--status", type=click.Choice(["done", "failed", "cancelled", "expired"]), help="Only images that ended so."
)
@click.option("--error", metavar="CODE", help="Only images that failed with this code.")
@click.option("--since", metavar="TIME", help="Only results from this time on, such as 2026-01-31T12:00:00Z.")
@click.option("--model", help="Only results of this model.")
@click.option("--name", metavar="TEXT", help="Only images with this text in their name.")
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"At most so many [default: all of a job; else {MOST_UNASKED}]."
)
@click.option(
    "--format", "form", type=click.Choice(list(export.WRITERS)), help="[default: by --out's suffix, or table]"
)
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="Write to a file.")
@options.as_json
@serving.server()
def results(
    client: Client,
    job_id: str | None,
    *,
    limit: int | None,
    form: str | None,
    out: str | None,
    as_json: bool,
    **filters: str | float | None,
) -> None:
    """Show the results of a job, or find results among all jobs.

    \b
    Examples:
      sortbelt results 0198c9a2
      sortbelt results 0198c9a2 --status failed
      sortbelt results --label sushi --max-confidence 0.6 --limit 50
      sortbelt results 0198c9a2 --out labels.csv
    """  # noqa: D301 - click wants the \b as it is
    found = _find(client, job_id, filters)
    limit = limit or (None if job_id or out else MOST_UNASKED)
    form = "json" if as_json else form or _by_suffix(out)
    with export.target(out) as file:
        export.WRITERS[form](itertools.islice(found, limit), file)
    if limit == MOST_UNASKED and next(found, None):
        options.tell(f"There are more than these {limit}: --limit or --out gets them.")


def _find(client: Client, job_id: str | None, filters: dict[str, str | float | None]) -> Iterator[records.Result]:
    if not job_id:
        return client.search(**filters)
    if all(value is None for value in filters.values()):
        return client.results(job_id)
    client.job(job_id)  # a job that does not exist shall not look like one without results
    return client.search(job=job_id, **filters)


def _by_suffix(out: str | None) -> str:
    suffix = Path(out or "").suffix.lstrip(".").lower()
    return suffix if suffix in export.WRITERS else "table"
