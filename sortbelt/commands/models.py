"""`sortbelt models`: add, promote, take back, try out and compare versions of models."""

from collections.abc import Sequence

import click

from sortbelt import records, terminal
from sortbelt.client import Client
from sortbelt.commands import options, serving

HEADS = ("version", "stage", "share", "labels", "served by", "added", "by", "promoted")
MOST_LABELS = 5
SOON = "Workers take it up within seconds; `sortbelt models list` shows who has, and who cannot."


class Title(click.ParamType[tuple[str, str]]):
    """NAME@VERSION."""

    name = "NAME@VERSION"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """The name and the version."""
        name, _, version = value.partition("@")
        if not name or not version or "@" in version:
            self.fail(f"{value!r} is no version: write NAME@VERSION, as `sortbelt models list` does.", param, ctx)
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
    """  # noqa: D301 - click wants the \b as it is


@models.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
@options.as_json
@serving.server()
def add(client: Client, bundle: str, *, as_json: bool) -> None:
    """Add a bundle to the registry. It answers nothing until it is promoted.

    \b
    Example:
      sortbelt models add runs/sushi-2
    """  # noqa: D301 - click wants the \b as it is
    _show(client.add_model(bundle), as_json=as_json)


@models.command("list")
@options.as_json
@serving.server()
def list_models(client: Client, *, as_json: bool) -> None:
    """List all versions of all models, and which workers refuse one.

    \b
    Example:
      sortbelt models list
    """  # noqa: D301 - click wants the \b as it is
    found = list(client.models())
    if as_json:
        print(terminal.as_json({"models": [version.raw for version in found]}))
    else:
        _table(found)


@models.command()
@click.argument("version", type=Title())
@options.as_json
@serving.server()
def promote(client: Client, version: tuple[str, str], *, as_json: bool) -> None:
    """Let a version answer from now on. Workers take it up within seconds, between two batches.

    \b
    Example:
      sortbelt models promote sushi-or-sandwich@2
    """  # noqa: D301 - click wants the \b as it is
    _show(client.promote_model(*version), as_json=as_json)
    options.tell(SOON)


@models.command()
@click.argument("name", required=False)
@options.as_json
@serving.server()
def rollback(client: Client, name: str | None, *, as_json: bool) -> None:
    """Let the version answer again that did so before the last promotion. Again goes one further back.

    \b
    Examples:
      sortbelt models rollback
      sortbelt models rollback sushi-or-sandwich
    """  # noqa: D301 - click wants the \b as it is
    _show(client.rollback_model(name or _only(client)), as_json=as_json)
    options.tell(SOON)


@models.command()
@click.argument("version", type=Title())
@click.option("--share", type=click.FloatRange(0, 1), help="Of the pictures, from 0 to 1.")
@click.option("--off", is_flag=True, help="End it.")
@options.as_json
@serving.server()
def shadow(client: Client, version: tuple[str, str], *, share: float | None, off: bool, as_json: bool) -> None:
    """Let a version judge a share of the pictures too, beside the live one and without a say.

    \b
    Examples:
      sortbelt models shadow sushi-or-sandwich@2 --share 0.1
      sortbelt models shadow sushi-or-sandwich@2 --off
    """  # noqa: D301 - click wants the \b as it is
    if off == (share is not None):
        raise click.UsageError("Say either --share SHARE or --off.")
    _show(client.shadow_model(*version, share or 0.0), as_json=as_json)


@models.command()
@click.argument("a", type=Title())
@click.argument("b", type=Title())
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Show so many disagreements at most."
)
@options.as_json
@serving.server()
def compare(client: Client, a: tuple[str, str], b: tuple[str, str], *, limit: int, as_json: bool) -> None:
    """Show where two versions agree, over the pictures that both have judged, and the pictures where they do not.

    \b
    Examples:
      sortbelt models compare sushi-or-sandwich@1 sushi-or-sandwich@2
      sortbelt models compare sushi-or-sandwich@1 sushi-or-sandwich@2 --limit 1000 --json
    """  # noqa: D301 - click wants the \b as it is
    names = ("@".join(a), "@".join(b))
    found = client.compare_models(*names, limit=limit)
    if as_json:
        print(terminal.as_json(found.raw))
        return
    if found.agreement is None:
        options.tell(f"No picture was judged by both: `sortbelt models shadow {names[1]} --share 0.1` lets it try.")
        return
    sure = [f"{name} is sure to {found.mean_confidence[side]:.4f}" for side, name in zip("ab", names, strict=True)]
    share = f"{found.agreeing:,} of {found.compared:,} pictures ({found.agreement:.1%})"
    options.tell(f"They agree on {share}; on average {', '.join(sure)}.")
    terminal.table((*names, "pictures"), [(*labels, count) for labels, count in found.matrix.items()])
    if found.disagreements:
        heads = ("image", "job", names[0], "confidence", names[1], "confidence")
        terminal.table(heads, map(_cells, found.disagreements))


def _cells(found: records.Disagreement) -> tuple[object, ...]:
    return found.image, found.job_id, found.label_a, found.confidence_a, found.label_b, found.confidence_b


def _only(client: Client) -> str:
    names = sorted({version.name for version in client.models() if version.stage == "live"})
    if len(names) != 1:
        raise click.UsageError(f"Name the model: live are {', '.join(names) or 'none'}.")
    return names[0]


def _show(version: records.Version, *, as_json: bool) -> None:
    if as_json:
        print(terminal.as_json(version.raw))
    else:
        _table([version])


def _table(found: Sequence[records.Version]) -> None:
    terminal.table(HEADS, map(_row, found))
    for version in found:
        for worker, reason in version.refused_by.items():
            options.tell(f"{version.title} is refused by worker {worker}: {reason}")


def _row(version: records.Version) -> tuple[object, ...]:
    labels = ", ".join(version.labels[:MOST_LABELS]) + (" …" if len(version.labels) > MOST_LABELS else "")
    workers = f"{len(version.served_by)} workers" if version.served_by else ""
    share = "" if version.share is None else f"{version.share:g}"
    by = version.created_by or ("the workers" if version.raw.get("built_in") else "")
    return version.title, version.stage, share, labels, workers, version.created_at, by, version.promoted_at
