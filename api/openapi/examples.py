"""Example responses, made by the serializers of the real ones from made-up rows."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from api.schemas import job_responses, result_responses
from core import enums, errors
from sortbelt import version

BASE_URL = "http://localhost:8000/"
CREATED_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
FINISHED_AT = CREATED_AT + timedelta(milliseconds=480)
JOB_ID = "019c13d1-b200-7a3c-9d52-3c1f0e6b8a47"
MODEL = "sushi-or-sandwich"


def job(base_url: str = BASE_URL) -> job_responses.Job:
    """Return a job that has ended: one of three images has failed."""
    row: Any = SimpleNamespace(
        **dict.fromkeys(("scan_status", "retry_of", "webhook_url", "expires_at")),
        **{"total": 3, "done": 2, "failed": 1} | dict.fromkeys(("running", "cancelled", "expired"), 0),
        id=JOB_ID,
        status=enums.JobStatus.DONE.value,
        name="Holidays 2026",
        owner="kitchen",
        model=MODEL,
        priority=enums.Priority.BULK,
        metadata={"camera": 3},
        created_at=CREATED_AT,
        sealed_at=CREATED_AT,
        started_at=CREATED_AT + timedelta(milliseconds=12),
        finished_at=FINISHED_AT,
    )
    return job_responses.serialize_job(row, base_url)


def results() -> result_responses.Results:
    """Return two of its results: a label and an error."""
    model_ref = {"model": MODEL, "version": "2", "digest": "7979393be89dcb56" * 4}
    label = {"label": "sushi", "confidence": 0.981204, "scores": {"sandwich": 0.018796, "sushi": 0.981204}}
    label["familiarity"] = 0.64
    error = {"error_code": "unsupported_format", "error_detail": errors.IMAGE_ERRORS["unsupported_format"]}
    timings = {"decode_ms": 3.218, "forward_ms": 41.87, "batch": 2}
    environment = {"environment_id": 1, "device": "NVIDIA H200", "precision": "bfloat16", "torch": "2.13.0+cu130"}
    environment |= {
        "decoder": "Pillow 12.0.0, libjpeg-turbo 3.1.2",
        "sortbelt": version.VERSION,
        "worker": "worker1@gpu-1",
    }
    success_fields = label | environment | {"custom_id": "order-4711", "timings": timings}
    good = _row(4711, "lunch.jpg", enums.Status.DONE, model_ref, success_fields)
    bad = _row(4713, "notes.txt", enums.Status.FAILED, {**model_ref, "version": None, "digest": None}, error)
    return {"results": [result_responses.serialize_result(good), result_responses.serialize_result(bad)]}


def _row(image_id: int, name: str, status: enums.Status, model_ref: dict[str, Any], overrides: dict[str, Any]) -> Any:
    row = {"image_id": image_id, "name": name, "job_id": JOB_ID, "status": status.value, "finished_at": FINISHED_AT}
    row |= {
        "owner": "kitchen",
        "model_name": model_ref["model"],
        "model_version": model_ref["version"],
        "model_digest": model_ref["digest"],
    }
    empty = dict.fromkeys(("custom_id", "label", "confidence", "scores", "familiarity", "error_code", "error_detail"))
    empty |= dict.fromkeys(("environment_id", "worker", "review_verdict"))
    return SimpleNamespace(**row | empty | {"cached": False, "timings": {}} | overrides)
