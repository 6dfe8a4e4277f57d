"""Whether the service lives, and whether it can do its work."""

from collections.abc import Callable
from typing import Any

import flask

from api.parts import parts
from jobs import errors
from jobs.store import schema, workers

blueprint = flask.Blueprint("health", __name__)


@blueprint.get("/livez")
def livez() -> dict[str, str]:
    """The process answers; nothing else is looked at. Needs no key."""
    return {"status": "alive"}


@blueprint.get("/readyz")
def readyz() -> tuple[dict[str, Any], int]:
    """Jobs can be taken in and are being worked on. Redis may be gone: it is only a bell."""
    checks = {"database": _check(_database), "blobs": _check(_blobs), "workers": _check(_workers)}
    ready = all(check["ok"] for check in checks.values())
    checks["redis"] = _redis()
    return {"status": "ready" if ready else "not ready", "checks": checks}, 200 if ready else 503


def _check(check: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"ok": True, "detail": check()}
    except errors.SortbeltError as error:
        return {"ok": False, "detail": error.detail}


def _database() -> str:
    return f"{parts().db.name}, revision {parts().db.read(schema.check)}"


def _blobs() -> str:
    parts().blobs.check()
    return "writable"


def _workers() -> str:
    living = parts().db.read(workers.living)
    if not living:
        raise errors.Unavailable("No worker shows life; start one: python -m worker.")
    return ", ".join(f"{worker.id} ({worker.model} {worker.model_version}, {worker.device})" for worker in living)


def _redis() -> dict[str, Any]:
    error = parts().bell.error
    return {"ok": error is None, "detail": error or "the last ring was heard, or none was needed yet"}
