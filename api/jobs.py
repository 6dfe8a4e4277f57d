"""Jobs: submit, fill, seal, call off, look."""

import math

import flask

from api import asked, auth, document, formats, later, limits, pages, shapes, uploads
from api.parts import parts
from jobs import errors, tables
from jobs.store import jobs, listed, scans
from jobs.store import results as store_results

blueprint = flask.Blueprint("jobs", __name__, url_prefix="/v1/jobs")
HERE = "$URL/v1/jobs/$JOB"
JOB = {"job_id": "$response.body#/id"}
LINKS = dict.fromkeys(("jobs.show", "jobs.results", "jobs.cancel", "jobs.seal", "jobs.scan", "jobs.retry"), JOB)
BUSY = [*limits.LATER[503], "blobs_unavailable"]
WORKING = {"Retry-After": "seconds after which to look again, while the job is under way"}
TAGGED = {**WORKING, "ETag": "of this state; sent as If-None-Match, 304 says that it is still so"}
UNLESS = {"If-None-Match": {"description": "the ETag of a state that is known: with `wait`, any other is waited for"}}


class TooManyStreams(errors.Unavailable):
    """Too many streams of events are open; poll the job, or wait for it with `?wait=`."""

    code = "too_many_streams"


@blueprint.post("")
@auth.needs(tables.Role.SUBMIT)
@document.call(
    shapes.Job,
    '-H "Prefer: wait=10" -F images=@lunch.jpg -F images=@dinner.jpg "$URL/v1/jobs"',
    status=202,
    also={200: shapes.JobWithResults},
    body=uploads.ORDERED,
    headers={**uploads.IDEMPOTENT, **later.PREFER},
    answered=later.TAKEN | limits.TOLD,
    links=LINKS,
    says=later.SAYS,
    problems={
        **limits.LATER,
        410: ["job_purged"],
        415: ["unsupported_format"],
        422: [*uploads.PROBLEMS, *uploads.REFUSED, "unknown_model", "idempotency_mismatch"],
        503: BUSY,
    },
)
def submit(query: asked.RawOrder) -> flask.Response:
    """Take in a job: its pictures, or none yet if it is open.

    Pictures are parts named `images` of a form, each with a file name that is its name in the results; or one picture
    is the raw body, whose `name` and `custom_id` stand in the URL. JSON orders an open job, whose pictures are sent to
    its `images_url`, or one of pictures that were sent before: `POST /v1/blobs/check` says which those are.

    A bad picture in a form fails by itself, and its result says why; as the raw body it is refused at once.
    """
    order, brought = uploads.order(query)
    job = parts().intake.create(
        order, brought.uploads, references=brought.references, refuse_bad=uploads.is_raw() and not uploads.is_json()
    )
    return later.accepted(job)


@blueprint.post("/<job_id>/images")
@auth.needs(tables.Role.SUBMIT)
@document.call(
    shapes.Job,
    f'-F images=@breakfast.jpg "{HERE}/images"',
    status=202,
    body=uploads.PICTURES,
    answered=later.TAKEN | limits.TOLD,
    links=LINKS,
    problems={**limits.LATER, 409: ["job_sealed"], 422: uploads.PROBLEMS, 503: BUSY},
)
def add(job_id: str, query: asked.RawPicture) -> flask.Response:
    """Take in more pictures of an open job; a name that it has already is left alone, so repeating does no harm.

    A bad picture fails by itself, also as the raw body, and its result says why.
    """
    known = parts().db.read(jobs.job, _id(job_id), auth.caller().id)  # before the body is looked at
    brought = uploads.brought(query)
    own = auth.quotas_of_caller()
    parts().intake.add(known.id, auth.caller().id, brought.uploads, references=brought.references, own=own)
    return later.accepted(parts().db.read(jobs.job, job_id, auth.caller().id))


