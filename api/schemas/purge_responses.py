"""Response schemas of the purge log."""

from typing import Annotated, Any

from typing_extensions import TypedDict

from api.schemas import fields
from api.schemas.fields import doc


class PurgeRecord(TypedDict):
    """The record of a purged job: what was removed, and when."""

    job_id: Annotated[fields.Id, doc("the purged job")]
    name: Annotated[str | None, doc("its name, if it had one")]
    owner: Annotated[fields.Id, doc("the key that submitted it")]
    model: Annotated[str, doc("the model that it used")]
    images: Annotated[fields.Count, doc("its images, which are removed with their results")]
    bytes: Annotated[fields.Count, doc("of these images; those that another job has too are kept")]
    created_at: Annotated[fields.Timestamp, doc("when it was accepted")]
    finished_at: Annotated[fields.Timestamp, doc("when it ended")]
    purged_at: Annotated[fields.Timestamp, doc("since when it is 410")]
    deleted_by: Annotated[str | None, doc("the name of the key that deleted it; null if it was purged for its age")]
    emptied_at: Annotated[fields.Timestamp | None, doc("when all of it was removed; null while that goes on")]


class ImageDeletion(TypedDict):
    """The receipt of a deleted image."""

    image_id: Annotated[str, doc("the deleted image")]
    job_id: Annotated[fields.Id, doc("the job that it was in")]
    bytes: Annotated[fields.Count, doc("its size")]
    deleted_at: Annotated[fields.Timestamp, doc("since when it is 410")]
    deleted_by: Annotated[str, doc("the name of the key that deleted it")]


class PurgeRecords(TypedDict):
    """A page of the purge log."""

    purges: Annotated[list[PurgeRecord], doc("the latest first")]


def serialize_deletion(row: Any) -> ImageDeletion:
    """Return the receipt of a deleted image."""
    return fields.from_row(ImageDeletion, row, image_id=str(row.image_id), deleted_by=row.deleted_by_name)


def serialize_purge(row: Any) -> PurgeRecord:
    """Return the record of a purged job."""
    return fields.from_row(
        PurgeRecord,
        row,
        job_id=row.id,
        owner=row.api_key_id,
        images=row.total,
        deleted_by=row.deleted_by_name,
        emptied_at=row.purge_completed_at,
    )
