"""Responses that are a job: as it is now, or 202 for one that was accepted."""

from collections.abc import Mapping
from typing import Any

import flask

from api.http import deferred, long_poll, requests, suspension, wait_limits
from api.schemas import job_responses
from api.services import container
from core import json_values
from core.db.queries import api_keys, eta
from core.intake.eta_cache import EtaCache


def job_response(row: Any, caller: api_keys.Caller, eta_cache: EtaCache) -> flask.Response:
    """Return a job as it is now."""
    estimate = eta_cache.get() if row.finished_at is None else None
    return _job_response(row, estimate, show_full_url=caller.can_see_webhook_urls)


def _job_response(
    row: Any,
    estimate: eta.QueueEstimate | None,
    *,
    more_fields: Mapping[str, Any] | None = None,
    status: int = 200,
    show_full_url: bool = True,
    headers: Mapping[str, str] | None = None,
) -> flask.Response:
    job_eta = job_responses.job_eta(row, estimate)
    job = job_responses.serialize_job(row, flask.request.url_root, job_eta, show_full_url=show_full_url)
    body = json_values.encode_json({**job, **more_fields} if more_fields else job)
    all_headers = {"ETag": job_responses.etag(row), **job_responses.retry_after_header(row, job_eta), **(headers or {})}
    return suspension.Response(body, status, all_headers, mimetype="application/json")


def accepted_response(
    row: Any, caller: api_keys.Caller, eta_cache: EtaCache, more_fields: Mapping[str, Any] | None = None
) -> flask.Response:
    """Return 202 with a job; with `Prefer: wait`, the ASGI adapter, if there is one, makes its body after the wait.

    The preference is ignored if too many requests wait already: the job is accepted all the same. The estimate is the
    latest, which admission control has just had refreshed: the database is not asked again.
    """
    base_url = flask.request.url_root
    headers = {"Location": f"{base_url}v1/jobs/{row.id}"}
    timeout = requests.preferred_wait_seconds()
    if timeout is not None and wait_limits.can_wait(container.services(), caller.id):
        headers["Preference-Applied"] = f"wait={timeout:.0f}"
        wait = long_poll.LongPoll(
            str(row.id), caller.id, base_url, timeout, show_full_url=True, submitted=row, more_fields=more_fields or {}
        )
        if deferred.defer(wait):
            return suspension.Response(b"", 202, headers)
    return _job_response(row, eta_cache.latest, more_fields=more_fields, status=202, headers=headers)
