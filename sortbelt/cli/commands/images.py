"""`sortbelt images`: review, resubmit, download or delete the images whose results match filters."""

import itertools
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click

from sortbelt.cli import export, main, terminal
from sortbelt.cli.commands import _client, _completion, _options
from sortbelt.cli.commands import jobs as job_commands
from sortbelt.cli.commands import results as result_commands
from sortbelt.client import operations, responses
from sortbelt.client.sync_client import Client

LEFT_OUT_NAME = "left-out.txt"  # in archives that lack images
MAX_FAULTS = 10  # shown to people
VERDICTS = ("none_of_these", "bad_image")
selection_options = _options.combine(
    (
        click.argument("job_id", metavar="[JOB]", required=False, shell_complete=_completion.jobs),
        result_commands.filter_options,
        result_commands.order_option,
        result_commands.reviewed_option,
        click.option("--limit", type=click.IntRange(min=1), help="Maximum images [default: all that match]."),
        click.option("--dry-run", is_flag=True, help="Only count the images, by label."),
    )
)
"""Adds a job and the options that select results, as for `sortbelt results`."""


@dataclass(frozen=True)
class Selection:
    """Images that match, and how they are counted."""

    ids: list[str]
    counts: Mapping[str, int]
    """Images by label; those without one by status."""

    def __str__(self) -> str:
        return f"{_images(len(self.ids))} ({', '.join(f'{count:,} {key}' for key, count in self.counts.items())})"


@click.group()
def images() -> None:
    """Review, resubmit, download or delete the images whose results match filters.

    The filters are those of `sortbelt results`, which lists the images; at least one, or a job, is needed.
    With --dry-run the images are only counted.

    \b
    Examples:
      sortbelt images review JOB --label sandwich --max-confidence 0.6 --as sushi
      sortbelt images resubmit JOB --with sushi-or-sandwich
      sortbelt images archive --label sushi --out sushi.zip
      sortbelt images delete JOB --max-familiarity 0.02 --dry-run
    """


@images.command()
@selection_options
@click.option(
    "--as",
    "verdict",
    metavar="LABEL",
    required=True,
    help="Label that the images should have, or none_of_these, or bad_image.",
    shell_complete=_completion.labels,
)
@click.option("--note", help="Note stored with each review.")
@_client.client_options(_client.LONG_RUN_RETRY)
def review(client: Client, *, verdict: str, note: str | None, as_json: bool, **chosen: Any) -> None:
    """Give the images that match the filters the same review.

    Exits with 1 if no image matches, or an image cannot have this review.

    \b
    Examples:
      sortbelt images review JOB --label sandwich --max-confidence 0.6 --as sushi --dry-run
      sortbelt images review JOB --max-familiarity 0.02 --not-reviewed --as none_of_these
    """
    selection = _select(client, as_json=as_json, **chosen)
    label, kind = (None, verdict) if verdict in VERDICTS else (verdict, "label")
    outcome = client.review_images(selection.ids, label, kind, note)
    _print_outcome(outcome, f"{_images(outcome['reviewed'])} reviewed.", as_json=as_json)


@images.command()
@selection_options
@click.option(
    "--with",
    "new_model",
    metavar="MODEL",
    help="Model to use [default: that of the images].",
    shell_complete=_completion.models,
)
@click.option("--job-name", metavar="NAME", help="Name of the new job.")
@_client.client_options(_client.LONG_RUN_RETRY)
def resubmit(client: Client, *, new_model: str | None, job_name: str | None, as_json: bool, **chosen: Any) -> None:
    """Classify the images that match the filters again, as a new job per 1,000 images.

    Nothing is uploaded. Without --with, all are classified again by their own model. With --with MODEL, only
    images that MODEL has not labelled.

    \b
    Examples:
      sortbelt images resubmit JOB --error worker_lost
      sortbelt images resubmit --label sushi --since 7d --with sushi-or-sandwich-small
    """
    selection = _select(client, as_json=as_json, **chosen)
    options = {"name": job_name, "model": new_model, "fresh": new_model is None}
    terminal.print_items(
        "jobs",
        _resubmit(client, selection.ids, options),
        job_commands.HEADERS,
        job_commands.to_row,
        as_json=as_json,
        optional=job_commands.COUNT_HEADERS,
    )


def _resubmit(client: Client, ids: Iterable[str], options: Mapping[str, Any]) -> Iterator[responses.Job]:
    for batch in operations.batched(ids):
        job = client.resubmit_images(batch, **options)
        job_commands.print_left_out(job, "their bytes were not stored")
        yield job


