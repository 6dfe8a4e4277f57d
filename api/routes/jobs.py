"""Jobs: submit, add images, seal, import, cancel, retry, and read."""

import time
from typing import Any

import flask
from werkzeug import exceptions

from api.http import (
    auth,
    deferred,
    export_formats,
    long_poll,
    pagination,
    rate_limit_headers,
    requests,
    responses,
    results,
    server_sent_events,
    suspension,
    uploads,
    wait_limits,
)
from api.openapi import bodies
from api.openapi.operations import describe
from api.schemas import ids, job_requests, job_responses, purge_responses, result_responses
from api.services import container
from core import enums, errors
from core.db.queries import (
    api_keys,
    deletions,
    filter_values,
    job_diff,
    job_lists,
    jobs,
    purge_log,
    retries,
    scans,
)
from core.db.queries import results as result_queries
from core.maintenance import reaper, retention

blueprint = flask.Blueprint("jobs", __name__, url_prefix="/v1/jobs")
MAX_STEPS_SECONDS = 5.0  # of a response; workers, and a thread of the API, go on with the rest of a large job
MAX_DELETION_SECONDS = 2.0  # of a response; a thread of the API removes the rest
JOB_URL = "$URL/v1/jobs/$JOB"
LINK_PARAMETERS = {"job_id": "$response.body#/id"}
LINKS = dict.fromkeys(
    ("jobs.show", "jobs.results", "jobs.cancel", "jobs.seal", "jobs.scan", "jobs.retry"), LINK_PARAMETERS
)
BUSY_CODES = [*rate_limit_headers.PROBLEM_CODES[503], "blobs_unavailable"]
SUBMISSION_HEADERS = long_poll.ACCEPTED_HEADERS | rate_limit_headers.HEADERS
POLL_HEADERS = {"Retry-After": "seconds after which polling is worthwhile, until the job has ended"}
ETAG_HEADERS = {**POLL_HEADERS, "ETag": "of this state; send it as If-None-Match to get 304 while it is unchanged"}
IF_NONE_MATCH_HEADER = {
    "If-None-Match": {"description": "the ETag of a state that you have: with `wait`, any other state ends the wait"}
}


@blueprint.post("")
@describe(
    job_responses.Job,
    '-H "Prefer: wait=10" -F images=@lunch.jpg -F images=@dinner.jpg "$URL/v1/jobs"',
    role=enums.Role.SUBMIT,
    status=202,
    other_responses={200: job_responses.JobWithResults},
    body=bodies.SUBMISSION,
    request_headers={**requests.IDEMPOTENCY_HEADER, **long_poll.PREFER_HEADER},
    response_headers=SUBMISSION_HEADERS,
    links=LINKS,
    descriptions=long_poll.RESPONSE_DESCRIPTIONS,
    problems={
        **rate_limit_headers.PROBLEM_CODES,
        410: ["job_purged"],
        415: ["unsupported_format"],
        422: [*uploads.IMAGE_PROBLEMS, *uploads.RAW_BODY_PROBLEMS, "unknown_model", "idempotency_mismatch"],
        503: BUSY_CODES,
    },
)
def submit(query: job_requests.RawSubmission) -> Any:
    """Submit a job with its images, or an open job without any.

    Send images as parts named `images` of a form, each with a file name, which is its name in the results; or one image
    as the raw body, with `name` and `custom_id` in the URL. JSON submits an open job, to whose `images_url` images are
    then sent, or a job of images whose bytes were sent before: `POST /v1/blobs/check` lists those.

    An invalid image in a form fails by itself, with the reason in its result; as the raw body it is rejected.
    """
    services, caller = container.services(), auth.caller()
    submission = uploads.parse_submission(query, caller, services.settings.model)
    job = services.intake.start_job(submission.job, submission.images, reject_invalid=submission.reject_invalid)
    return suspension.Suspension(job, lambda row: responses.accepted_response(row, caller, services.eta_cache))