@blueprint.post("/<job_id>/seal")
@auth.needs(tables.Role.SUBMIT)
@document.call(shapes.Job, f'-X POST "{HERE}/seal"', answered=WORKING, links=LINKS)
def seal(job_id: str) -> flask.Response:
    """Say that an open job is complete; again changes nothing."""
    parts().db.write(jobs.seal, _id(job_id), auth.caller().id)
    parts().notices.tell([job_id])
    return later.shown(job_id, auth.caller().sees)


@blueprint.post("/<job_id>/scan")
@auth.needs(tables.Role.SUBMIT)
@document.call(
    shapes.Job,
    f"""-H "Content-Type: application/json" -d '{{"source": "photos", "prefix": "2026"}}' "{HERE}/scan\"""",
    status=202,
    body=asked.Scan.described(),
    answered=later.TAKEN,
    links=LINKS,
    problems={409: ["job_sealed", "scan_taken"], 422: ["unknown_source"]},
)
def scan(job_id: str) -> flask.Response:
    """Have an open job filled by the server, from one of its sources: nothing is sent, and nothing is copied.

    It goes on by itself; `scan` of the job tells how far it is. Then the job is sealed, unless that is not wanted; to
    seal it before says that it is. The same again changes nothing. Pictures are named by their paths in the source.
    """
    parts().db.read(jobs.job, _id(job_id), auth.caller().id)  # before the body is looked at
    wanted = asked.Scan.body()
    source, prefix = parts().sources.find(wanted.source, wanted.prefix)
    new = scans.NewScan(source, prefix, wanted.include, wanted.exclude, wanted.seal)
    parts().db.write(scans.order, job_id, auth.caller().id, new)
    return later.accepted(parts().db.read(jobs.job, job_id, auth.caller().id))


@blueprint.post("/<job_id>/cancel")
@auth.needs(tables.Role.SUBMIT)
@document.call(shapes.Job, f'-X POST "{HERE}/cancel"', answered=WORKING, links=LINKS)
def cancel(job_id: str) -> flask.Response:
    """Call off what no worker has taken yet; what has a result keeps it. Again changes nothing.

    While workers have pictures of it the job is `running` still, and `cancelled` when they are through with those. One
    that has ended stays as it is.
    """
    parts().db.write(jobs.cancel, _id(job_id), auth.caller().id)
    parts().notices.tell([job_id])
    return later.shown(job_id, auth.caller().sees)


@blueprint.post("/<job_id>/retry")
@auth.needs(tables.Role.SUBMIT)
@document.call(
    shapes.Job,
    f'-X POST "{HERE}/retry"',
    status=202,
    answered=later.TAKEN | limits.TOLD,
    links=LINKS,
    problems={**limits.LATER, 409: ["job_not_over", "nothing_to_retry"], 422: ["too_many_images"]},
)
def retry(job_id: str) -> flask.Response:
    """Order anew what got no label: a job of its own, with only the pictures that failed, expired or were cancelled.

    Asked again it answers with the same job. What was refused when it was taken in, as empty, too large or no picture,
    is left out; if nothing else is left, that is `nothing_to_retry`.
    """
    new = parts().intake.retry(_id(job_id), auth.caller().id, auth.quotas_of_caller())
    return later.accepted(parts().db.read(jobs.job, new, auth.caller().id))


@blueprint.get("/<job_id>")
@document.call(
    shapes.Job,
    f'"{HERE}?wait=30"',
    headers=UNLESS,
    answered=TAGGED,
    links=LINKS,
    also={304: None},
)
def show(job_id: str, query: asked.Waiting) -> flask.Response:
    """A job with its live counts, which always sum to the total.

    With `wait` it answers when the job has ended, or as it is when the time is over: `finished_at` tells which.
    """
    response = later.shown(_id(job_id), auth.caller().sees)
    known = flask.request.headers.get("If-None-Match")
    if query.wait and "Retry-After" in response.headers and known in (None, response.headers["ETag"]):
        whole = auth.caller().learns_addresses
        later.leave(later.Wait(job_id, flask.request.url_root, query.wait, whole=whole, known=known))
    response.make_conditional(flask.request)
    return response


