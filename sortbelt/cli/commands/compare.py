"""`sortbelt diff` and `verify`: compare two jobs, or one image's results before and after."""

import dataclasses
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import click

from sortbelt.cli import terminal
from sortbelt.cli.commands import _client, _completion, _options, jobs
from sortbelt.client import responses
from sortbelt.client.sync_client import Client

CHANGED, ONLY_FIRST, ONLY_SECOND = "changed", "only in the first", "only in the second"
NO_RESULT = responses.DiffSide(None, None)
CONFIDENCE_TOLERANCE = 0.01  # another processor, or another batch, rounds differently


@click.command()
@click.argument("first", metavar="JOB_A", shell_complete=_completion.jobs)
@click.argument("second", metavar="JOB_B", shell_complete=_completion.jobs)
@click.option("--limit", type=click.IntRange(min=1), help="Maximum differences to show [default: all].")
@click.option("--pairs", is_flag=True, help="Count the pairs of labels instead of showing images.")
@_client.client_options()
def diff(client: Client, first: str, second: str, *, limit: int | None, pairs: bool, as_json: bool) -> None:
    """Show the images whose labels differ between two jobs.

    Images are matched by name. Exits with 0 if the jobs agree on every image, else with 1.

    \b
    Examples:
      sortbelt diff JOB_A JOB_B
      sortbelt diff JOB_A JOB_B --pairs
      sortbelt diff JOB_A JOB_B --json | jq .counts
    """
    if pairs:
        _print_pairs(client.label_pairs(first, second), limit, as_json=as_json)
    first_job, counts = client.job(first), Counter[str]()
    differences = _count_kinds(client.diff(first, client.job(second).id), counts)
    shown = itertools.islice(differences, limit)
    if as_json:
        rows = [_to_json(difference) for difference in shown]
    else:
        terminal.print_table(
            ("image", "difference", "before", "confidence", "after", "confidence"), map(_to_row, shown)
        )
    for _ in differences:  # the counts include differences not shown
        pass
    if same := first_job.counts.ended - counts[CHANGED] - counts[ONLY_FIRST]:
        counts["same"] = same
    counts = +counts
    if as_json:
        print(terminal.to_json_line({"differences": rows, "counts": dict(counts)}))
    else:
        summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        _options.print_stderr(summary or "Both jobs are empty.")
    sys.exit(0 if counts.total() == counts["same"] else 1)


def _print_pairs(found: Mapping[str, Any], limit: int | None, *, as_json: bool) -> NoReturn:
    """Print how often each label of the first job is which label in the second, and exit."""
    if as_json:
        print(terminal.to_json_line(found))
    else:
        rows = ((pair["a"], pair["b"], pair["count"]) for pair in found["pairs"][:limit])
        terminal.print_table(("before", "after", "images"), rows)
        _options.print_stderr(f"{found['agreeing']:,} of {found['compared']:,} images have the same label in both.")
    sys.exit(0 if found["agreeing"] == found["compared"] else 1)


def _count_kinds(
    differences: Iterable[responses.JobDifference], counts: Counter[str]
) -> Iterator[responses.JobDifference]:
    for difference in differences:
        counts[_kind(difference)] += 1
        yield difference


def _kind(difference: responses.JobDifference) -> str:
    return ONLY_SECOND if difference.a is None else ONLY_FIRST if difference.b is None else CHANGED


def _to_row(difference: responses.JobDifference) -> tuple[object, ...]:
    before, after = difference.a or NO_RESULT, difference.b or NO_RESULT
    kind = _kind(difference)
    return difference.image, kind, before.label, before.confidence, after.label, after.confidence


def _to_json(difference: responses.JobDifference) -> dict[str, object]:
    before, after = difference.a or NO_RESULT, difference.b or NO_RESULT
    return {
        "image": difference.image,
        "difference": _kind(difference),
        "before": dataclasses.asdict(before),
        "after": dataclasses.asdict(after),
    }


@click.command()
@click.argument("result_id", metavar="RESULT")
@_client.client_options()
def verify(client: Client, result_id: str, *, as_json: bool) -> None:
    """Classify the image of a result again, alone, and compare.

    RESULT is the `id` of a result, as in `sortbelt results --json`. Exits with 0 if the label is the same
    and the confidence differs by at most 0.01, else with 1. Reports if the device or the version of a library differs.

    \b
    Examples:
      sortbelt verify 4711
      sortbelt verify 4711 --json
    """
    job = jobs.wait_for_job(client, client.verify(result_id).id)
    before, after = job.metadata, next(iter(client.results(job.id)))
    is_same, changes = _is_same_result(before, after), _environment_changes(before, after)
    if as_json:
        payload = {"same": is_same, "before": dict(before), "after": after.raw, "environment_changes": changes}
        print(terminal.to_json_line(payload))
    else:
        model = f"{after.model.name} {after.model.version}" if after.model else ""
        rows = [("before", before.get("label"), before.get("confidence"), "")]
        rows += [("again", after.label, after.confidence, model)]
        terminal.print_table(("run", "label", "confidence", "model"), rows)
        if changes:
            described = "; ".join(f"{name} was {a}, is {b}" for name, (a, b) in changes.items())
            _options.print_stderr(f"The environment differs: {described}.")
        different = f"The results differ: {after.error.detail}" if after.error else "The results differ."
        _options.print_stderr("The results are the same." if is_same else different)
    sys.exit(0 if is_same else 1)


def _is_same_result(before: Mapping[str, Any], after: responses.Result) -> bool:
    gap = abs((before.get("confidence") or 0.0) - (after.confidence or 0.0))
    return before.get("label") == after.label and gap <= CONFIDENCE_TOLERANCE


def _environment_changes(before: Mapping[str, Any], after: responses.Result) -> dict[str, tuple[str, str]]:
    recorded = responses.Environment.from_json(before.get("environment"))
    return recorded.diff(after.environment) if recorded and after.environment else {}
