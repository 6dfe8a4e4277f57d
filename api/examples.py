"""What answers look like: made by the functions that make the real ones, of rows that somebody thought up."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from api import shapes
from jobs import errors, tables, version

ROOT = "http://localhost:8000/"
CREATED = datetime(2026, 1, 31, 12, tzinfo=UTC)
ENDED = CREATED + timedelta(milliseconds=480)
JOB_ID = "019c13d1-b200-7a3c-9d52-3c1f0e6b8a47"
MODEL = "sushi-or-sandwich"


def job(root: str = ROOT) -> shapes.Job:
    """A job that has ended: of three pictures one has failed."""
    row: Any = SimpleNamespace(
        **dict.fromkeys(("scan_status", "retry_of", "webhook", "expires_at")),
        **{"total": 3, "done": 2, "failed": 1} | dict.fromkeys(("running", "cancelled", "expired"), 0),
        id=JOB_ID,
        status=tables.JobStatus.DONE.value,
        model=MODEL,
        priority=tables.Priority.BULK,
        metadata={"camera": 3},
        created_at=CREATED,
        sealed_at=CREATED,
        started_at=CREATED + timedelta(milliseconds=12),
        finished_at=ENDED,
    )
    return shapes.job(row, root, None)


def results() -> shapes.Results:
    """Two of its results: a label, and an error."""
    made = {"model": MODEL, "version": "2", "digest": "7979393be89dcb56" * 4}
    label = {"label": "sushi", "confidence": 0.981204, "scores": {"sandwich": 0.018796, "sushi": 0.981204}}
    error = {"error_code": "unsupported_format", "error_detail": errors.PICTURES["unsupported_format"]}
    timings = {"decode_ms": 3.218, "forward_ms": 41.87, "batch": 2}
    where = {"environment_id": 1, "device": "NVIDIA H200", "precision": "bfloat16", "torch": "2.13.0+cu130"}
    where |= {"decoder": "Pillow 12.0.0, libjpeg-turbo 3.1.2", "sortbelt": version.VERSION, "worker": "worker1@gpu-1"}
    seen = label | where | {"custom_id": "order-4711", "timings": timings}
    good = _row(4711, "lunch.jpg", tables.Status.DONE, made, seen)
    bad = _row(4713, "notes.txt", tables.Status.FAILED, {**made, "version": None, "digest": None}, error)
    return {"results": [shapes.result(good), shapes.result(bad)]}


def _row(number: int, name: str, status: tables.Status, made: dict[str, Any], more: dict[str, Any]) -> Any:
    row = {"image_id": number, "name": name, "job_id": JOB_ID, "status": status.value, "finished_at": ENDED}
    row |= {"model": made["model"], "model_version": made["version"], "model_digest": made["digest"]}
    nothing = dict.fromkeys(("custom_id", "label", "confidence", "scores", "error_code", "error_detail"))
    nothing |= dict.fromkeys(("environment_id", "worker"))
    return SimpleNamespace(**row | nothing | {"cached": False, "timings": {}} | more)
