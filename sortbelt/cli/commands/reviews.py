"""`sortbelt reviews`: list the reviews of results, export their images, and import annotations."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import click

from sortbelt.bulk import label_studio, review_export
from sortbelt.cli import terminal
from sortbelt.cli.commands import _client, _completion, _options
from sortbelt.client import filters as filter_types
from sortbelt.client import responses
from sortbelt.client.sync_client import Client

HEADERS = ("result", "image", "model label", "confidence", "verdict", "label", "strategy", "reviewed", "note")
FILTER_OPTIONS = (
    click.option("--model", help="Only reviews of results by this model.", shell_complete=_completion.models),
    click.option("--version", help="Only reviews of results by this version."),
    click.option(
        "--job", metavar="JOB", help="Only reviews of the images of this job.", shell_complete=_completion.jobs
    ),
    click.option("--label", help="Only reviews with this label.", shell_complete=_completion.labels),
    _options.since_option,
    _options.until_option,
)


filter_options = _options.combine(FILTER_OPTIONS)
"""Adds the options that filter reviews."""


@click.group()
def reviews() -> None:
    """List reviews of results, and export the reviewed images for training.

    \b
    Examples:
      sortbelt reviews list --label sushi
      sortbelt reviews export --into photos
      sortbelt reviews import label-studio.json
    """


@reviews.command("list")
@filter_options
@click.option("--verdict", type=click.Choice(get_args(filter_types.Verdict)), help="Only reviews with this verdict.")
@click.option(
    "--strategy",
    type=click.Choice(get_args(filter_types.Strategy)),
    help="Only images that the queue chose in this way.",
)
@click.option("--history", is_flag=True, help="Also reviews that were replaced or withdrawn.")
@_client.client_options()
def list_reviews(client: Client, *, as_json: bool, **filters: Any) -> None:
    """List reviews, newest first.

    \b
    Examples:
      sortbelt reviews list --model sushi-or-sandwich
      sortbelt reviews list --verdict none_of_these --json
    """
    terminal.print_items("reviews", client.reviews(**filters), HEADERS, _to_row, as_json=as_json)


@reviews.command()
@click.option("--into", metavar="FOLDER", required=True, type=click.Path(file_okay=False), help="Folder to write to.")
@filter_options
@_client.client_options(_client.LONG_RUN_RETRY)
def export(client: Client, *, into: str, as_json: bool, **filters: Any) -> None:
    """Write the reviewed images into one folder per label, as `python -m model.train` reads them.

    Each image is named by the SHA-256 of its bytes, so the same bytes are there once. The same command again
    does only what is left, and moves images whose review has another label by now. Images without a label are
    left out. Exits with 1 if the server does not have all images any more.

    \b
    Examples:
      sortbelt reviews export --into photos
      sortbelt reviews export --into photos --model sushi-or-sandwich --since 2026-01-31T00:00:00Z
    """
    exporter = review_export.ReviewExporter(into, client.image_bytes)
    outcomes: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    for review in client.reviews(**filters):
        outcome = exporter.export(review)
        outcomes[outcome] += 1
        if outcome is review_export.Outcome.GONE:
            _options.print_stderr(f"{outcome}: {review.image} (image {review.image_id})")
        elif review.label is not None and outcome is not review_export.Outcome.SAME_BYTES:
            labels[review.label] += 1
    if as_json:
        print(terminal.to_json_line({"labels": dict(labels), "outcomes": dict(outcomes)}))
    else:
        terminal.print_table(("label", "images"), labels.most_common())
        _options.print_stderr(", ".join(f"{n} {outcome}" for outcome, n in outcomes.items()) or "There are no reviews.")
    sys.exit(1 if outcomes[review_export.Outcome.GONE] else 0)


@reviews.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_client.client_options(_client.LONG_RUN_RETRY)
def import_reviews(client: Client, file: Path, *, as_json: bool) -> None:
    """Review results as people have annotated them in Label Studio: FILE is its export as JSON.

    The tasks are those of `sortbelt results --format labelstudio`. The choices `none_of_these` and
    `bad_image` are verdicts without a label. Tasks without an annotation are left as they are. All
    annotations are checked before the first review; the same command again changes nothing.

    \b
    Examples:
      sortbelt results JOB --format labelstudio --out tasks.json
      sortbelt reviews import project-1.json
    """
    annotations = list(label_studio.read(file))
    counts: Counter[str] = Counter()
    for annotation in annotations:
        if annotation.choice is None:
            counts["not annotated"] += 1
            continue
        label = annotation.choice if annotation.verdict == "label" else None
        client.review(annotation.result_id, label, annotation.verdict)
        counts[annotation.choice] += 1
    if as_json:
        print(terminal.to_json_line({"reviews": dict(counts)}))
    else:
        terminal.print_table(("review", "images"), counts.most_common())


def _to_row(review: responses.Review) -> tuple[object, ...]:
    model_part = (review.result_id, review.image, review.model_label, review.confidence)
    return *model_part, review.verdict, review.label, review.strategy, review.reviewed_at, review.note
