"""Liveness and readiness."""

from collections.abc import Callable
from typing import Any

import flask

from api.openapi.operations import describe
from api.schemas import health_responses
from api.services import container
from core import errors
from core.db import revision
from core.db.queries import workers

CRASH_LOOP_WORKERS = 4  # workers lost lately, none of which has lived for long: they crash again and again
blueprint = flask.Blueprint("health", __name__)


@blueprint.get("/livez")
@describe(health_responses.Liveness, '"$URL/livez"', is_public=True)
def livez() -> health_responses.Liveness:
    """Return that the process answers; nothing else is checked. Needs no key."""
    return {"status": "alive"}


@blueprint.get("/readyz")
@describe(
    health_responses.Readiness,
    '"$URL/readyz"',
    other_responses={503: health_responses.Readiness},
    descriptions={503: "the same, if a required check fails"},
)
def readyz() -> tuple[health_responses.Readiness, int]:
    """Return whether jobs are accepted and processed. Redis may be down: it only wakes workers up sooner."""
    services = container.services()
    checks = {
        "database": _run_check(_check_database, services),
        "blobs": _run_check(_check_blobs, services),
        "workers": _run_check(_check_workers, services),
    }
    is_ready = all(check["ok"] for check in checks.values())
    checks["redis"] = _check_redis(services)
    return {"status": "ready" if is_ready else "not ready", "checks": checks}, 200 if is_ready else 503


def _run_check(
    check: Callable[[container.Services], str], services: container.Services
) -> health_responses.CheckResult:
    try:
        return {"ok": True, "detail": check(services)}
    except errors.SortbeltError as error:
        return {"ok": False, "detail": error.detail}


def _check_database(services: container.Services) -> str:
    services.db.check_pages()
    return f"{services.db.dialect_name}, revision {services.db.write(revision.check_writable)}"


def _check_blobs(services: container.Services) -> str:
    services.blob_store.check()
    return "writable"


def _check_workers(services: container.Services) -> str:
    live_workers = services.db.read(workers.list_alive)
    if not live_workers:
        raise errors.ServiceUnavailable("No worker has sent a heartbeat; start one: python -m worker.")
    crashed_count = services.db.read(workers.count_crashed)
    if crashed_count >= CRASH_LOOP_WORKERS and not any(map(_is_steady, live_workers)):
        reason = f"Workers keep crashing: {crashed_count} were lost in {workers.CRASH_WINDOW_SECONDS / 60:g} minutes"
        raise errors.ServiceUnavailable(f"{reason}; see the logs of the workers.")
    if not any(worker.is_progressing for worker in live_workers):
        reason = f"Images are queued, and no worker has made progress for {workers.STALLED_SECONDS:g} s"
        raise errors.ServiceUnavailable(f"{reason}; see the logs of the workers.")
    return ", ".join(f"{worker.id} ({_loaded_models(worker)}; {worker.device})" for worker in live_workers)


def _is_steady(worker: Any) -> bool:
    return bool((worker.heartbeat_at - worker.started_at).total_seconds() > workers.STEADY_SECONDS)


def _loaded_models(worker: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in worker.loaded_models.items()) or "no model"


def _check_redis(services: container.Services) -> health_responses.CheckResult:
    error = services.wakeup.last_error
    return {"ok": error is None, "detail": error or "the last wake-up was sent, or none was needed yet"}
