"""Shared by the subcommands that run a folder or a source: manifest, progress, ctrl-C, and the final report."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sortbelt import errors
from sortbelt.bulk import run_manifest, runner
from sortbelt.cli import export, progress, terminal
from sortbelt.cli.commands import _client, _options
from sortbelt.client import responses
from sortbelt.client.sync_client import Client

MAX_LISTED_FAILURES = 20  # printed one by one; --failures writes all of them
MAX_LISTED_JOBS = 20  # a watched folder may have more


@contextlib.contextmanager
def open_manifest(
    client: Client,
    source: str,
    model: str | None,
    path: str | None,
    job_id: str | None = None,
    *,
    fresh: bool = False,
    dry_run: bool = False,
) -> Iterator[run_manifest.RunManifest]:
    """Open the manifest of a folder; with `dry_run`, a copy of it.

    Raises:
        errors.NotFound: there is no job with the given id.
        errors.BadInput: the file cannot be used as a manifest, or cannot be written.
    """
    manifest_path = (
        Path(path) if path else run_manifest.default_path(client.config.url, client.config.key, source, model)
    )
    folder_manifest = run_manifest.RunManifest(manifest_path, source, dry_run=dry_run)
    try:
        latest_job = folder_manifest.latest_job()
        if fresh or (job_id and (latest_job is None or latest_job.id != job_id)):
            if job_id:
                client.job(job_id)  # a mistyped id must not clear the manifest
            folder_manifest.clear()
            if job_id:
                folder_manifest.add_job(job_id)
        yield folder_manifest
    except sqlite3.Error as error:
        raise errors.BadInput(
            f"The manifest {manifest_path} cannot be used ({error}): name another file with --manifest.", "bad_manifest"
        ) from None
    finally:
        folder_manifest.close()


def show_progress(bar: progress.Progress, bulk_run: runner.BulkRun) -> None:
    """Show the progress of a run."""
    if bulk_run.job:
        bar.update(bulk_run.job, sent=bulk_run.submitted_count, total=bulk_run.expected_count)


def execute_run(
    bulk_run: runner.BulkRun, idle_seconds: float | None = None, *, watch: bool = False, wait: bool = True
) -> None:
    """Send the folder, seal the job and, if wanted, wait for the end of all; on ctrl-C say how to go on."""
    with _client.interruptible(lambda: _resume_hint(bulk_run)):
        if watch:
            bulk_run.watch(idle_seconds)
        else:
            bulk_run.send_all()
        bulk_run.seal()
        if wait:
            bulk_run.wait_until_ended()
        bulk_run.mark_complete()


def _resume_hint(bulk_run: runner.BulkRun) -> str:
    if bulk_run.job is None:
        return "Nothing was sent yet."
    job_id = bulk_run.job.id
    if bulk_run.job.ended:
        return f"Job {job_id} has ended: `sortbelt results {job_id}` shows every image."
    if bulk_run.job.sealed:
        return f"The job goes on: run the same command, or `sortbelt wait {job_id}`, to wait for it."
    return (
        f"Job {job_id} is open and has {bulk_run.submitted_count} of {bulk_run.expected_count} images: "
        f"run the same command to go on, or `sortbelt cancel {job_id}` to give it up."
    )


class Report(NamedTuple):
    """Outcome of a run.

    Attributes:
        jobs: its jobs, oldest first.
        summary: labels of the jobs that have ended.
        failed_count: images without a label.
        failures: returns these images.
        fields: further fields of the JSON report.
        notes: sentences for people.
    """

    jobs: Sequence[responses.Job]
    summary: runner.LabelSummary
    failed_count: int
    failures: Callable[[], Iterable[run_manifest.FailedImage]]
    fields: dict[str, object]
    notes: Sequence[str] = ()


def print_report(report: Report, failures_path: str | None, *, as_json: bool) -> None:
    """Print the outcome of a run, as JSON or for people, and write its failures to a file if one is named."""
    if failures_path:
        export.write_failures(report.failures(), failures_path)
    labels, listed = report.summary.labels.most_common(), itertools.islice(report.failures(), MAX_LISTED_FAILURES)
    if as_json:
        newest_job = report.jobs[-1] if report.jobs else None
        job_fields = {
            "job_id": newest_job and newest_job.id,
            "job_ids": [job.id for job in report.jobs],
            "status": newest_job and newest_job.status,
            "counts": _sum_counts(report.jobs),
        }
        failures = [{"image": f.name, "code": f.code, "detail": f.detail} for f in listed]
        print(terminal.to_json_line({**job_fields, "labels": dict(labels), **report.fields, "failures": failures}))
        return
    terminal.print_table(("label", "images"), labels)
    print_failures("failed", listed, report.failed_count, ": --failures FILE writes them all")
    for note in report.notes:
        _options.print_stderr(note)
    for job in report.jobs[-MAX_LISTED_JOBS:]:
        _options.print_stderr(f"Job {job.id} {job.outcome}: `sortbelt results {job.id}` shows every image.")


def _sum_counts(jobs: Iterable[responses.Job]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for job in jobs:
        counts.update(job.raw["counts"])
    return dict(counts)


def print_failures(outcome: str, failures: Iterable[run_manifest.FailedImage], count: int, advice: str = "") -> None:
    """Print the first failures, and how many more there are, with advice on how to see them."""
    for failure in itertools.islice(failures, MAX_LISTED_FAILURES):
        _options.print_stderr(f"{outcome}: {failure.name}: {failure.detail} ({failure.code})")
    if count > MAX_LISTED_FAILURES:
        _options.print_stderr(f"… and {count - MAX_LISTED_FAILURES} more{advice}.")


def skipped_notes(skipped: Mapping[str, int], left_out: Iterable[Mapping[str, str]]) -> list[str]:
    """Return a sentence with the skipped files by reason, and one for each of those that may be images."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
    notes = [f"Skipped: {reasons}."] if reasons else []
    return notes + [f"Left out: {file['name']} ({file['reason']})." for file in left_out]
