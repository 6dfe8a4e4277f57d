"""`sortbelt enqueue` for images that the server reads itself, from one of its sources: nothing is uploaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from click.core import ParameterSource

from sortbelt.bulk import runner, source_import
from sortbelt.cli import progress
from sortbelt.cli.commands import _bulk, _client
from sortbelt.client import responses
from sortbelt.client.sync_client import Client

FOLDER_ONLY_OPTIONS = ("dry_run", "fresh", "retry_failed", "watch", "idle", "manifest", "job_id")
OPTION_NAMES = {"job_id": "--job"}


def select_source(
    source: str | None, on_server: str | None, include: Sequence[str], exclude: Sequence[str]
) -> source_import.SourceSelection | None:
    """Return the images to classify by reference; None for a folder of this machine."""
    if (source is None) == (on_server is None):
        raise click.UsageError("Name one of: a folder, an address such as s3://photos/2026, or --on-server NAME.")
    if on_server is None and source is not None and not source.startswith(source_import.S3_SCHEME):
        return None
    context = click.get_current_context()
    for name in FOLDER_ONLY_OPTIONS:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = OPTION_NAMES.get(name, "--" + name.replace("_", "-"))
            raise click.UsageError(f"{option} works only with a folder of this machine.")
    name, _, prefix = on_server.partition("/") if on_server is not None else (source or "", "", "")
    return source_import.SourceSelection(name, prefix, include, exclude)


def execute_import(
    client: Client,
    selection: source_import.SourceSelection,
    run_options: runner.RunOptions,
    failures: str | None,
    *,
    wait: bool,
    as_json: bool,
) -> NoReturn:
    """Have the server import and classify the images, print a report, and exit."""
    with progress.create_progress() as bar:
        client.notify(bar.show_waiting)
        import_run = source_import.ImportRun(client, selection, run_options, bar.update)
        job = import_run.start()
        with _client.interruptible(lambda: f"The job goes on: `sortbelt wait {job.id}` waits for it."):
            if wait:
                job = import_run.wait_until_ended()
        bar.finish()
    summary = import_run.summarize() if job.ended else runner.LabelSummary()
    report = _bulk.Report(
        [job],
        summary,
        summary.failed,
        lambda: import_run.failures() if summary.failed else (),
        {"scan": job.raw["scan"]},
        _notes(job),
    )
    _bulk.print_report(report, failures if job.ended else None, as_json=as_json)
    sys.exit(0 if import_run.is_successful else 1)


def _notes(job: responses.Job) -> list[str]:
    """Return what is to be said about the import of a job: what was skipped, and why it failed."""
    if job.scan is None:
        return []
    notes = _bulk.skipped_notes(job.scan.skipped_by_reason, job.scan.left_out)
    if job.scan.status == "failed":
        notes.append(f"The import failed before everything was found: {job.scan.error}")
    return notes