@blueprint.post("/<job_id>/images")
@describe(
    job_responses.Job,
    f'-F images=@breakfast.jpg "{JOB_URL}/images"',
    role=enums.Role.SUBMIT,
    status=202,
    body=bodies.IMAGES,
    response_headers=SUBMISSION_HEADERS,
    links=LINKS,
    problems={**rate_limit_headers.PROBLEM_CODES, 409: ["job_sealed"], 422: uploads.IMAGE_PROBLEMS, 503: BUSY_CODES},
)
def add(job_id: str, query: job_requests.RawImageParams) -> flask.Response:
    """Add images to an open job; a name that the job already has is skipped, so that repeating is harmless.

    An invalid image fails by itself, also as the raw body, with the reason in its result.
    """
    services, caller = container.services(), auth.caller()
    try:
        images = uploads.parse_images(query)
        job = services.intake.add_images(_valid_job_id(job_id), caller.id, images, key_quotas=caller.key_quotas)
    except (errors.ClientError, exceptions.HTTPException):
        services.db.read(jobs.get, _valid_job_id(job_id), caller.id)  # that there is no such job matters more
        raise
    return responses.accepted_response(job, caller, services.eta_cache)


@blueprint.post("/<job_id>/seal")
@describe(
    job_responses.Job, f'-X POST "{JOB_URL}/seal"', role=enums.Role.SUBMIT, response_headers=POLL_HEADERS, links=LINKS
)
def seal(job_id: str) -> flask.Response:
    """Close an open job to more images, so that it can end; repeating changes nothing."""
    services, caller = container.services(), auth.caller()
    services.db.write(jobs.seal, _valid_job_id(job_id), caller.id)
    services.job_events.publish([job_id])
    return responses.job_response(_read_job(job_id), caller, services.eta_cache)


@blueprint.post("/<job_id>/scan")
@describe(
    job_responses.Job,
    f"""-H "Content-Type: application/json" -d '{{"source": "photos", "prefix": "2026"}}' "{JOB_URL}/scan\"""",
    role=enums.Role.SUBMIT,
    status=202,
    body=job_requests.ScanRequest,
    response_headers=long_poll.ACCEPTED_HEADERS,
    links=LINKS,
    problems={409: ["job_sealed", "scan_taken"], 422: ["unknown_source"]},
)
def scan(job_id: str) -> flask.Response:
    """Import images from a source of the server into an open job: nothing is uploaded or copied.

    The import runs in the background; `scan` of the job shows its progress. When it has finished, the job is sealed,
    unless `seal` is false; sealing the job during the import has the same effect. Repeating changes nothing. The names
    of the images are their paths in the source.
    """
    services, caller = container.services(), auth.caller()
    services.db.read(jobs.get, _valid_job_id(job_id), caller.id)  # before the body is parsed
    request = requests.parse_json_body(job_requests.ScanRequest)
    source, prefix = services.sources.resolve(request.source, request.prefix)
    new_scan = scans.NewScan(source, prefix, request.include, request.exclude, request.seal)
    services.db.write(scans.create, job_id, caller.id, new_scan)
    services.eta_cache.get()
    return responses.accepted_response(services.db.read(jobs.get, job_id, caller.id), caller, services.eta_cache)


@blueprint.post("/<job_id>/cancel")
@describe(
    job_responses.Job, f'-X POST "{JOB_URL}/cancel"', role=enums.Role.SUBMIT, response_headers=POLL_HEADERS, links=LINKS
)
def cancel(job_id: str) -> flask.Response:
    """Cancel the images that no worker has claimed yet; existing results stay. Repeating changes nothing.

    While workers hold images of the job it stays `running`, and becomes `cancelled` when they have finished. Of a very
    large job, what is left after this response is cancelled by workers and the API, step by step. A job that has ended
    stays as it is.
    """
    services, caller = container.services(), auth.caller()
    services.db.write(jobs.cancel, _valid_job_id(job_id), caller.id)
    reaper.end_queued(services.db, job_id, deadline=time.monotonic() + MAX_STEPS_SECONDS)
    services.job_events.publish([job_id])
    return responses.job_response(_read_job(job_id), caller, services.eta_cache)


@blueprint.post("/<job_id>/retry")
@describe(
    job_responses.JobRetry,
    f'-X POST "{JOB_URL}/retry"',
    role=enums.Role.SUBMIT,
    status=202,
    response_headers=SUBMISSION_HEADERS,
    links=LINKS,
    problems={**rate_limit_headers.PROBLEM_CODES, 409: ["job_not_over", "nothing_to_retry"], 422: ["too_many_images"]},
)
def retry(job_id: str) -> flask.Response:
    """Submit the images without a label again: a new job of those that failed, expired or were cancelled.

    Repeating returns the same job. Images that were rejected at submission, as empty, too large or not an image, are
    left out, and counted in `left_out`; if there are no others, the error is `nothing_to_retry`. Of a very large job,
    what is left after this response is added by workers and the API, step by step; then the new job is sealed.
    """
    services, caller = container.services(), auth.caller()
    new_job_id = services.intake.retry_failed(_valid_job_id(job_id), caller.id, caller.key_quotas)
    left_out = job_responses.serialize_left_out(services.db.read(retries.count_left_out, job_id))
    row = services.db.read(jobs.get, new_job_id, caller.id)
    if row.sealed_at is None:
        reaper.copy_retry(services.db, new_job_id, deadline=time.monotonic() + MAX_STEPS_SECONDS)
        row = services.db.read(jobs.get, new_job_id, caller.id)
    return responses.accepted_response(row, caller, services.eta_cache, {"left_out": left_out})


