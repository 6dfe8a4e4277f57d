"""The output of `sortbelt stats --reviewed`."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from sortbelt.cli import terminal
from sortbelt.cli.commands import _options
from sortbelt.client.sync_client import Client

HEADERS = ("version", "of", "share", "95 % from", "to", "reviews")
FILTERS = ("model", "since", "until")


def show(client: Client, job_id: str | None, filters: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what reviews say of each version.

    Raises:
        click.UsageError: a filter was given that reviews do not have.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    if unknown := [name for name in given if name not in FILTERS]:
        option = unknown[0].replace("_", "-")
        raise click.UsageError(f"--{option} does not go with --reviewed: it takes --model, --since and --until.")
    versions = client.review_stats(job=job_id, **given)
    if as_json:
        print(terminal.to_json_line({"versions": versions}))
        return
    terminal.print_table(HEADERS, (row for version in versions for row in _rows(version)))
    for version in versions:
        _print_notes(version)
    if not versions:
        _options.print_stderr("There are no reviews.")


def _rows(version: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    title = f"{version['model']}@{version['version']}"
    estimates = {"right": version["accuracy"], "none of these": version["none_of_these"], "bad": version["bad_image"]}
    for one in version["classes"]:
        estimates |= {f"precision of {one['label']}": one["precision"], f"recall of {one['label']}": one["recall"]}
    for name, estimate in estimates.items():
        if estimate is not None:
            yield title, name, *(estimate[field] for field in ("value", "low", "high", "count"))


def _print_notes(version: Mapping[str, Any]) -> None:
    title = f"{version['model']}@{version['version']}"
    counts = ", ".join(f"{count} {strategy}" for strategy, count in version["by_strategy"].items())
    _options.print_stderr(f"{title}: {version['reviewed']} reviews ({counts}); {version['sampled']} drawn at random.")
    if not version["sampled"]:
        _options.print_stderr(
            "Nothing can be estimated from images that were chosen because they looked doubtful: "
            "review some with the strategy `random`."
        )
    elif version["calibration_error"] is not None:
        _options.print_stderr(f"{title}: expected calibration error {version['calibration_error']:.4f}.")
    for pair in version["confusions"][:5]:
        label = pair["review"] or "none of these"
        _options.print_stderr(f"{title}: {pair['count']} of {pair['model']!r} are {label!r}.")
