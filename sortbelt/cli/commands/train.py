"""`sortbelt train`: train a model on a folder of photos, add it to the registry, and promote it unless it is worse."""

import importlib.util
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sortbelt import errors
from sortbelt.bulk import training_reviews
from sortbelt.cli import main, terminal
from sortbelt.cli.commands import _client, _options, models
from sortbelt.client import responses
from sortbelt.client.sync_client import Client
from sortbelt.local import child_env, data_directory, foreground, installed_bundles

LIBRARIES = ("torch", "sklearn", "matplotlib")
STOP_CODES = (130, 143)  # of a program that SIGINT or SIGTERM has ended


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--name", type=_options.SLUG, required=True, help="Name of the model, as jobs request it.")
@click.option("--version", type=_options.SLUG, help="Its version [default: the next number].")
@click.option(
    "--with-reviews",
    is_flag=True,
    help="Reviewed labels replace those of FOLDER; reviewed images missing in FOLDER are added.",
)
@click.option(
    "--promote",
    "--promote-if-better",
    "promote",
    is_flag=True,
    help="Make it the live version, unless the live one is more accurate.",
)
@click.option(
    "--held-out",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="With --promote: compare on these photos, of the same labels, which are never trained on.",
)
@click.option("--out", metavar="DIR", type=click.Path(), help="Folder for the bundle [default: in the data folder].")
@_client.client_options()
def train(
    client: Client,
    folder: str,
    name: str,
    version: str | None,
    held_out: str | None,
    out: str | None,
    *,
    with_reviews: bool,
    promote: bool,
    as_json: bool,
) -> None:
    """Train a model on photos, one sub-folder per label, and add it to the server on this machine.

    It fits a head on a network with published weights: 500 photos take about a minute on two cores.
    `python -m model.train` has more options.

    With --with-reviews, what people said of results outweighs the sub-folders: a photo with the bytes of a
    reviewed image has the label of the review, or is left out if none of the labels fits. Reviewed images
    that are not in FOLDER are fetched and join the training. No file of FOLDER is changed.

    With --promote, the new version is compared with the live one of the same name on these photos, and
    refused with exit code 1 if it is less accurate, or if the two cannot be compared, as with other labels. The
    new one is evaluated on each photo by a head that was fitted without it. The live one counts with its own
    such evaluation for the photos that it was trained on, and classifies the others now. If its photos are not
    known, it may have an advantage; the report says so. While there are wrong labels among the photos, only
    --held-out gives a fair comparison: photos whose labels are right, on which both are compared instead.

    \b
    Examples:
      sortbelt train photos --name lunch
      sortbelt train photos --name lunch --promote
      sortbelt train photos --name lunch --with-reviews --promote-if-better --held-out more-photos
    """
    _check_libraries()
    data_dir = data_directory.locate(click.get_current_context().params["data_dir"])
    versions = [known for known in client.models() if known.name == name]
    if version in {known.version for known in versions}:
        raise errors.BadInput(
            f"The server has {name}@{version} already: give another --version, or leave it out.", "version_taken"
        )
    live = next((known for known in versions if known.stage == "live"), None)
    version = version or _next_version(versions)
    bundle = Path(out) if out else data_dir / "trained" / f"{name}-{version}"
    compared = installed_bundles.find(data_dir, name, live.version, live.digest) if live else None
    comparable = compared is not None and live is not None and _has_labels(folder, live.labels)
    options = [f"--out={bundle.absolute()}", f"--name={name}", f"--version={version}"]
    if held_out and not promote:
        raise click.UsageError("--held-out is for the comparison with the live version: add --promote.")
    if promote and comparable:
        options += [f"--compare={compared}", *([f"--held-out={Path(held_out).absolute()}"] if held_out else [])]
    folders = [Path(folder).absolute()]
    if with_reviews:
        reviews = _collect_reviews(client, folders[0], data_dir / "trained" / f"{name}-{version}-reviews")
        options.append(f"--relabel={reviews.labels_file}")
        folders += [reviews.images_folder] if reviews.counts["added"] else []
    _run_training([*options, *map(str, folders)], data_dir)
    added = _add(client, bundle)
    report = json.loads(Path(f"{bundle}-log", "report.json").read_text(encoding="utf-8"))
    refusal = _refusal(live, report["comparison"]) if promote and live else ""
    if promote and not refusal:
        added = client.promote_model(name, version)
    _print_result(added, bundle, report, refusal, as_json=as_json)
    if promote and not refusal:
        _options.print_stderr(models.ROLLOUT_HINT)
    if refusal:
        raise main.CommandFailed(f"{added.title} is not promoted: {refusal}", 1)