@blueprint.get("/<job_id>/events")
@document.call(
    str,
    f'-N "{HERE}/events"',
    media="text/event-stream",
    says={200: "the events, until the job has ended", 204: "the end was told already: do not ask again"},
    headers={"Last-Event-ID": {"description": "the id of the last event seen: what it told is not told again"}},
    also={204: None},
    problems={503: ["too_many_streams"]},
)
def events(job_id: str) -> flask.Response:
    """The job as it goes on, as server-sent events: `progress` whenever its counts have moved, and at last `done`.

    The last is called `done` however the job has ended: its status says how. The data of each is the job. The id of an
    event is the number of pictures that have ended, or `end`; who reconnects with the last one is told only what is
    new, and who had the end gets 204.
    """
    parts().db.read(jobs.job, _id(job_id), auth.caller().sees)
    known = flask.request.headers.get("Last-Event-ID", "")
    if known == later.END:
        return flask.Response(status=204)
    caller = auth.caller()
    _check_streams(caller.id)
    later.leave(later.Events(job_id, caller.id, flask.request.url_root, caller.learns_addresses, known))
    return flask.Response(mimetype="text/event-stream", headers={"Cache-Control": "no-store"})


@blueprint.get("/<job_id>/results")
@document.call(
    shapes.Results,
    f'"{HERE}/results"',
    headers=pages.UNLESS,
    answered=pages.ANSWERED | pages.TAGGED,
    forms=formats.SAYS,
    also={304: None},
)
def results(job_id: str, query: asked.Rows) -> flask.Response:
    """The results of a job, in the order in which its pictures came.

    As JSON by the page; in the other forms all of them in one stream, or up to `limit` if that is given. Before the job
    has ended, those that are there; a page leaves out what ends later before its cursor.
    """
    parts().db.read(jobs.job, _id(job_id), auth.caller().sees)
    return pages.results(query, store_results.Filter(job=job_id))


@blueprint.get("/<job_id>/diff/<other_id>")
@document.call(shapes.Changes, f'"{HERE}/diff/$OTHER_JOB"', answered=pages.ANSWERED)
def diff(job_id: str, other_id: str, query: asked.Names) -> flask.Response:
    """The pictures that two jobs both have, by name, and whose labels differ: what another model sees otherwise."""
    for id_ in (job_id, other_id):
        parts().db.read(jobs.job, _id(id_), auth.caller().sees)
    rows = parts().db.read(store_results.diff, job_id, other_id, limit=query.limit, after=query.cursor)
    return pages.answer("changes", query, rows, shapes.change, lambda row: row.name)


@blueprint.get("")
@document.call(shapes.Jobs, '"$URL/v1/jobs?status=running&since=2026-01-31"', answered=pages.ANSWERED)
def index(query: asked.Jobs) -> flask.Response:
    """Jobs, newest first: one's own; everybody's for keys of the role `read` or `admin`."""
    given = query.model_dump(exclude={"limit", "cursor"})
    wanted = listed.Filter(**given | {"owner": auth.caller().sees or query.owner})
    after = pages.moment_place(query.cursor)
    rows = parts().db.read(listed.page, wanted, limit=query.limit, after=after and listed.Place(*after))
    root, outlook, whole = flask.request.url_root, parts().outlook.now(), auth.caller().learns_addresses
    shape = lambda row: shapes.job(row, root, outlook, whole=whole)  # noqa: E731 (as short as the others)
    return pages.answer("jobs", query, rows, shape, lambda row: pages.moment_key(row.created_at, row.id))


def _check_streams(key_id: str) -> None:
    """Raise TooManyStreams if there can be no more: of all, or of this key, which may have half of them."""
    streams, most = parts().watch.streams, parts().settings.max_event_streams
    if streams.total() >= most or streams[key_id] >= math.ceil(most / 2):
        raise TooManyStreams


def _id(given: str) -> str:
    if asked.id_of(given) is None:
        raise errors.JobNotFound(f"There is no job {given[:100]!r} among yours.")
    return given
