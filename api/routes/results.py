"""Results across jobs, statistics, and the verification of a result."""

import flask

from api.http import auth, export_formats, long_poll, pagination, rate_limit_headers, responses
from api.http import results as result_pages
from api.openapi.operations import describe
from api.schemas import job_responses, result_requests, result_responses
from api.services import container
from core import enums, errors
from core.db import new_image
from core.db.queries import api_keys, filter_values, jobs, result_stats, results, selections

blueprint = flask.Blueprint("results", __name__, url_prefix="/v1")


@blueprint.get("/results")
@describe(
    result_responses.Results,
    '-H "Accept: text/csv" "$URL/v1/results?label=sushi&min_confidence=0.9"',
    request_headers=result_pages.IF_NONE_MATCH_HEADER,
    response_headers=pagination.LINK_HEADERS | result_pages.ETAG_HEADERS,
    media_types=export_formats.DESCRIPTIONS,
    other_responses={304: None},
    problems=result_pages.FILTER_PROBLEMS,
)
def index(query: result_requests.ResultListQuery) -> flask.Response:
    """Return results in an order: the caller's own, or all for other roles than `submit`.

    As JSON in pages; in the other formats all of them in one stream, or up to `limit` if that is given.
    """
    order = results.ResultOrder(query.order)
    return result_pages.results_response(container.services().db, query, _result_filter(query), order)


@blueprint.get("/results/<result_id>")
@describe(result_responses.Result, '"$URL/v1/results/$RESULT"', problems={404: ["result_not_found"]})
def show(result_id: str) -> result_responses.Result:
    """Return one result, with its review if it has one."""
    return result_responses.serialize_result(result_pages.read_result(result_id))


@blueprint.get("/stats")
@describe(
    result_responses.Stats, '"$URL/v1/stats?group=confidence&by=label&since=7d"', problems=result_pages.FILTER_PROBLEMS
)
def stats(query: result_requests.StatsQuery) -> result_responses.Stats:
    """Return the number of results in each group, and their mean confidence and familiarity.

    By confidence or familiarity it is a histogram of ten ranges.
    """
    rows = container.services().db.read(result_stats.count_by, _result_filter(query), query.group, query.by)
    return {"group": query.group, "by": query.by, "stats": [result_responses.serialize_stat(row) for row in rows]}


@blueprint.post("/results/<result_id>/verify")
@describe(
    job_responses.Job,
    '-X POST -H "Prefer: wait=10" "$URL/v1/results/$RESULT/verify"',
    role=enums.Role.SUBMIT,
    status=202,
    other_responses={200: job_responses.JobWithResults},
    request_headers=long_poll.PREFER_HEADER,
    response_headers=long_poll.ACCEPTED_HEADERS | rate_limit_headers.HEADERS,
    descriptions=long_poll.RESPONSE_DESCRIPTIONS,
    problems={
        **rate_limit_headers.PROBLEM_CODES,
        404: ["result_not_found"],
        409: ["nothing_to_retry"],
        410: ["image_gone"],
        422: ["unknown_model"],
    },
)
def verify(result_id: str) -> flask.Response:
    """Classify an image again, bypassing the cache: a job of this one image, to compare with the result.

    Its metadata has the id, label, confidence and environment of the result.
    """
    services, caller = container.services(), auth.caller()
    row = result_pages.read_result(result_id)
    if selections.is_rejected(row):
        raise errors.NothingToRetry("This image was rejected by its header, and its bytes were not stored.")
    metadata = {"verifies": result_id, "job_id": row.job_id, "label": row.label, "confidence": row.confidence}
    metadata |= {"environment": result_responses.serialize_environment(row)}
    priority = enums.Priority.INTERACTIVE
    new_job = jobs.NewJob(caller.id, row.model_name, priority, metadata, fresh=True, key_quotas=caller.key_quotas)
    job = services.intake.create_from_stored_images(new_job, [new_image.NewImage.copy_of(row, row.name)])
    return responses.accepted_response(job, caller, services.eta_cache)


def _result_filter(query: result_requests.ResultFilterQuery) -> results.ResultFilter:
    """Return the filter of a query, all of whose values exist.

    Raises:
        errors.BadParameter: one does not, or two contradict each other.
        errors.JobNotFound, errors.JobPurged: the job does not exist, or not any more.
    """
    filters = query.model_dump(include=set(result_requests.ResultFilterQuery.model_fields))
    visible_owner, db = auth.caller().visible_owner, container.services().db
    filters |= filter_values.split_version(query.model, query.version)
    filters["owner"] = visible_owner or (query.owner and db.read(api_keys.resolve_owner, query.owner))
    result_filter = results.ResultFilter(**filters)
    db.read(filter_values.require_existing, result_filter, visible_owner)
    return result_filter
