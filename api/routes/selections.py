"""Selections: actions on several images at once, by their ids."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import flask

from api.http import auth, long_poll, rate_limit_headers, requests, responses
from api.openapi.operations import describe
from api.schemas import job_responses, purge_responses, selection_requests, selection_responses
from api.services import container, image_archive
from core import enums, errors
from core.db import database, new_image
from core.db.queries import jobs, known_blobs, selections
from core.db.queries.reviews import NewReview
from core.intake import service

blueprint = flask.Blueprint("selections", __name__, url_prefix="/v1/selections")
BODY = '-H "Content-Type: application/json" -d'
NOT_FOUND = {404: ["image_not_found"]}
MAX_PAUSE_SECONDS = 0.5
LOCK_TIMEOUT_SECONDS = 5.0
Outcome = TypeVar("Outcome")
_sqlite_lock = threading.Lock()  # one selection at a time is changed


class SelectionsBusy(errors.ServiceUnavailable):
    """Other selections are being changed."""

    code = "too_busy"


@blueprint.post("/review")
@describe(
    selection_responses.SelectionReviews,
    f"""{BODY} '{{"images": ["'$IMAGE'"], "label": "sushi"}}' "$URL/v1/selections/review\"""",
    role=enums.Role.REVIEW,
    body=selection_requests.SelectionReview,
)
def review() -> selection_responses.SelectionReviews:
    """Give up to 1,000 images the same review; those that cannot have it are in `failed`. Repeating changes nothing."""
    request = requests.parse_json_body(selection_requests.SelectionReview)
    verdict = NewReview(enums.Verdict(request.verdict), request.label, request.note)
    db, caller = container.services().db, auth.caller()
    outcomes = _write_in_steps(db, selections.review, request.image_ids, caller.visible_owner, caller.id, verdict)
    faults = [fault for faults_of_step in outcomes for fault in faults_of_step]
    return {
        "reviewed": len(request.image_ids) - len(faults),
        "failed": selection_responses.serialize_faults(faults),
    }


@blueprint.post("/delete")
@describe(
    selection_responses.SelectionDeletion,
    f"""{BODY} '{{"images": ["'$IMAGE'"]}}' "$URL/v1/selections/delete\"""",
    role=enums.Role.SUBMIT,
    body=selection_requests.Selection,
)
def delete() -> selection_responses.SelectionDeletion:
    """Delete up to 1,000 images as `DELETE /v1/images/{image_id}` does; those that cannot be are in `failed`."""
    request = requests.parse_json_body(selection_requests.Selection)
    services, caller = container.services(), auth.caller()
    owner = caller.deletable_owner
    deletion = selections.Deletion()
    for outcome in _write_in_steps(services.db, selections.delete, request.image_ids, owner, caller.id):
        deletion.add(outcome)
    services.blob_store.remove(services.db.read(known_blobs.unreferenced, deletion.digests))
    return {
        "deleted": [purge_responses.serialize_deletion(receipt) for receipt in deletion.receipts],
        "failed": selection_responses.serialize_faults(deletion.faults),
    }


