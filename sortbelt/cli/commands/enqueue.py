"""`sortbelt enqueue`: a folder, or a source of the server, as one job; a repeat sends only what is new."""

import sys

import click

from sortbelt.bulk import runner, walker
from sortbelt.cli import export, progress, terminal
from sortbelt.cli.commands import _bulk, _by_reference, _client, _options
from sortbelt.client.sync_client import Client


@click.command()
@click.argument("source", metavar="[FOLDER | ARCHIVE | s3://BUCKET/PREFIX]", type=click.Path(), required=False)
@click.option("--on-server", metavar="NAME[/PREFIX]", help="A source of the server, by its name in `sortbelt sources`.")
@click.option(
    "--include", metavar="GLOB", multiple=True, help="Take files that match, whatever their suffix; repeatable."
)
@click.option("--exclude", metavar="GLOB", multiple=True, help="Skip files and folders that match; repeatable.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the images are classified.")
@click.option("--name", metavar="NAME", help="Name of the job [default: the name of the folder].")
@_options.model_option
@_options.priority_option("bulk")
@_options.webhook_option
@click.option("--dry-run", is_flag=True, help="Only show what would be sent.")
@click.option("--fresh", is_flag=True, help="Forget earlier runs: a new job with all images.")
@click.option("--retry-failed", is_flag=True, help="Send again, in a new job, the images that failed before.")
@click.option(
    "--max-failure-rate",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Stop if more than this share of images fails; 0.05 means 5 %.",
)
@click.option("--watch", is_flag=True, help="Keep running, and send what is added to the folder, until ctrl-C.")
@click.option(
    "--idle",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="With --watch: exit after SECONDS without a new file.",
)
@click.option("--failures", metavar="FILE", type=click.Path(), help="Write failed images and errors as CSV or NDJSON.")
@_options.manifest_option
@click.option("--job", "job_id", metavar="JOB", help="Continue a job that another machine left open.")
@_client.client_options(_client.LONG_RUN_RETRY)
def enqueue(
    client: Client,
    source: str | None,
    *,
    on_server: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    no_wait: bool,
    name: str | None,
    model: str | None,
    priority: str,
    webhook: str | None,
    dry_run: bool,
    fresh: bool,
    retry_failed: bool,
    max_failure_rate: float | None,
    watch: bool,
    idle: float | None,
    failures: str | None,
    manifest: str | None,
    job_id: str | None,
    as_json: bool,
) -> None:
    """Classify a folder as one job, and show a summary.

    Takes the suffixes of JPEG, PNG, GIF, BMP, WebP, TIFF, HEIC, AVIF and JPEG XL, in subfolders and in .zip and
    .tar files too; hidden files, recycle bins and other system folders, symbolic links and special files are
    skipped. RAW photos, PDFs, videos and others that are not decoded are counted by kind. A manifest records
    what was sent: the same command continues a run that was stopped or killed, and later sends only new and
    changed files, in a new job. While the server's queue is full or the key's quota is used up, it waits.

    Images in a bucket, or with --on-server in a folder of the server, are classified where they are, if
    the server's admin has configured the source: nothing is uploaded, and the job does not need this
    command.

    Exits with 0 if every image was classified, else with 1; also if files were left out that may be images,
    of which the first 20 are named.

    \b
    Examples:
      sortbelt enqueue ~/Pictures
      sortbelt enqueue ~/Pictures --exclude thumbs --exclude '*_small.jpg'
      sortbelt enqueue holiday.zip
      sortbelt enqueue ~/Pictures --no-wait --json
      sortbelt enqueue ~/Pictures --max-failure-rate 0.05 --failures failed.csv
      sortbelt enqueue ~/Pictures --retry-failed
      sortbelt enqueue /srv/camera --watch
      sortbelt enqueue s3://photos/2026
      sortbelt enqueue --on-server camera/january
    """
    if idle is not None and not watch:
        raise click.UsageError("--idle has no effect alone: add --watch.")
    if dry_run and watch:
        raise click.UsageError("--dry-run shows one run, and --watch goes on: give one of them.")
    if failures:
        export.check_output(failures)
    name = name or _options.job_name(on_server or source or "")
    run_options = runner.RunOptions(model, priority, retry_failed, max_failure_rate, webhook, name)
    if selection := _by_reference.select_source(source, on_server, include, exclude):
        _by_reference.execute_import(client, selection, run_options, failures, wait=not no_wait, as_json=as_json)
    assert source is not None  # noqa: S101 - else there was a selection
    directory = walker.DirectoryWalker(source, include, exclude)
    with (
        _bulk.open_manifest(client, source, model, manifest, job_id, fresh=fresh, dry_run=dry_run) as folder_manifest,
        progress.create_progress() as bar,
    ):
        client.notify(bar.show_waiting)
        bulk_run = runner.BulkRun(
            client, directory, folder_manifest, run_options, lambda bulk_run: _bulk.show_progress(bar, bulk_run)
        )
        bulk_run.prepare(allow_empty=watch)
        if dry_run:
            _print_plan(bulk_run, as_json=as_json)
            return
        _bulk.execute_run(bulk_run, idle, watch=watch, wait=not no_wait)
        bar.finish()
        _bulk.print_report(_report(bulk_run), failures, as_json=as_json)
    sys.exit(0 if bulk_run.is_successful else 1)


def _print_plan(bulk_run: runner.BulkRun, *, as_json: bool) -> None:
    summary = bulk_run.walk_summary
    plan = {
        "pictures": summary.image_count,
        "to_send": summary.new_count,
        "bytes_to_send": summary.new_bytes,
        "unchanged": bulk_run.stats.unchanged,
        "skipped": dict(summary.skipped),
        "left_out": list(summary.left_out_files),
        "job_id": bulk_run.job.id if bulk_run.job else None,
    }
    if as_json:
        print(terminal.to_json_line(plan))
        return
    print(f"{summary.new_count} of {summary.image_count} images would be sent ({summary.new_bytes:,} bytes).")
    for note in _bulk.skipped_notes(summary.skipped, summary.left_out_files):
        _options.print_stderr(note)


def _report(bulk_run: runner.BulkRun) -> _bulk.Report:
    summary = bulk_run.record_failures()
    stats = bulk_run.stats
    names = ("sent", "by_reference", "unchanged", "changed", "not_sent", "missing")
    fields: dict[str, object] = {name: getattr(stats, name) for name in names}
    walked = bulk_run.walk_summary
    notes = _bulk.skipped_notes(walked.skipped, walked.left_out_files)
    if stats.missing:
        notes.append(f"{stats.missing} were sent, but the job has other images of the same names: rename them.")
    if stats.changed:
        notes.append(f"{stats.changed} changed after they were sent: run the same command to classify them again.")
    if bulk_run.job and stats.unchanged and not stats.sent:
        notes.append(f"Nothing is new since job {bulk_run.job.id}; --fresh classifies everything again.")
    return _bulk.Report(
        bulk_run.jobs,
        summary,
        stats.not_sent + summary.failed,
        bulk_run.failures,
        {**fields, "skipped": dict(walked.skipped), "left_out": list(walked.left_out_files)},
        notes,
    )
