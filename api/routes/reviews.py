"""Reviews: what people say of results, the queue of images to review, and what the reviews say of the models."""

import dataclasses
from typing import Any

import flask

from api.http import auth, export_formats, pagination, requests, streams
from api.http import results as result_pages
from api.openapi.operations import describe
from api.schemas import ids, result_responses, review_requests, review_responses
from api.services import container
from core import enums, errors, review_statistics
from core.db import expressions
from core.db.queries import filter_values, models, results, review_queue, reviews

blueprint = flask.Blueprint("reviews", __name__, url_prefix="/v1")
REVIEWS_URL = "$URL/v1/reviews"


@blueprint.put("/results/<result_id>/review")
@describe(
    result_responses.Result,
    """-H "Content-Type: application/json" -d '{"label": "sushi"}' "$URL/v1/results/$RESULT/review\"""",
    role=enums.Role.REVIEW,
    body=review_requests.ReviewRequest,
    problems={404: ["result_not_found"], 409: ["nothing_to_review"], 422: ["unknown_label"]},
)
def put(result_id: str) -> result_responses.Result:
    """Review a result: the label that it should have, or that none fits; the last review counts.

    The label by the model stays. Repeating changes nothing.
    """
    request = requests.parse_json_body(review_requests.ReviewRequest)
    review = reviews.NewReview(enums.Verdict(request.verdict), request.label, request.note)
    db, caller = container.services().db, auth.caller()
    db.write(reviews.put, ids.require_row_id(result_id, errors.ResultNotFound), caller.visible_owner, caller.id, review)
    return result_responses.serialize_result(result_pages.read_result(result_id))


@blueprint.delete("/results/<result_id>/review")
@describe(
    result_responses.Result,
    '"$URL/v1/results/$RESULT/review"',
    role=enums.Role.REVIEW,
    problems={404: ["result_not_found"]},
)
def withdraw(result_id: str) -> result_responses.Result:
    """Withdraw the review of a result; it stays in the history. Repeating changes nothing."""
    db, caller = container.services().db, auth.caller()
    db.write(reviews.withdraw, ids.require_row_id(result_id, errors.ResultNotFound), caller.visible_owner, caller.id)
    return result_responses.serialize_result(result_pages.read_result(result_id))


@blueprint.get("/reviews")
@describe(
    review_responses.Reviews,
    f'-H "Accept: text/csv" "{REVIEWS_URL}?label=sushi"',
    response_headers=pagination.LINK_HEADERS,
    media_types=export_formats.REVIEW_DESCRIPTIONS,
    problems=result_pages.FILTER_PROBLEMS,
)
def index(query: review_requests.ReviewListQuery) -> flask.Response:
    """Return reviews, newest first: those of the caller's own results, or all for other roles than `submit`.

    As JSON in pages; in the other formats all of them in one stream, or up to `limit` if that is given.
    """
    db, filters = container.services().db, _review_filter(query)

    def read_page(after: int | None, limit: int) -> expressions.Page:
        return db.read(reviews.list_page, filters, limit=limit, after=after)

    accepted = export_formats.negotiate(export_formats.REVIEW_DESCRIPTIONS)
    if accepted.media_type != export_formats.JSON_MEDIA_TYPE:
        return streams.stream_response(db, accepted, export_formats.REVIEWS, query, read_page, query.cursor)
    rows = read_page(query.cursor, query.limit)
    response = pagination.list_response(
        "reviews", query, rows, review_responses.serialize_review, lambda cursor: cursor
    )
    response.headers["Vary"] = "Accept"
    return response


@blueprint.get("/reviews/queue")
@describe(
    review_responses.ReviewQueue,
    f'"{REVIEWS_URL}/queue?strategy=random&model=$MODEL"',
    role=enums.Role.REVIEW,
    problems={404: ["model_not_found"]},
)
def queue(query: review_requests.QueueQuery) -> flask.Response:
    """Return images to review, leased to the caller: no other key gets them for ten minutes.

    The caller's images that have no review yet come first, so repeating returns the same ones until they are reviewed.
    """
    db, caller = container.services().db, auth.caller()
    model = _queue_version(query.model)
    wanted = review_queue.Queue(caller.id, *model, query.strategy, caller.visible_owner)
    held_ids = db.read(review_queue.outstanding, wanted, limit=query.limit)
    selection = db.read(review_queue.select, wanted, limit=query.limit - len(held_ids))
    leased_ids = db.write(review_queue.lease, wanted, held_ids, selection)
    rows = db.read(results.get_many, leased_ids)
    in_order = [rows[image_id] for image_id in leased_ids if image_id in rows]
    response = flask.jsonify(
        review_responses.serialize_queue(query.strategy, model, review_queue.LEASE_SECONDS, in_order)
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.get("/reviews/stats")
@describe(review_responses.ReviewStats, f'"{REVIEWS_URL}/stats?model=$MODEL"', problems=result_pages.FILTER_PROBLEMS)
def stats(query: review_requests.ReviewFilterQuery) -> review_responses.ReviewStats:
    """Return what the reviews say of each version: accuracy, precision, recall, confusions and calibration.

    All shares are estimated from the random sample, with 95 % intervals, and are null without one: reviews of images
    that were chosen because they looked doubtful are counted, and say nothing about the others.
    """
    read, filters = container.services().db.read, _review_filter(query)
    found = []
    for version in read(reviews.count_by_version, filters):
        of_version = dataclasses.replace(filters, model=version.model_name, version=version.model_version)
        rows = read(reviews.list_judged, of_version)
        outcomes = [reviews.outcome_of(row.verdict, row.label, row.model_label) for row in rows]
        strategies = [row.strategy or reviews.CHOSEN_BY_HAND for row in rows]
        statistics = review_statistics.summarize(rows, outcomes, strategies)
        found.append(review_responses.serialize_statistics(version, statistics))
    return {"versions": found}


def _review_filter(query: review_requests.ReviewFilterQuery) -> reviews.ReviewFilter:
    """Return the filter of a query; its job, model, version and label exist.

    Raises:
        errors.BadParameter: one does not, or two contradict each other.
        errors.JobNotFound, errors.JobPurged: the job does not exist, or not any more.
    """
    db, owner = container.services().db, auth.caller().visible_owner
    values = query.model_dump(exclude={"limit", "cursor"}) | filter_values.split_version(query.model, query.version)
    shared = {name: values.get(name) for name in ("job", "model", "version", "label")}
    db.read(filter_values.require_existing, results.ResultFilter(**shared), owner)
    return reviews.ReviewFilter(owner=owner, **values)


def _queue_version(model_ref: str | None) -> tuple[str, str]:
    """Return the name and the version of a model as a caller names it.

    Raises:
        errors.ModelNotFound: the version does not exist, or none is live.
        errors.BadParameter: the caller names none, and not exactly one is live.
    """
    read = container.services().db.read
    name, _, version = (model_ref or "").partition("@")
    if version:
        row: Any = read(models.get_version, name, version)
        return row.name, row.version
    live = {row.name: row.version for row in read(models.list_all) if row.stage == enums.Stage.LIVE.value}
    if name and name not in live:
        raise errors.ModelNotFound(f"There is no live model {name!r}; name a version, as {name}@VERSION.")
    if not name and len(live) != 1:
        raise errors.BadParameter(f"Name the model, as model=NAME; live models: {', '.join(sorted(live)) or 'none'}.")
    name = name or next(iter(live))
    return name, live[name]
