"""Response models: jobs, results, keys and models as frozen dataclasses; `raw` has all fields of the JSON."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sortbelt.client.responses.administration import (
        Disagreement,
        Key,
        ModelComparison,
        ModelVersion,
        PurgeRecord,
        Source,
        WebhookDelivery,
    )
    from sortbelt.client.responses.jobs import Counts, Job, Scan
    from sortbelt.client.responses.results import (
        DiffSide,
        Environment,
        ImageError,
        JobDifference,
        ModelRef,
        Result,
        ResultReview,
        Review,
    )

__all__ = [
    "Counts",
    "DiffSide",
    "Disagreement",
    "Environment",
    "ImageError",
    "Job",
    "JobDifference",
    "Key",
    "ModelComparison",
    "ModelRef",
    "ModelVersion",
    "PurgeRecord",
    "Result",
    "ResultReview",
    "Review",
    "Scan",
    "Source",
    "WebhookDelivery",
]

_JOB_MODELS = {"Counts", "Job", "Scan"}
_RESULT_MODELS = {
    "DiffSide",
    "Environment",
    "ImageError",
    "JobDifference",
    "ModelRef",
    "Result",
    "ResultReview",
    "Review",
}


def __getattr__(name: str) -> Any:
    """Import a model on first use: creating a dataclass takes a millisecond, and a command needs few of them."""
    if name not in __all__:
        raise AttributeError(f"module 'sortbelt.client.responses' has no attribute {name!r}")
    module = "jobs" if name in _JOB_MODELS else "results" if name in _RESULT_MODELS else "administration"
    model = globals()[name] = getattr(importlib.import_module(f"sortbelt.client.responses.{module}"), name)
    return model
