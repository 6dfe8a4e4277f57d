"""`sortbelt sort`: the pictures of a folder, in a folder per label."""

import sys
from collections import Counter
from collections.abc import Iterator

import click

from sortbelt import enqueue, errors, folder, manifest, progress, records, sorting, terminal
from sortbelt.client import Client
from sortbelt.commands import folders, options, serving

MOST_TOLD = 20


@click.command()
@click.argument("source", metavar="FOLDER", type=click.Path())
@click.option("--into", metavar="OUT", required=True, type=click.Path(), help="Folder for the folders.")
@click.option("--copy", "how", flag_value="copy", default="copy", help="Copy the pictures (default).")
@click.option("--link", "how", flag_value="link", help="Link them: no more space is used; on the same disk only.")
@click.option("--move", "how", flag_value="move", help="Move them away from FOLDER.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Less sure labels go to the folder `unsure`.",
)
@click.option("--job", "job_id", metavar="JOB", help="Sort by this job's results, and send nothing.")
@click.option("--model", help="Model to use [default: the server's].")
@click.option("--dry-run", is_flag=True, help="Send nothing, touch nothing: only tell what would be done.")
@click.option("--manifest", "book", metavar="FILE", type=click.Path(), help="Where to remember what was sent.")
@options.as_json
@serving.server(serving.PATIENT)
def sort(
    client: Client,
    source: str,
    *,
    into: str,
    how: str,
    min_confidence: float,
    job_id: str | None,
    model: str | None,
    dry_run: bool,
    book: str | None,
    as_json: bool,
) -> None:
    """Put the pictures of a folder into a folder per label.

    Classifies what is not classified yet, as `enqueue` does. Pictures without a label go to `failed`; no
    file is ever overwritten; the same command again does only what is left. Exits with 0 if every
    picture is in its place with a label, else with 1.

    \b
    Examples:
      sortbelt sort ~/Pictures --into ~/Sorted
      sortbelt sort ~/Pictures --into ~/Sorted --link --min-confidence 0.8
      sortbelt sort ~/Pictures --into ~/Sorted --job JOB --dry-run
    """  # noqa: D301 - click wants the \b as it is
    sorter = sorting.Sorter(source, into, sorting.How(how), min_confidence=min_confidence, dry_run=dry_run)
    if job_id:
        client.job(job_id)  # a job that does not exist shall not look like one without results
        code = _sort(sorter, iter(client.results(job_id)), dry_run=dry_run, as_json=as_json)
    else:
        with folders.book(client, source, model, book) as opened:
            if not dry_run:
                _classify(client, source, opened, model)
            code = _sort(sorter, _latest_results(client, opened), dry_run=dry_run, as_json=as_json)
    sys.exit(code)


def _classify(client: Client, source: str, book: manifest.Manifest, model: str | None) -> None:
    with progress.progress() as bar:
        client.notify(bar.wait)
        run = enqueue.FolderRun(
            client, folder.Folder(source), book, enqueue.Wishes(model), lambda run: folders.show(bar, run)
        )
        run.begin(may_be_empty=book.latest() is not None)
        folders.put_through(run)


def _latest_results(client: Client, book: manifest.Manifest) -> Iterator[records.Result]:
    """The results of all jobs of the folder, of each picture the latest."""
    for job in book.jobs():
        try:
            for result in client.results(job.id):
                entry = book.lookup(result.image)
                if entry and entry.job == job.number:
                    yield result
        except errors.NotFound:
            options.tell(f"Job {job.id} is not on the server any more: its pictures stay where they are.")


def _sort(sorter: sorting.Sorter, results: Iterator[records.Result], *, dry_run: bool, as_json: bool) -> int:
    """Place every picture, tell how it went, and say how to exit."""
    placed: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for result in results:
        outcome = sorter.place(result)
        outcomes[outcome] += 1
        if outcome in {sorting.Outcome.PLACED, sorting.Outcome.ALREADY}:
            placed[sorter.folder_of(result)] += 1
        elif outcomes.total() - placed.total() <= MOST_TOLD:
            options.tell(f"{outcome}: {result.image}")
    if as_json:
        print(terminal.as_json({"folders": dict(placed.most_common()), "outcomes": dict(outcomes), "dry_run": dry_run}))
    else:
        terminal.table(("folder", "images"), placed.most_common())
        options.tell(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "There are no results.")
    return 0 if placed.total() == outcomes.total() and not placed[sorting.FAILED] else 1
