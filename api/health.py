"""Whether the service lives, and whether it can do its work."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import flask
import pydantic
from typing_extensions import TypedDict

from api import document
from api.parts import parts
from jobs import errors
from jobs.store import schema, workers

blueprint = flask.Blueprint("health", __name__)


class Alive(TypedDict):
    """A sign of life."""

    status: Annotated[Literal["alive"], pydantic.Field(description="that it lives")]


class Check(TypedDict):
    """What one look gave."""

    ok: Annotated[bool, pydantic.Field(description="whether all is well")]
    detail: Annotated[str, pydantic.Field(description="what was seen, in a sentence")]


class Ready(TypedDict):
    """Whether work gets done, and what was looked at; `redis` may fail."""

    status: Annotated[Literal["ready", "not ready"], pydantic.Field(description="whether work gets done")]
    checks: Annotated[dict[str, Check], pydantic.Field(description="what was looked at, by name")]


@blueprint.get("/livez")
@document.call(Alive, '"$URL/livez"', open=True)
def livez() -> Alive:
    """The process answers; nothing else is looked at. Needs no key."""
    return {"status": "alive"}


@blueprint.get("/readyz")
@document.call(Ready, '"$URL/readyz"', also={503: Ready}, says={503: "the same, where something that is needed fails"})
def readyz() -> tuple[Ready, int]:
    """Jobs can be taken in and work on them moves, or there is none. Redis may be gone: it is only a bell."""
    checks = {"database": _check(_database), "blobs": _check(_blobs), "workers": _check(_workers)}
    ready = all(check["ok"] for check in checks.values())
    checks["redis"] = _redis()
    return {"status": "ready" if ready else "not ready", "checks": checks}, 200 if ready else 503


def _check(check: Callable[[], str]) -> Check:
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
    if not any(worker.gets_on for worker in living):
        still = f"Pictures wait, and no worker has got anything done for {workers.STILL_SECONDS:g} s"
        raise errors.Unavailable(f"{still}; their logs say why.")
    return ", ".join(f"{worker.id} ({_served(worker)}; {worker.device})" for worker in living)


def _served(worker: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in worker.serves.items()) or "no model"


def _redis() -> Check:
    error = parts().bell.error
    return {"ok": error is None, "detail": error or "the last ring was heard, or none was needed yet"}
