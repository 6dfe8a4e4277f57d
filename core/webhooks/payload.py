"""The payload of a webhook."""

import json
from typing import Any

from core import enums, json_values

JOB_COMPLETED = "job.completed"
"""The event of a finished job, with any status; there is one for each job."""


def build_payload(job: Any, event: str) -> bytes:
    """Build the request body for a finished job; the same at every attempt."""
    job_url = f"{job.public_base_url}v1/jobs/{job.id}"
    counts = {name: getattr(job, name) for name in ("total", "done", "failed", "cancelled", "expired")}
    times = {name: getattr(job, name) for name in ("created_at", "started_at", "finished_at")}
    data = {
        "id": job.id,
        "status": job.status,
        "counts": counts,
        "model": job.model,
        "priority": enums.Priority(job.priority).name.lower(),
        "metadata": job.metadata,
        "retry_of": job.retry_of,
        **{name: timestamp and json_values.format_rfc3339(timestamp) for name, timestamp in times.items()},
        "status_url": job_url,
        "results_url": f"{job_url}/results",
        "retry_url": f"{job_url}/retry",
    }
    envelope = {"type": event, "timestamp": json_values.format_rfc3339(job.finished_at), "data": data}
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()