@images.command()
@selection_options
@click.option("--out", metavar="FILE", required=True, type=click.Path(dir_okay=False), help="File to write.")
@_client.client_options()
def archive(client: Client, *, out: str, as_json: bool, **chosen: Any) -> None:
    """Download the images that match the filters, as a ZIP file with a folder per label.

    The images are as they were submitted: at most 1,000, with 500 MB. The folder is the reviewed label, or the
    model's label if there is no review. Images whose bytes cannot be read are named in `left-out.txt`; then it
    exits with 1.

    \b
    Example:
      sortbelt images archive JOB --label sushi --max-confidence 0.6 --out unsure.zip
    """
    selection = _select(client, as_json=as_json, **chosen)
    if len(selection.ids) > operations.MAX_SELECTED:
        raise click.UsageError(
            f"{len(selection.ids):,} images match, but an archive holds {operations.MAX_SELECTED:,}: add filters, or "
            f"--limit {operations.MAX_SELECTED}."
        )
    with export.open_output(out, binary=True) as file:
        file.writelines(client.archive_images(selection.ids))
    left_out = len(selection.ids) - _count_archived(out) if out != "-" else 0
    if as_json and out != "-":
        print(terminal.to_json_line({"images": len(selection.ids) - left_out, "left_out": left_out, "file": out}))
    if left_out:
        _options.print_stderr(f"{_images(left_out)} left out: {LEFT_OUT_NAME} in {out} has the names and the reasons.")
        sys.exit(1)


def _count_archived(path: str) -> int:
    """Return the number of images in a ZIP file of the server."""
    with zipfile.ZipFile(path) as archive:
        return sum(name != LEFT_OUT_NAME for name in archive.namelist())


@images.command()
@selection_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@_client.client_options(_client.LONG_RUN_RETRY)
def delete(client: Client, *, yes: bool, as_json: bool, **chosen: Any) -> None:
    """Delete the images that match the filters, with their bytes and results.

    This cannot be undone; a receipt of each is printed. Exits with 1 if no image matches, or an image cannot
    be deleted.

    \b
    Examples:
      sortbelt images delete JOB --max-familiarity 0.02 --dry-run
      sortbelt images delete JOB --max-familiarity 0.02
      sortbelt images delete --until 2026-01-31 --status failed --yes
    """
    selection = _select(client, as_json=as_json, **chosen)
    if not yes:
        click.confirm(f"Delete {terminal.escape(str(selection))} for good?", abort=True, err=True)
    outcome = client.delete_images(selection.ids)
    if not as_json:
        job_commands.print_image_receipts(outcome["deleted"])
    _print_outcome(outcome, f"{_images(len(outcome['deleted']))} deleted.", as_json=as_json)


def _select(
    client: Client, job_id: str | None, *, order: Any, limit: int | None, dry_run: bool, as_json: bool, **filters: Any
) -> Selection:
    """Return the images that match; with `dry_run`, print their counts and exit.

    Raises:
        click.UsageError: there is neither a job nor a filter.
        main.CommandFailed: no image matches.
    """
    if job_id is None and all(value is None for value in filters.values()):
        raise click.UsageError("Name a job, or at least one filter: without, these are the images of all jobs.")
    rows = client.results(job_id, order=order, **filters)
    ids, counts = [], Counter[str]()
    for result in itertools.islice(rows, limit):
        ids.append(result.id)
        counts[result.label or result.status] += 1
    selection = Selection(ids, dict(counts.most_common()))
    if not ids:
        raise main.CommandFailed("No image matches; `sortbelt results` shows what a filter gives.", 1)
    if not dry_run:
        return selection
    if as_json:
        print(terminal.to_json_line({"images": len(ids), "labels": selection.counts}))
    else:
        terminal.print_table(("label", "images"), selection.counts.items())
    raise click.exceptions.Exit(0)


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _print_outcome(outcome: Mapping[str, Any], message: str, *, as_json: bool) -> None:
    """Print what was done and the images that were left as they are; exit with 1 if there are some."""
    faults = outcome["failed"]
    if as_json:
        print(terminal.to_json_line(outcome))
    else:
        _options.print_stderr(message)
        for fault in faults[:MAX_FAULTS]:
            _options.print_stderr(f"Image {fault['image_id']}: {fault['detail']}")
        if len(faults) > MAX_FAULTS:
            _options.print_stderr(f"{len(faults) - MAX_FAULTS:,} more left as they are: --json lists them.")
    sys.exit(1 if faults else 0)