@blueprint.delete("/<job_id>")
@describe(purge_responses.PurgeRecord, f'"{JOB_URL}"', role=enums.Role.SUBMIT)
def delete(job_id: str) -> purge_responses.PurgeRecord:
    """Delete a job with its images, their bytes and results; a job that has not ended is cancelled first.

    No request finds it from then on; the record in the response stays, also in `GET /v1/purges`, and a repeat returns
    it again. A large job is removed step by step: `emptied_at` is null until that is done. Bytes that another job has
    too stay.
    Admins may delete any job, other callers their own.
    """
    services, caller = container.services(), auth.caller()
    services.db.write(deletions.delete_job, _valid_job_id(job_id), caller.deletable_owner, caller.id)
    services.job_events.publish([job_id])
    deadline = time.monotonic() + MAX_DELETION_SECONDS
    retention.run_deletions(services.db, services.blob_store, job_id, deadline=deadline)
    return purge_responses.serialize_purge(services.db.read(purge_log.get, job_id))


@blueprint.get("/<job_id>")
@describe(
    job_responses.Job,
    f'"{JOB_URL}?wait=30"',
    request_headers=IF_NONE_MATCH_HEADER,
    response_headers=ETAG_HEADERS,
    links=LINKS,
    other_responses={304: None},
    problems=wait_limits.PROBLEM_CODES,
)
def show(job_id: str, query: job_requests.WaitQuery) -> flask.Response:
    """Return a job with its current counts, which always sum to the total.

    With `wait`, respond when the job has ended, or as it is after that time: `finished_at` shows which.
    """
    services, caller = container.services(), auth.caller()
    row = _read_job(job_id)
    response = responses.job_response(row, caller, services.eta_cache)
    etag = response.headers["ETag"]
    is_conditional = "If-None-Match" in flask.request.headers
    is_known = not is_conditional or flask.request.if_none_match.contains_weak(response.get_etag()[0] or "")
    if query.wait and row.finished_at is None and is_known:
        wait_limits.check(services, caller.id)
        deferred.defer(
            long_poll.LongPoll(
                job_id,
                caller.id,
                flask.request.url_root,
                query.wait,
                show_full_url=caller.can_see_webhook_urls,
                known_etag=etag if is_conditional else None,
            )
        )
    response.make_conditional(flask.request)
    return response


@blueprint.patch("/<job_id>")
@describe(
    job_responses.Job,
    f"""-H "Content-Type: application/json" -d '{{"name": "Holidays 2026"}}' "{JOB_URL}\"""",
    role=enums.Role.SUBMIT,
    body=job_requests.JobChange,
    response_headers=ETAG_HEADERS,
    links=LINKS,
)
def change(job_id: str) -> flask.Response:
    """Change the name of a job; a submission gives it as `job_name`."""
    services, caller = container.services(), auth.caller()
    services.db.read(jobs.get, _valid_job_id(job_id), caller.id)  # before the body is parsed
    request = requests.parse_json_body(job_requests.JobChange)
    services.db.write(jobs.rename, job_id, caller.id, request.name)
    return responses.job_response(_read_job(job_id), caller, services.eta_cache)


@blueprint.get("/<job_id>/events")
@describe(
    str,
    f'-N "{JOB_URL}/events"',
    media_type="text/event-stream",
    descriptions={200: "the events, until the job has ended", 204: "the last event was received: do not reconnect"},
    request_headers={"Last-Event-ID": {"description": "the id of the last event received: it is not sent again"}},
    other_responses={204: None},
    problems={503: ["too_many_streams"]},
)
def events(job_id: str) -> flask.Response:
    """Stream the progress of a job as server-sent events: `progress` whenever its counts have changed, finally `done`.

    The last event is `done` however the job has ended: see its status. The data of each event is the job. The id of an
    event is the number of finished images, or `end`; a client that reconnects with the last id receives only later
    events, and after `end` gets 204.
    """
    caller = auth.caller()
    _read_job(job_id)
    last_event_id = flask.request.headers.get("Last-Event-ID", "")
    if last_event_id == server_sent_events.END_EVENT_ID:
        return flask.Response(status=204)
    wait_limits.check_stream(container.services(), caller.id)
    deferred.defer(
        server_sent_events.EventStream(
            job_id, caller.id, flask.request.url_root, caller.can_see_webhook_urls, last_event_id
        )
    )
    return flask.Response(mimetype="text/event-stream", headers={"Cache-Control": "no-store"})


