"""`sortbelt results` and `stats`: what came of a job's images, or of all; as lists and as numbers."""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sortbelt import export, terminal
from sortbelt.client import Client
from sortbelt.commands import options, serving

MOST_UNASKED = 100  # of a search; a job's results are shown whole
SUFFIXES = {"jsonl": "ndjson", **{form: form for form in export.FORMS}}

FILTERS = (
    click.option("--label", help="Only images with this label."),
    click.option("--min-confidence", type=click.FloatRange(0, 1), help="Only labels at least so sure."),
    click.option("--max-confidence", type=click.FloatRange(0, 1), help="Only labels at most so sure."),
    click.option(
        "--status", type=click.Choice(["done", "failed", "cancelled", "expired"]), help="Only images that ended so."
    ),
    click.option("--error", metavar="CODE", help="Only images that failed with this code."),
    click.option("--since", metavar="TIME", help="Only results from this time on, such as 2026-01-31T12:00:00Z."),
    click.option("--until", metavar="TIME", help="Only results from before this time."),
    click.option("--model", help="Only results of this model."),
    click.option("--owner", metavar="KEY_ID", help="Only results of this key, for who sees all."),
    click.option("--name", metavar="TEXT", help="Only images with this text in their name."),
    click.option("--custom-id", metavar="ID", help="Only images that were given this identifier."),
)


def filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which results."""
    for option in reversed(FILTERS):
        function = option(function)
    return function


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False)
@filters
@click.option(
    "--order",
    type=click.Choice(["newest", "confidence"]),
    help="In which order; `confidence` has the least sure first.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"At most so many [default: all of a job; else {MOST_UNASKED}]."
)
@click.option("--format", "form", type=click.Choice(export.FORMS), help="[default: by --out's suffix, or table]")
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
    **wanted: str | float | None,
) -> None:
    """Show the results of a job, or find results among all jobs.

    A file appears only when it is whole. Parquet and Label Studio predictions are made by the server.

    \b
    Examples:
      sortbelt results JOB
      sortbelt results JOB --status failed
      sortbelt results --label sushi --max-confidence 0.6 --order confidence --limit 50
      sortbelt results JOB --out labels.csv
      sortbelt results --since 2026-01-31T00:00:00Z --out january.parquet
    """  # noqa: D301 - click wants the \b as it is
    limit = limit or (None if job_id or out else MOST_UNASKED)
    form = "json" if as_json else form or SUFFIXES.get(Path(out or "").suffix.lstrip(".").lower(), "table")
    if form in export.SERVERS:
        _download(client, form, out, job_id, {**wanted, "limit": limit})
        return
    found = iter(client.results(job_id, **wanted) if job_id else client.search(**wanted))
    with export.target(out) as file:
        export.WRITERS[form](itertools.islice(found, limit), file)
    if limit == MOST_UNASKED and next(found, None):
        options.tell(f"There are more than these {limit}: --limit or --out gets them.")


def _download(
    client: Client, form: str, out: str | None, job_id: str | None, wanted: dict[str, str | float | None]
) -> None:
    """Have the server make a file, and write it piece by piece."""
    if form == "parquet" and out in {None, "-"} and sys.stdout.isatty():
        raise click.UsageError("Parquet is nothing for a terminal: name a file with --out.")
    if job_id:
        client.job(job_id)  # a job that does not exist shall not look like one without results
    with export.target(out, binary=True) as file:
        for piece in client.export(export.SERVERS[form], job_id, **wanted):
            file.write(piece)


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option(
    "--group",
    type=click.Choice(["label", "status", "error", "model", "day", "hour"]),
    default="label",
    show_default=True,
    help="By what they are told apart.",
)
@filters
@options.as_json
@serving.server()
def stats(client: Client, job_id: str | None, *, group: str, as_json: bool, **wanted: str | float | None) -> None:
    """Count results, by label or by whatever else tells them apart.

    \b
    Examples:
      sortbelt stats
      sortbelt stats JOB --group status
      sortbelt stats --group day --since 2026-01-01T00:00:00Z --json
    """  # noqa: D301 - click wants the \b as it is
    found = client.stats(group, **({"job": job_id} | wanted))
    if as_json:
        print(terminal.as_json({"stats": found}))
    else:
        heads = (group, "images", "mean confidence")
        terminal.table(heads, ((one["key"], one["count"], one["confidence"]) for one in found))
