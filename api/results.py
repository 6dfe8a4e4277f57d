"""Results across jobs: one's own, or everybody's for who looks and for admins; and looking again at one."""

import flask

from api import asked, auth, document, formats, later, limits, pages, shapes
from api.parts import parts
from jobs import errors, tables
from jobs.store import incoming, jobs, results

blueprint = flask.Blueprint("results", __name__, url_prefix="/v1")


@blueprint.get("/results")
@document.call(
    shapes.Results,
    '-H "Accept: text/csv" "$URL/v1/results?label=sushi&min_confidence=0.9"',
    headers=pages.UNLESS,
    answered=pages.ANSWERED | pages.TAGGED,
    forms=formats.SAYS,
    also={304: None},
)
def index(query: asked.Results) -> flask.Response:
    """Results, newest first or the least confident: one's own; everybody's for keys of the role `read` or `admin`.

    As JSON by the page; in the other forms all of them in one stream, or up to `limit` if that is given.
    """
    return pages.results(query, _wanted(query), results.Order(query.order))


@blueprint.get("/stats")
@document.call(shapes.Stats, '"$URL/v1/stats?group=label&since=2026-01-31"')
def stats(query: asked.Stats) -> shapes.Stats:
    """How many results there are of each kind, and how sure they are in the mean."""
    rows = parts().db.read(results.stats, _wanted(query), query.group)
    return {"group": query.group, "stats": [shapes.stat(row) for row in rows]}


@blueprint.post("/results/<result_id>/verify")
@auth.needs(tables.Role.SUBMIT)
@document.call(
    shapes.Job,
    '-X POST -H "Prefer: wait=10" "$URL/v1/results/$RESULT/verify"',
    status=202,
    also={200: shapes.JobWithResults},
    headers=later.PREFER,
    answered=later.TAKEN | limits.TOLD,
    says=later.SAYS,
    problems={**limits.LATER, 404: ["result_not_found"], 409: ["nothing_to_retry"], 422: ["unknown_model"]},
)
def verify(result_id: str) -> flask.Response:
    """Classify a picture again, alone, whatever is known of its bytes: a job of one, to be compared with the result.

    Its metadata says which result it looks at again, what that said, and in which environment.
    """
    number = int(result_id) if asked.is_row(result_id) else -1
    row = parts().db.read(results.one, number, auth.caller().sees)
    if row is None:
        raise errors.ResultNotFound
    if row.attempt == 0 and row.status == tables.Status.FAILED:
        raise errors.NothingToRetry("This picture was refused by its header, and never stored.")
    said = {"verifies": result_id, "job_id": row.job_id, "label": row.label, "confidence": row.confidence}
    said |= {"environment": shapes.environment(row)}
    own = auth.quotas_of_caller()
    order = jobs.NewJob(auth.caller().id, row.model, tables.Priority.INTERACTIVE, said, fresh=True, limits=own)
    place = {"source": row.source, "location": row.location}
    image = incoming.NewImage(row.name, row.sha256, row.bytes, custom_id=row.custom_id, **place)
    return later.accepted(parts().intake.again(order, image))


def _wanted(query: asked.Filter) -> results.Filter:
    given = query.model_dump(include=set(asked.Filter.model_fields))
    return results.Filter(**given | {"owner": auth.caller().sees or query.owner})