@blueprint.get("/<job_id>/results", endpoint="results")
@describe(
    result_responses.Results,
    f'"{JOB_URL}/results"',
    request_headers=results.IF_NONE_MATCH_HEADER,
    response_headers=pagination.LINK_HEADERS | results.ETAG_HEADERS,
    media_types=export_formats.DESCRIPTIONS,
    other_responses={304: None},
)
def list_results(job_id: str, query: job_requests.JobResultsQuery) -> flask.Response:
    """Return the results of a job, in the order of its images.

    As JSON in pages; in the other formats all of them in one stream, or up to `limit` if that is given. Before the job
    has ended, its results so far; images that finish later may belong before the cursor of a page.
    """
    _read_job(job_id)
    return results.results_response(container.services().db, query, result_queries.ResultFilter(job=job_id))


@blueprint.get("/<job_id>/diff/<other_id>")
@describe(result_responses.Changes, f'"{JOB_URL}/diff/$OTHER_JOB"', response_headers=pagination.LINK_HEADERS)
def diff(job_id: str, other_id: str, query: job_requests.DiffQuery) -> flask.Response:
    """Return the images, by name, that have different labels in two jobs: to compare two models.

    With `only_in_one`, also the images that have a result in only one of the two jobs: the other one is null.
    """
    _read_job(job_id)
    _read_job(other_id)
    rows = container.services().db.read(
        job_diff.list_page,
        job_id,
        other_id,
        limit=query.limit,
        after=query.cursor,
        include_unpaired=query.only_in_one,
    )
    return pagination.list_response("changes", query, rows, result_responses.serialize_change, str)


@blueprint.get("/<job_id>/diff/<other_id>/pairs")
@describe(result_responses.LabelPairs, f'"{JOB_URL}/diff/$OTHER_JOB/pairs"')
def diff_pairs(job_id: str, other_id: str) -> result_responses.LabelPairs:
    """Return the pairs of labels in two jobs, over images of the same name, each with the number of its images."""
    _read_job(job_id)
    _read_job(other_id)
    return result_responses.serialize_pairs(container.services().db.read(job_diff.count_pairs, job_id, other_id))


@blueprint.get("")
@describe(
    job_responses.Jobs,
    '"$URL/v1/jobs?status=running&since=24h"',
    response_headers=pagination.LINK_HEADERS,
)
def index(query: job_requests.JobListQuery) -> flask.Response:
    """Return jobs, newest first: the caller's own, or all for other roles than `submit`."""
    services, caller = container.services(), auth.caller()
    filters = query.model_dump(exclude={"limit", "cursor"})
    owner = caller.visible_owner or (query.owner and services.db.read(api_keys.resolve_owner, query.owner))
    if query.model is not None:
        services.db.read(filter_values.require_model, query.model)
    job_filter = job_lists.JobFilter(**filters | {"owner": owner})
    after = pagination.parse_timestamp_cursor(query.cursor)
    rows = services.db.read(
        job_lists.list_page, job_filter, limit=query.limit, after=after and job_lists.JobCursor(*after)
    )
    estimate, base_url = services.eta_cache.get(), flask.request.url_root

    def serialize(row: Any) -> job_responses.Job:
        eta = job_responses.job_eta(row, estimate)
        return job_responses.serialize_job(row, base_url, eta, show_full_url=caller.can_see_webhook_urls)

    return pagination.list_response(
        "jobs", query, rows, serialize, lambda row: pagination.timestamp_cursor(row.created_at, row.id)
    )


def _read_job(job_id: str) -> Any:
    """Return a job that the caller may see.

    Raises:
        errors.JobNotFound: there is none.
    """
    return container.services().db.read(jobs.get, _valid_job_id(job_id), auth.caller().visible_owner)


def _valid_job_id(value: str) -> str:
    return ids.require_id(value, errors.JobNotFound)
