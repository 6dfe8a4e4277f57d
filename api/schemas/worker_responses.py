"""Response schemas of workers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from typing_extensions import TypedDict

from api.schemas import fields
from api.schemas.fields import doc


class Worker(TypedDict):
    """A worker with a recent heartbeat."""

    id: Annotated[str, doc("the id of the worker, which has the name of its machine")]
    state: Annotated[
        Literal["working", "stalled"], doc("stalled: images are queued, and it has not made progress for 30 seconds")
    ]
    device: Annotated[str, doc("the device that it classifies on")]
    models: Annotated[dict[str, str], doc("the version of each model that it has loaded, by the model's name")]
    rejected: Annotated[dict[str, str], doc("the reason for each version that it cannot load, by NAME@VERSION")]
    running: Annotated[fields.Count, doc("the images that it holds: those of the batches in progress")]
    batch_sizes: Annotated[dict[str, int], doc("the largest size of its next batch, by the model's name")]
    images: Annotated[fields.Count, doc("the images that it has finished since its start")]
    started_at: Annotated[fields.Timestamp, doc("when it started")]
    heartbeat_at: Annotated[fields.Timestamp, doc("its last sign of life")]
    last_progress_at: Annotated[
        fields.Timestamp | None, doc("when it last finished images, or had none to do; null if never yet")
    ]


class Workers(TypedDict):
    """The workers that are alive."""

    workers: Annotated[list[Worker], doc("the first started first")]


def serialize_worker(row: Any, running: Mapping[str, int]) -> Worker:
    """Return a worker, with the images that it holds."""
    return fields.from_row(
        Worker,
        row,
        state="working" if row.is_progressing else "stalled",
        models=row.loaded_models,
        rejected=row.rejected_models,
        running=running.get(row.id, 0),
        batch_sizes=row.batch_sizes or {},
    )
