"""How a job, a result and a key look as JSON."""

from datetime import UTC, datetime
from typing import Any

import flask

from jobs import tables


def job(row: Any) -> dict[str, Any]:
    """A job: its status, its counts, which always sum to the total, and where to go with it."""
    ended = {name: getattr(row, name) for name in ("done", "failed", "cancelled", "expired")}
    queued = row.total - row.running - sum(ended.values())
    return {
        "id": row.id,
        "status": row.status,
        "counts": {"total": row.total, "queued": queued, "running": row.running, **ended},
        "sealed": row.sealed_at is not None,
        "model": row.model,
        "priority": tables.Priority(row.priority).name.lower(),
        "metadata": row.metadata,
        "status_url": _url("jobs.show", row.id),
        "results_url": _url("jobs.results", row.id),
        "images_url": _url("jobs.add", row.id),
        "seal_url": _url("jobs.seal", row.id),
        "cancel_url": _url("jobs.cancel", row.id),
        "created_at": time(row.created_at),
        "sealed_at": time(row.sealed_at),
        "started_at": time(row.started_at),
        "finished_at": time(row.finished_at),
    }


def result(row: Any) -> dict[str, Any]:
    """A result: a label with its confidence, or an error with its code."""
    error = None if row.error_code is None else {"code": row.error_code, "detail": row.error_detail}
    model = {"name": row.model, "version": row.model_version, "digest": row.model_digest}
    return {
        "image": row.name,
        "job_id": row.job_id,
        "status": row.status,
        "label": row.label,
        "confidence": row.confidence,
        "scores": row.scores,
        "error": error,
        "model": model,
        "cached": row.cached,
        "timings": row.timings,
        "finished_at": time(row.finished_at),
    }


def key(row: Any) -> dict[str, Any]:
    """A key, without the key."""
    return {
        "id": row.id,
        "name": row.name,
        "role": row.role,
        "prefix": row.prefix,
        "created_at": time(row.created_at),
        "revoked_at": time(row.revoked_at),
    }


def time(moment: datetime | None) -> str | None:
    """RFC 3339, in UTC."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _url(endpoint: str, job_id: str) -> str:
    return flask.url_for(endpoint, job_id=job_id, _external=True)
