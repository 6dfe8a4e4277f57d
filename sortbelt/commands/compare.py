"""`sortbelt diff` and `verify`: whether two runs, or two looks at one picture, agree."""

import itertools
import sys
from collections.abc import Mapping
from typing import Any

import click

from sortbelt import comparison, records, terminal
from sortbelt.client import Client
from sortbelt.commands import jobs, options, serving

TOLERANCE = 0.01  # of a confidence: another processor, or another batch, rounds differently


@click.command()
@click.argument("first", metavar="JOB_A")
@click.argument("second", metavar="JOB_B")
@click.option("--limit", type=click.IntRange(min=1), help="Show at most so many differences [default: all].")
@options.as_json
@serving.server()
def diff(client: Client, first: str, second: str, *, limit: int | None, as_json: bool) -> None:
    """Show which labels are not the same in two jobs.

    Pictures are matched by name. Exits with 0 if the jobs agree about every picture, else with 1.

    \b
    Examples:
      sortbelt diff JOB_A JOB_B
      sortbelt diff JOB_A JOB_B --json | jq .counts
    """  # noqa: D301 - click wants the \b as it is
    both = comparison.Comparison()
    found = both.differences(client.results(client.job(first).id), client.results(client.job(second).id))
    shown = itertools.islice(found, limit)
    if as_json:
        listed = [_as_json(one) for one in shown]
        for _ in found:  # the counts are of all
            pass
        print(terminal.as_json({"differences": listed, "counts": dict(both.counts)}))
    else:
        heads = ("image", "difference", "before", "confidence", "after", "confidence")
        terminal.table(heads, ((one.image, one.kind, *one.before, *one.after) for one in shown))
        for _ in found:
            pass
        options.tell(", ".join(f"{count} {kind}" for kind, count in both.counts.items()) or "Both are empty.")
    sys.exit(0 if both.counts.total() == both.counts["same"] else 1)


def _as_json(one: comparison.Difference) -> dict[str, object]:
    (before, before_confidence), (after, after_confidence) = one.before, one.after
    return {
        "image": one.image,
        "difference": one.kind,
        "before": {"label": before, "confidence": before_confidence},
        "after": {"label": after, "confidence": after_confidence},
    }


@click.command()
@click.argument("result_id", metavar="RESULT")
@options.as_json
@serving.server()
def verify(client: Client, result_id: str, *, as_json: bool) -> None:
    """Classify the picture of a result again, alone, and compare.

    RESULT is the `id` of a result, which `sortbelt results --json` shows. Exits with 0 if the label is
    the same and its confidence nearly so, else with 1. It says so if the two looks were made on different
    devices, or by different versions of a library.

    \b
    Examples:
      sortbelt verify 4711
      sortbelt verify 4711 --json
    """  # noqa: D301 - click wants the \b as it is
    job = jobs.stay(client, client.verify(result_id).id)
    before, after = job.metadata, next(iter(client.results(job.id)))
    same, changes = _agree(before, after), _changes(before, after)
    if as_json:
        said = {"same": same, "before": dict(before), "after": after.raw, "environment_changes": changes}
        print(terminal.as_json(said))
    else:
        heads = ("look", "label", "confidence", "model")
        rows = [("before", before.get("label"), before.get("confidence"), "")]
        terminal.table(heads, [*rows, ("again", after.label, after.confidence, _model(after))])
        if changes:
            options.tell(
                f"In another environment: {'; '.join(f'{of} was {a}, is {b}' for of, (a, b) in changes.items())}."
            )
        options.tell("The same." if same else f"Not the same: {after.error.detail}" if after.error else "Not the same.")
    sys.exit(0 if same else 1)


def _agree(before: Mapping[str, Any], after: records.Result) -> bool:
    apart = abs((before.get("confidence") or 0.0) - (after.confidence or 0.0))
    return before.get("label") == after.label and apart <= TOLERANCE


def _changes(before: Mapping[str, Any], after: records.Result) -> dict[str, tuple[str, str]]:
    then, now = records.Environment.read(before.get("environment")), after.environment
    return then.changes(now) if then and now else {}


def _model(result: records.Result) -> str:
    return f"{result.model.name} {result.model.version}" if result.model else ""
