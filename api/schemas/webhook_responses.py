"""Response schemas of webhooks: payloads, deliveries and secrets."""

from typing import Annotated, Any, Literal

from typing_extensions import TypedDict

from api.schemas import fields, job_responses
from api.schemas.fields import doc
from core import enums


class EndedJob(TypedDict):
    """A job that has ended."""

    id: Annotated[fields.Id, doc("the id of this job")]
    status: Annotated[Literal["done", "failed", "cancelled", "expired"], doc("the status of the job as a whole")]
    counts: Annotated[job_responses.EndedCounts, doc("the outcomes of its images")]
    model: Annotated[str, doc("the name of the model that classified its images")]
    priority: Annotated[Literal["interactive", "bulk"], doc(fields.PRIORITY_DESCRIPTION)]
    metadata: Annotated[dict[str, Any], doc("as it was submitted")]
    retry_of: Annotated[fields.Id | None, doc("the job whose images without a label this job retried")]
    created_at: Annotated[fields.Timestamp, doc("when it was accepted")]
    started_at: Annotated[fields.Timestamp | None, doc("when a worker claimed its first image; null if none did")]
    finished_at: Annotated[fields.Timestamp, doc("when it ended")]
    status_url: Annotated[fields.Url, doc("the job")]
    results_url: Annotated[fields.Url, doc("its results")]
    retry_url: Annotated[fields.Url, doc("POST: retry the images without a label")]


class JobCompleted(TypedDict):
    """The payload of a webhook: a job has ended, with the outcome in its status."""

    type: Annotated[Literal["job.completed"], doc("the type of the event")]
    timestamp: Annotated[fields.Timestamp, doc("when the job ended")]
    data: Annotated[EndedJob, doc("the job")]


class Delivery(TypedDict):
    """The delivery of a webhook."""

    id: Annotated[fields.Id, doc("the webhook-id, the same at every attempt")]
    job_id: Annotated[fields.Id, doc("the job of the event")]
    event: Annotated[Literal["job.completed"], doc("the type of the event")]
    url: Annotated[str, doc(f"the URL of the receiver{fields.HOST_ONLY_NOTE}")]
    status: Annotated[enums.DeliveryStatus, doc("the state of the delivery")]
    attempts: Annotated[fields.Count, doc("the number of attempts")]
    response_status: Annotated[int | None, doc("of the last response; null if there was none")]
    error: Annotated[str | None, doc("why the last attempt failed")]
    created_at: Annotated[fields.Timestamp, doc("when the job ended")]
    attempted_at: Annotated[fields.Timestamp | None, doc("the time of the last attempt")]
    next_attempt_at: Annotated[fields.Timestamp | None, doc("when the next attempt is due; null if none is")]
    ended_at: Annotated[fields.Timestamp | None, doc("when it was delivered or given up; null before that")]
    replay_url: Annotated[fields.Url, doc("POST: send it again")]


class Deliveries(TypedDict):
    """A page of deliveries."""

    deliveries: Annotated[list[Delivery], doc("the newest first")]


class SigningSecret(TypedDict):
    """The secret that signs webhooks."""

    secret: Annotated[str, doc("the secret; do not publish it", examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]
    created_at: Annotated[fields.Timestamp, doc("when it was created")]
    previous_until: Annotated[
        fields.Timestamp | None, doc("until when the previous secret signs as well; null if it does not")
    ]


def serialize_delivery(row: Any, base_url: str, *, show_full_url: bool = True) -> Delivery:
    """Return a delivery; without `show_full_url` only the host of its receiver is shown."""
    return fields.from_row(
        Delivery,
        row,
        url=row.url if show_full_url else job_responses.host_only(row.url),
        replay_url=f"{base_url}v1/webhooks/deliveries/{row.id}/replay",
    )


def serialize_signing_secret(row: Any) -> SigningSecret:
    """Return the secret that signs webhooks."""
    return {
        "secret": row.secret,
        "created_at": fields.timestamp(row.created_at),
        "previous_until": fields.timestamp(row.previous_expires_at) if row.has_previous else None,
    }
