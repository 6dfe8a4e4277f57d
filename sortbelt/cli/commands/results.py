"""`sortbelt results` and `stats`: results of a job or of all jobs, as lists and as counts."""

import itertools
import sys
from pathlib import Path
from typing import Any, get_args

import click

from sortbelt.cli import export, terminal
from sortbelt.cli.commands import _client, _completion, _options
from sortbelt.cli.commands import _review_stats as review_stats
from sortbelt.client import filters as filter_types
from sortbelt.client.sync_client import Client

DEFAULT_LIMIT = 100  # rows of a search; the results of a job are shown completely
MAX_SERVER_LIMIT = 1000
GROUPS = get_args(filter_types.Group)
TABLE_SUFFIXES = ("", "txt", "tsv", "tab")
FORMAT_BY_SUFFIX = {"jsonl": "ndjson", **{name: name for name in export.FORMATS}}

FILTER_OPTIONS = (
    click.option("--label", help="Only images with this label.", shell_complete=_completion.labels),
    click.option("--min-confidence", type=click.FloatRange(0, 1), help="Only labels of at least this confidence."),
    click.option("--max-confidence", type=click.FloatRange(0, 1), help="Only labels of at most this confidence."),
    click.option("--min-familiarity", type=click.FloatRange(0, 1), help="Only images of at least this familiarity."),
    click.option("--max-familiarity", type=click.FloatRange(0, 1), help="Only images of at most this familiarity."),
    click.option("--status", type=click.Choice(get_args(filter_types.Status)), help="Only images with this status."),
    click.option("--error", metavar="CODE", help="Only images that failed with this code."),
    _options.since_option,
    _options.until_option,
    click.option(
        "--model",
        metavar="NAME[@VERSION]",
        help="Only results of this model, or of one version of it.",
        shell_complete=_completion.versions,
    ),
    click.option("--version", help="Only results of this version of a model."),
    _options.owner_option,
    click.option("--name", metavar="TEXT", help="Only images with this text in their name."),
    click.option("--custom-id", metavar="ID", help="Only images with this identifier."),
)