@blueprint.post("/resubmit")
@describe(
    job_responses.JobRetry,
    f"""{BODY} '{{"images": ["'$IMAGE'"]}}' "$URL/v1/selections/resubmit\"""",
    role=enums.Role.SUBMIT,
    status=202,
    body=selection_requests.Resubmission,
    request_headers=requests.IDEMPOTENCY_HEADER,
    response_headers=long_poll.ACCEPTED_HEADERS | rate_limit_headers.HEADERS,
    problems={
        **NOT_FOUND,
        **rate_limit_headers.PROBLEM_CODES,
        409: ["nothing_to_retry"],
        410: ["job_purged", "image_gone"],
        422: ["unknown_model", "idempotency_mismatch"],
    },
)
def resubmit() -> flask.Response:
    """Classify up to 1,000 images again, by their model or by another one: a new job, without an upload.

    Images whose bytes were not stored, because their header was rejected, are counted in `left_out`. Of images with the
    same name, all but one get a number.
    """
    request = requests.parse_json_body(selection_requests.Resubmission)
    services, caller = container.services(), auth.caller()
    new_job = jobs.NewJob(
        caller.id,
        request.model or "",
        name=request.job_name,
        fresh=request.fresh,
        idempotency_key=requests.idempotency_key(),
        fingerprint=service.fingerprint([request.image_ids, request.model, request.job_name, request.fresh]),
        key_quotas=caller.key_quotas,
    )
    job = services.intake.find_repeated(new_job)
    if job is not None:  # whose images may be deleted by now
        rows = services.db.read(selections.list_existing_rows, request.image_ids, caller.visible_owner)
    else:
        rows = services.db.read(selections.list_rows, request.image_ids, caller.visible_owner)
        stored = [row for row in rows if not selections.is_rejected(row)]
        if not stored:
            raise errors.NothingToRetry("The bytes of none of these images were stored; submit other files.")
        names = selections.unique_names([row.name for row in stored])
        images = [new_image.NewImage.copy_of(row, name) for row, name in zip(stored, names, strict=True)]
        new_job = dataclasses.replace(new_job, model=_model(request, stored))
        job = services.intake.create_from_stored_images(new_job, images)
    left_out = selections.count_codes(row for row in rows if selections.is_rejected(row))
    fields = {"left_out": job_responses.serialize_left_out(left_out)}
    return responses.accepted_response(job, caller, services.eta_cache, fields)


@blueprint.post("/archive")
@describe(
    bytes,
    f"""{BODY} '{{"images": ["'$IMAGE'"]}}' -o images.zip "$URL/v1/selections/archive\"""",
    role=enums.Role.REVIEW,
    media_type="application/zip",
    body=selection_requests.Selection,
    descriptions={200: "the archive"},
    response_headers={"Content-Disposition": "attachment, and the name of the file"},
    problems={**NOT_FOUND, 422: ["selection_too_large"]},
)
def archive() -> flask.Response:
    """Return up to 1,000 images, as they were submitted, as a ZIP file with a folder per label.

    The label of a review goes before that of the model. Images whose bytes cannot be read are named in
    `left-out.txt`. All together may have 500 MB.
    """
    request = requests.parse_json_body(selection_requests.Selection)
    services = container.services()
    rows = services.db.read(selections.list_rows, request.image_ids, auth.caller().visible_owner)
    image_archive.check_size(rows)
    response = flask.Response(
        image_archive.stream(rows, services.blob_store, services.sources), mimetype="application/zip"
    )
    response.headers["Content-Disposition"] = 'attachment; filename="images.zip"'
    response.headers["Cache-Control"] = "no-store"
    return response


def _write_in_steps(
    db: database.Database, query: Callable[..., Outcome], image_ids: Sequence[int], *args: Any
) -> list[Outcome]:
    """Call a query function with each step of a selection, and return what it returned.

    Raises:
        SelectionsBusy: another selection is being changed, for so long that a thread is not to wait for it.

    The writers of other processes poll for the lock of SQLite, and would hardly ever meet it free between the steps:
    half of the time is theirs.
    """
    is_polled = db.dialect_name == "sqlite"
    outcomes: list[Outcome] = []
    pause = 0.0
    with _acquire_sqlite_lock() if is_polled else contextlib.nullcontext():
        for step in selections.steps(image_ids):
            time.sleep(pause)
            started_at = time.monotonic()
            outcomes.append(db.write(query, step, *args))
            pause = min(time.monotonic() - started_at, MAX_PAUSE_SECONDS) if is_polled else 0.0
    return outcomes


@contextlib.contextmanager
def _acquire_sqlite_lock() -> Iterator[None]:
    if not _sqlite_lock.acquire(timeout=LOCK_TIMEOUT_SECONDS):
        raise SelectionsBusy
    try:
        yield
    finally:
        _sqlite_lock.release()


def _model(request: selection_requests.Resubmission, rows: list[Any]) -> str:
    """Return the model that a request names, or else that of its images.

    Raises:
        errors.BadParameter: it names none, and the images were classified by several.
    """
    if request.model is not None:
        return request.model
    names = sorted({row.model_name for row in rows})
    if len(names) > 1:
        raise errors.BadParameter(f"These images are of several models ({', '.join(names)}); name one, as model.")
    return str(names[0])