def _check_libraries() -> None:
    child_env.check_server_installed()
    missing = [library for library in LIBRARIES if importlib.util.find_spec(library) is None]
    if missing:
        problem = f"Training needs {' and '.join(missing)}, which this installation does not have"
        raise errors.BadInput(f"{problem}: run `make setup` in the checkout.", "no_training")


def _next_version(versions: Sequence[responses.ModelVersion]) -> str:
    numbers = [int(known.version) for known in versions if known.version.isdecimal()]
    return str(max(numbers, default=0) + 1)


def _has_labels(folder: str, labels: Sequence[str]) -> bool:
    """Return whether the sub-folders are these labels; other models cannot be compared."""
    return {path.name for path in Path(folder).iterdir() if path.is_dir() and path.name[0] != "."} == set(labels)


def _collect_reviews(client: Client, folder: Path, out: Path) -> training_reviews.TrainingReviews:
    """Write the reviews that concern a folder of photos to `out`, and say what they are."""
    shutil.rmtree(out, ignore_errors=True)
    labels_of = {version.title: version.labels for version in client.models()}
    reviews = training_reviews.TrainingReviews(folder, out, client.image_bytes, labels_of)
    reviews.collect(client.reviews())
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in reviews.counts.items())
    _options.print_stderr(f"Reviews: {counts or 'there are none, so only the folder counts'}.")
    return reviews


def _run_training(arguments: Sequence[str], data_dir: Path) -> None:
    """Run `model.train`, whose progress, report and error messages are on stderr."""
    command = child_env.server_command("model.train", *arguments)
    code = foreground.run(command, child_env.child_environment(data_dir))
    if code in STOP_CODES:
        raise KeyboardInterrupt
    if code:
        raise main.CommandFailed("Nothing was added: the training failed.", 2 if code == 2 else 1)


def _add(client: Client, bundle: Path) -> responses.ModelVersion:
    try:
        return client.add_model(bundle)
    except errors.SortbeltError as error:
        advice = f"The bundle is in {bundle}: add it with `sortbelt models add`."
        raise main.CommandFailed(f"{main.error_message(error)} {advice}", main.exit_code(error)) from None


def _refusal(live: responses.ModelVersion, comparison: dict[str, Any] | None) -> str:
    """Return why the new version is not promoted, or ''."""
    advice = "promote it with `sortbelt models promote`"
    if comparison is None:
        return f"it cannot be compared with {live.title}, whose labels differ or whose files are not here; {advice}."
    if comparison["accuracy"] >= comparison["other_accuracy"]:
        return ""
    figures = f"{comparison['accuracy']:.1%} of {comparison['count']} photos are right"
    return (
        f"{figures}, and {comparison['other_accuracy']:.1%} with {live.title}. If you want it all the same, {advice}."
    )


def _print_result(
    added: responses.ModelVersion, bundle: Path, report: dict[str, Any], refusal: str, *, as_json: bool
) -> None:
    if as_json:
        result = {"model": added.raw, "bundle": str(bundle), "report": report, "refused": refusal or None}
        print(terminal.to_json_line(result))
    else:
        models.print_version(added, as_json=False)
        _options.print_stderr(f"The bundle is in {bundle}, its report in {bundle}-log.")
