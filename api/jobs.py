"""Jobs: submit, fill, seal, call off, look."""

import flask

from api import asked, auth, pages, shapes, uploads
from api.parts import parts
from jobs import errors, tables
from jobs.store import jobs
from jobs.store import results as store_results

blueprint = flask.Blueprint("jobs", __name__, url_prefix="/v1/jobs")
POLL_SECONDS = 1


@blueprint.post("")
@auth.needs(tables.Role.SUBMIT)
def submit() -> flask.Response:
    """Take in a job: its pictures, or none yet if it is open."""
    order = uploads.order()
    pictures = [] if uploads.is_json() else uploads.pictures()
    return _accepted(parts().intake.create(order, pictures, refuse_bad=uploads.is_raw()))


@blueprint.post("/<job_id>/images")
@auth.needs(tables.Role.SUBMIT)
def add(job_id: str) -> flask.Response:
    """Take in more pictures of an open job."""
    parts().intake.add(_id(job_id), auth.caller().id, uploads.pictures())
    return _accepted(job_id)


@blueprint.post("/<job_id>/seal")
@auth.needs(tables.Role.SUBMIT)
def seal(job_id: str) -> flask.Response:
    """Say that an open job is complete."""
    parts().db.write(jobs.seal, _id(job_id), auth.caller().id)
    return _shown(job_id)


@blueprint.post("/<job_id>/cancel")
@auth.needs(tables.Role.SUBMIT)
def cancel(job_id: str) -> flask.Response:
    """Call off what no worker has taken yet."""
    parts().db.write(jobs.cancel, _id(job_id), auth.caller().id)
    return _shown(job_id)


@blueprint.get("/<job_id>")
def show(job_id: str) -> flask.Response:
    """A job with its live counts."""
    return _shown(_id(job_id))


@blueprint.get("/<job_id>/results")
def results(job_id: str) -> flask.Response:
    """The results of a job, in the order in which its pictures came."""
    parts().db.read(jobs.job, _id(job_id), _whose())
    page = asked.Page.parameters()
    wanted = store_results.Filter(job=job_id)
    rows = parts().db.read(store_results.page, wanted, limit=page.limit, after=page.after_row)
    return pages.answer("results", page, rows, shapes.result, lambda row: row.image_id)


@blueprint.get("")
def index() -> flask.Response:
    """Jobs, newest first."""
    page = asked.Jobs.parameters()
    rows = parts().db.read(jobs.page, _whose(), limit=page.limit, before=page.after_id, status=page.status)
    return pages.answer("jobs", page, rows, shapes.job, lambda row: row.id)


def _whose() -> str | None:
    return None if auth.caller().is_admin else auth.caller().id


def _id(given: str) -> str:
    if asked.id_of(given) is None:
        raise errors.JobNotFound(f"There is no job {given[:100]!r} among yours.")
    return given


def _shown(job_id: str) -> flask.Response:
    row = parts().db.read(jobs.job, job_id, _whose())
    response = flask.jsonify(shapes.job(row))
    if row.finished_at is None:
        response.headers["Retry-After"] = str(POLL_SECONDS)
    return response


def _accepted(job_id: str) -> flask.Response:
    response = _shown(job_id)
    response.status_code = 202
    response.headers["Location"] = flask.url_for("jobs.show", job_id=job_id, _external=True)
    return response
