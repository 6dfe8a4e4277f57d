"""`sortbelt models`: add, promote, roll back, shadow and compare versions of models."""

from collections.abc import Mapping
from typing import Any

import click

from sortbelt.cli import terminal
from sortbelt.cli.commands import _client, _completion, _options
from sortbelt.client import responses
from sortbelt.client.sync_client import Client

HEADERS = ("version", "stage", "share", "labels", "served by", "added", "by", "promoted")
MAX_SHOWN_LABELS = 5
ROLLOUT_HINT = "Workers load it within seconds; `sortbelt models list` shows which serve it, and which reject it."


class ModelVersionParam(click.ParamType[tuple[str, str]]):
    """NAME@VERSION."""

    name = "NAME@VERSION"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split into name and version."""
        name, _, version = value.partition("@")
        if not name or not version or "@" in version:
            self.fail(f"{value!r} is not a version: write NAME@VERSION, as in `sortbelt models list`.", param, ctx)
        return name, version


@click.group()
def models() -> None:
    """Add, promote and compare versions of models (for admins).

    \b
    Examples:
      sortbelt models add runs/sushi-2
      sortbelt models shadow sushi-or-sandwich@2 --share 0.1
      sortbelt models compare sushi-or-sandwich@1 sushi-or-sandwich@2
      sortbelt models promote sushi-or-sandwich@2
      sortbelt models rollback sushi-or-sandwich
    """


@models.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
@_client.client_options()
def add(client: Client, bundle: str, *, as_json: bool) -> None:
    """Add a bundle to the registry. It classifies nothing until it is promoted.

    \b
    Example:
      sortbelt models add runs/sushi-2
    """
    print_version(client.add_model(bundle), as_json=as_json)


@models.command("list")
@_client.client_options()
def list_models(client: Client, *, as_json: bool) -> None:
    """List all versions of all models, and which workers reject one.

    \b
    Example:
      sortbelt models list
    """
    versions = list(client.models())
    terminal.print_items("models", versions, HEADERS, _to_row, as_json=as_json)
    if not as_json:
        for version in versions:
            _print_rejections(version)


@models.command()
@click.argument("version", type=ModelVersionParam(), shell_complete=_completion.versions)
@click.option("--force", is_flag=True, help="Do not wait for a worker's test, e.g. while no worker runs.")
@_client.client_options()
def promote(client: Client, version: tuple[str, str], *, force: bool, as_json: bool) -> None:
    """Make a version the live one, once a worker has tested it. Workers load it within seconds, between two batches.

    \b
    Examples:
      sortbelt models promote sushi-or-sandwich@2
      sortbelt models promote sushi-or-sandwich@2 --force
    """
    print_version(client.promote_model(*version, force=force), as_json=as_json)
    _options.print_stderr(ROLLOUT_HINT)


@models.command()
@click.argument("name", required=False, shell_complete=_completion.models)
@_client.client_options()
def rollback(client: Client, name: str | None, *, as_json: bool) -> None:
    """Undo the last promotion. Each repeat goes back one more.

    \b
    Examples:
      sortbelt models rollback
      sortbelt models rollback sushi-or-sandwich
    """
    print_version(client.rollback_model(name or _only_live_model(client)), as_json=as_json)
    _options.print_stderr(ROLLOUT_HINT)


@models.command()
@click.argument("version", type=ModelVersionParam(), shell_complete=_completion.versions)
@click.option("--share", type=click.FloatRange(0, 1), help="Share of the images, from 0 to 1.")
@click.option("--off", is_flag=True, help="Stop the shadow.")
@_client.client_options()
def shadow(client: Client, version: tuple[str, str], *, share: float | None, off: bool, as_json: bool) -> None:
    """Let a version classify a share of the images beside the live one, without changing results.

    \b
    Examples:
      sortbelt models shadow sushi-or-sandwich@2 --share 0.1
      sortbelt models shadow sushi-or-sandwich@2 --off
    """
    if off == (share is not None):
        raise click.UsageError("Give either --share SHARE or --off.")
    print_version(client.shadow_model(*version, share or 0.0), as_json=as_json)


@models.command()
@click.argument("a", type=ModelVersionParam(), shell_complete=_completion.versions)
@click.argument("b", type=ModelVersionParam(), shell_complete=_completion.versions)
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum disagreements to show."
)
@_client.client_options()
def compare(client: Client, a: tuple[str, str], b: tuple[str, str], *, limit: int, as_json: bool) -> None:
    """Compare two versions over the images that both have classified, and show where they disagree.

    \b
    Examples:
      sortbelt models compare sushi-or-sandwich@1 sushi-or-sandwich@2
      sortbelt models compare sushi-or-sandwich@1 sushi-or-sandwich@2 --limit 1000 --json
    """
    titles = ("@".join(a), "@".join(b))
    comparison = client.compare_models(*titles, limit=limit)
    if as_json:
        print(terminal.to_json_line(comparison.raw))
    elif comparison.agreement is None:
        _options.print_stderr(
            f"No image was classified by both: start with `sortbelt models shadow {titles[1]} --share 0.1`."
        )
    else:
        _print_comparison(comparison, titles, comparison.agreement)


def _print_comparison(comparison: responses.ModelComparison, titles: tuple[str, str], agreement: float) -> None:
    share = f"{comparison.agreeing:,} of {comparison.compared:,} images ({agreement:.1%})"
    confidences = ", ".join(
        f"{title} {comparison.mean_confidence[side]:.4f}" for side, title in zip("ab", titles, strict=True)
    )
    _options.print_stderr(f"They agree on {share}; mean confidence: {confidences}.")
    _print_reviewed(comparison.raw.get("reviewed"), titles)
    terminal.print_table((*titles, "images"), [(*labels, count) for labels, count in comparison.matrix.items()])
    if comparison.disagreements:
        rows = (
            (d.image, d.job_id, d.label_a, d.confidence_a, d.label_b, d.confidence_b) for d in comparison.disagreements
        )
        terminal.print_table(("image", "job", titles[0], "confidence", titles[1], "confidence"), rows)


def _print_reviewed(reviewed: Mapping[str, Any] | None, titles: tuple[str, str]) -> None:
    """Say which version was right more often, if images of both were reviewed."""
    if not reviewed or not reviewed["compared"]:
        return
    right = ", ".join(f"{title} {reviewed[f'{side}_right']}" for side, title in zip("ab", titles, strict=True))
    better = reviewed["better"]
    verdict = f"{titles['ab'.index(better)]} is better" if better else "no difference is proven"
    _options.print_stderr(
        f"Right on {reviewed['compared']:,} reviewed images: {right}; {verdict} (p = {reviewed['p_value']:.3g})."
    )


def _only_live_model(client: Client) -> str:
    names = sorted({version.name for version in client.models() if version.stage == "live"})
    if len(names) != 1:
        raise click.UsageError(f"Name the model; live models: {', '.join(names) or 'none'}.")
    return names[0]


def print_version(version: responses.ModelVersion, *, as_json: bool) -> None:
    """Print a version, and which workers reject it."""
    terminal.print_item(version, HEADERS, _to_row, as_json=as_json)
    if not as_json:
        _print_rejections(version)


def _print_rejections(version: responses.ModelVersion) -> None:
    for worker, reason in version.refused_by.items():
        _options.print_stderr(f"{version.title} is rejected by worker {worker}: {reason}")


def _count_workers(count: int) -> str:
    return f"{count} {'worker' if count == 1 else 'workers'}" if count else ""


def _to_row(version: responses.ModelVersion) -> tuple[object, ...]:
    labels = ", ".join(version.labels[:MAX_SHOWN_LABELS]) + (" …" if len(version.labels) > MAX_SHOWN_LABELS else "")
    workers = _count_workers(len(version.served_by))
    share = "" if version.share is None else f"{version.share:g}"
    by = version.created_by or ("the workers" if version.raw.get("built_in") else "")
    return version.title, version.stage, share, labels, workers, version.created_at, by, version.promoted_at
