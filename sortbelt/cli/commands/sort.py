"""`sortbelt sort`: the images of a folder, sorted into one folder per label."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from sortbelt import errors
from sortbelt.bulk import run_manifest, runner, sort_by_label, walker
from sortbelt.bulk.sort_by_label import DEFAULT_MIN_FAMILIARITY
from sortbelt.cli import progress, terminal
from sortbelt.cli.commands import _bulk, _client, _options
from sortbelt.client import responses
from sortbelt.client.sync_client import Client
from sortbelt.files import file_names

DEFAULT_MODE = sort_by_label.TransferMode.COPY
MAX_PRINTED_PROBLEMS = 20


@click.command()
@click.argument("source", metavar="FOLDER", type=click.Path())
@click.option("--into", metavar="OUT", required=True, type=click.Path(), help="Folder for the label folders.")
@click.option("--copy", is_flag=True, help="Copy the images (default).")
@click.option("--link", is_flag=True, help="Hard-link them: takes no space; on the same disk only.")
@click.option("--move", is_flag=True, help="Move them out of FOLDER.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Labels of less confidence go to the folder `unsure`.",
)
@click.option(
    "--unfamiliar",
    metavar="DIR",
    type=click.Path(),
    help="Folder for images that are unlike the training photos, and may be none of the labels.",
)
@click.option(
    "--min-familiarity",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help=f"Images of less familiarity go to the folder of --unfamiliar.  [default: {DEFAULT_MIN_FAMILIARITY}]",
)
@click.option("--job", "job_id", metavar="JOB", help="Sort by the results of this job, and send nothing.")
@_options.model_option
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@_options.manifest_option
@_client.client_options(_client.LONG_RUN_RETRY)
def sort(
    client: Client,
    source: str,
    *,
    into: str,
    copy: bool,
    link: bool,
    move: bool,
    min_confidence: float,
    unfamiliar: str | None,
    min_familiarity: float | None,
    job_id: str | None,
    model: str | None,
    dry_run: bool,
    manifest: str | None,
    as_json: bool,
) -> None:
    """Sort the images of a folder into one folder per label.

    Classifies new images first, as `enqueue` does. Images without a label go to `failed`; files are never
    overwritten; the same command again does only what is left. Images in archives are not taken out:
    unpack them first. Exits with 0 if every image is in place with a label, else with 1; also if files were
    left out that may be images.

    \b
    Examples:
      sortbelt sort ~/Pictures --into ~/Sorted
      sortbelt sort ~/Pictures --into ~/Sorted --link --min-confidence 0.8
      sortbelt sort ~/Pictures --into ~/Sorted --unfamiliar ~/Sorted/other
      sortbelt sort ~/Pictures --into ~/Sorted --job JOB --dry-run
    """
    if copy + link + move > 1:
        raise click.UsageError("Give one of --copy, --link and --move.")
    mode = sort_by_label.TransferMode.MOVE if move else sort_by_label.TransferMode.LINK if link else DEFAULT_MODE
    if min_familiarity is not None and unfamiliar is None:
        raise click.UsageError("--min-familiarity has no effect alone: name a folder with --unfamiliar DIR.")
    sorter = sort_by_label.Sorter(
        source,
        into,
        mode,
        min_confidence=min_confidence,
        unfamiliar=unfamiliar,
        min_familiarity=DEFAULT_MIN_FAMILIARITY if min_familiarity is None else min_familiarity,
        dry_run=dry_run,
    )
    checked = iter if unfamiliar is None else _warn_of_unknown_familiarity
    if job_id:
        if model or manifest:
            raise click.UsageError("--job sorts by the results of that job: leave --model and --manifest out.")
        walker.check_folder(source)
        job = client.job(job_id)
        code = _sort_results(sorter, checked(iter(client.results(job.id))), dry_run=dry_run, as_json=as_json)
        is_complete = job.ended
        if not is_complete:
            _options.print_stderr(
                f"Job {job.id} has not ended, and images without a result are not sorted: sort again after "
                f"`sortbelt wait {job.id}`."
            )
    else:
        is_complete = True
        with _bulk.open_manifest(client, source, model, manifest, dry_run=dry_run) as folder_manifest:
            if not dry_run:
                is_complete = _classify_directory(client, source, folder_manifest, model)
            latest = _LatestResults(client, source, folder_manifest)
            code = _sort_results(sorter, checked(iter(latest)), dry_run=dry_run, as_json=as_json)
            is_complete = is_complete and not latest.missing
    sys.exit(code or (0 if is_complete else 1))


def _warn_of_unknown_familiarity(results: Iterator[responses.Result]) -> Iterator[responses.Result]:
    """Yield the results; at the end, say how many of those with a label have no familiarity."""
    unknown = 0
    for result in results:
        unknown += result.label is not None and result.familiarity is None
        yield result
    if unknown:
        _options.print_stderr(
            f"{unknown} images have no familiarity, because their model has no reference photos: they are sorted by "
            "label. A model that was trained from a pre-trained network has them."
        )


def _classify_directory(
    client: Client, source: str, folder_manifest: run_manifest.RunManifest, model: str | None
) -> bool:
    """Classify new images, and name those that are not sent; return whether there are none of these."""
    with progress.create_progress() as bar:
        client.notify(bar.show_waiting)
        bulk_run = runner.BulkRun(
            client,
            walker.DirectoryWalker(source),
            folder_manifest,
            runner.RunOptions(model, name=_options.job_name(source)),
            lambda bulk_run: _bulk.show_progress(bar, bulk_run),
        )
        bulk_run.prepare(allow_empty=folder_manifest.latest_job() is not None)
        _bulk.execute_run(bulk_run)
    _bulk.print_failures("not sent", folder_manifest.failures(None), bulk_run.stats.not_sent)
    walked = bulk_run.walk_summary
    if walked.left_out:
        for note in _bulk.skipped_notes(walked.left_out, walked.left_out_files):
            _options.print_stderr(note)
    return bulk_run.is_complete


class _LatestResults:
    """The results of all jobs of the folder, for each image the latest one."""

    def __init__(self, client: Client, source: str, folder_manifest: run_manifest.RunManifest) -> None:
        self._client = client
        self._source = Path(source)
        self._manifest = folder_manifest
        self.missing = 0
        """Images in the folder whose job is not on the server any more."""

    def __iter__(self) -> Iterator[responses.Result]:
        for job in self._manifest.jobs():
            try:
                for result in self._client.results(job.id):
                    entry = self._manifest.lookup(result.image)
                    if entry and entry.job == job.number:
                        yield result
            except errors.NotFound:
                self._report_missing(job)

    def _report_missing(self, job: run_manifest.RunJob) -> None:
        paths = (self._source / file_names.unescape_name(name) for name in self._manifest.remove_job(job))
        missing = sum(path.exists() for path in paths)
        self.missing += missing
        if missing:
            _options.print_stderr(
                f"Job {job.id} is not on the server any more, which leaves out {missing} of the folder's images: "
                "the same command classifies them again."
            )


def _sort_results(
    sorter: sort_by_label.Sorter, results: Iterator[responses.Result], *, dry_run: bool, as_json: bool
) -> int:
    """Transfer every image, print a report, and return the exit code."""
    placed: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for result in results:
        outcome = sorter.transfer(result)
        outcomes[outcome] += 1
        if outcome in {sort_by_label.Outcome.PLACED, sort_by_label.Outcome.ALREADY_PLACED}:
            placed[sorter.folder_for(result)] += 1
        elif outcomes.total() - placed.total() <= MAX_PRINTED_PROBLEMS:
            _options.print_stderr(f"{outcome}: {result.image}")
    if outcomes[sort_by_label.Outcome.IN_ARCHIVE]:
        _options.print_stderr(f"Some images are in archives: {sort_by_label.UNPACK_ADVICE}")
    folders = placed.most_common()
    if as_json:
        print(terminal.to_json_line({"folders": dict(folders), "outcomes": dict(outcomes), "dry_run": dry_run}))
    else:
        terminal.print_table(("folder", "images"), folders)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        _options.print_stderr(counts or f"There are no results{' yet: --dry-run classifies no images' * dry_run}.")
    return 0 if placed.total() == outcomes.total() and not placed[sort_by_label.FAILED_FOLDER] else 1