filter_options = _options.combine(FILTER_OPTIONS)
"""Adds the options that filter results."""
order_option = click.option(
    "--order",
    type=click.Choice(get_args(filter_types.Order)),
    help="Sort order; `confidence` is the least confident first, `familiarity` the least familiar.",
)
reviewed_option = click.option(
    "--reviewed/--not-reviewed", default=None, help="Only results with, or without, a review."
)


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False, shell_complete=_completion.jobs)
@filter_options
@order_option
@reviewed_option
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"Maximum rows [default: all of a job or file; else {DEFAULT_LIMIT}]."
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(export.FORMATS),
    help="Format of the output [default: by the suffix of --out, or table].",
)
@click.option("--scores", is_flag=True, help="Show the highest scores in the table, too, however narrow the terminal.")
@click.option("--excel", is_flag=True, help="CSV with a byte order mark, so that spreadsheets read UTF-8.")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="Write to a file.")
@_client.client_options()
def results(
    client: Client,
    job_id: str | None,
    *,
    limit: int | None,
    output_format: str | None,
    scores: bool,
    excel: bool,
    out: str | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """Show the results of a job, or search the results of all jobs.

    A file appears only when it is complete. CSV, NDJSON, Parquet and Label Studio predictions are made by
    the server.

    \b
    Examples:
      sortbelt results JOB
      sortbelt results JOB --status failed
      sortbelt results --label sushi --max-confidence 0.6 --order confidence --limit 50
      sortbelt results --max-familiarity 0.02 --order familiarity
      sortbelt results JOB --out labels.csv --excel
      sortbelt results --since yesterday --model sushi-or-sandwich@2 --out new.parquet
    """
    output_format = _choose_format(output_format, out or "", as_json=as_json, excel=excel)
    is_whole_file = output_format in export.STREAM_FORMATS.keys() - export.ROW_FORMATS
    if is_whole_file and limit and limit > MAX_SERVER_LIMIT:
        raise click.UsageError(
            f"--limit of {output_format} is at most {MAX_SERVER_LIMIT:,}: leave it out for all rows."
        )
    limit = limit or (None if job_id or out or is_whole_file else DEFAULT_LIMIT)
    if excel and output_format != "csv":
        raise click.UsageError(f"--excel works only with CSV, not with the format {output_format}.")
    if output_format in export.ROW_FORMATS:
        media_type = export.EXCEL_MEDIA_TYPE if excel else export.STREAM_FORMATS[output_format]
        has_more = _download_rows(client, output_format, media_type, out, job_id, limit, filters)
    elif output_format in export.STREAM_FORMATS:
        has_more = _download(client, output_format, out, job_id, {**filters, "limit": limit})
    else:
        rows = iter(client.results(job_id, **filters) if job_id else client.search(**filters))
        with export.open_output(out) as file:
            shown = itertools.islice(rows, limit)
            if output_format == "json":
                export.write_json(shown, file)
            else:
                export.write_table(shown, file, scores=scores)
        has_more = limit == DEFAULT_LIMIT and next(rows, None) is not None
    if has_more and limit == DEFAULT_LIMIT:
        _options.print_stderr(f"There are more than these {limit}: --limit or --out gets them.")


def _choose_format(output_format: str | None, out: str, *, as_json: bool, excel: bool) -> str:
    """Return the format that the options ask for.

    Raises:
        click.UsageError: they contradict each other, or the suffix of the file is that of no format.
    """
    if as_json and output_format not in {None, "json"}:
        raise click.UsageError(f"--json and --format {output_format} differ: give one of them.")
    if as_json or output_format:
        return output_format or "json"
    suffix = Path(out).suffix.lstrip(".").lower()
    if suffix in FORMAT_BY_SUFFIX:
        return FORMAT_BY_SUFFIX[suffix]
    if suffix not in TABLE_SUFFIXES and not excel:
        known = ", ".join(f".{name}" for name in FORMAT_BY_SUFFIX if name not in {"table", "labelstudio"})
        raise click.UsageError(f"The suffix .{suffix} of {out} names no format: use {known} or .txt, or add --format.")
    return "csv" if excel else "table"


def _download_rows(
    client: Client,
    output_format: str,
    media_type: str,
    out: str | None,
    job_id: str | None,
    limit: int | None,
    filters: dict[str, Any],
) -> bool:
    """Write the server's rows; return whether there are more than `limit`."""
    server_limit = limit + 1 if limit and limit < MAX_SERVER_LIMIT else None
    chunks = client.export(media_type, job_id, **filters, limit=server_limit)
    rows = export.split_rows(chunks, output_format) if limit else iter(chunks)
    with export.open_output(out, binary=True) as file:
        file.writelines(itertools.islice(rows, limit and limit + (output_format == "csv")))
        return limit is not None and next(rows, None) is not None


def _download(client: Client, output_format: str, out: str | None, job_id: str | None, filters: dict[str, Any]) -> bool:
    """Write the server's file chunk by chunk."""
    if output_format == "parquet" and out in {None, "-"} and sys.stdout.isatty():
        raise click.UsageError("Parquet cannot be shown on a terminal: name a file with --out.")
    with export.open_output(out, binary=True) as file:
        file.writelines(client.export(export.STREAM_FORMATS[output_format], job_id, **filters))
    return False


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False, shell_complete=_completion.jobs)
@click.option(
    "--group",
    type=click.Choice(GROUPS),
    default="label",
    show_default=True,
    help="Property to group by; of `confidence` and `familiarity`, ranges of a tenth.",
)
@click.option("--by", type=click.Choice(GROUPS), help="A second property, which divides each group.")
@filter_options
@click.option("--reviewed", is_flag=True, help="Show what reviews say of each version instead.")
@_client.client_options()
def stats(
    client: Client,
    job_id: str | None,
    *,
    group: filter_types.Group,
    by: filter_types.Group | None,
    reviewed: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Count results by label, or by another property; or show how often the model was right.

    With --reviewed: accuracy, precision and recall of each version, estimated from the reviews of randomly
    drawn images, with 95 % intervals. It takes the filters --model, --since and --until.

    \b
    Examples:
      sortbelt stats
      sortbelt stats --reviewed --model sushi-or-sandwich
      sortbelt stats JOB --group status
      sortbelt stats --group confidence --by label
      sortbelt stats --group error --status failed --since 7d
      sortbelt stats --group day --since 30d --json
    """
    if reviewed:
        review_stats.show(client, job_id, filters, as_json=as_json)
        return
    groups = client.stats(group, by, **({"job": job_id} | filters))
    if as_json:
        print(terminal.to_json_line({"stats": groups}))
        return
    headers = (group, *([by] if by else []), "images", "mean confidence")
    columns = ("key", *(["by"] if by else []), "count", "confidence")
    rows = ([row.get(column) for column in columns] for row in groups)
    terminal.print_table(headers, rows)
