"""Webhooks: the log of their deliveries, replays, and the secret that signs them."""

from typing import Any

import flask

from api.http import auth, pagination
from api.openapi.operations import Webhook, describe
from api.schemas import ids, webhook_requests, webhook_responses
from api.services import container
from core import enums, errors
from core.db.queries import webhook_deliveries, webhook_secrets
from core.webhooks import payload

blueprint = flask.Blueprint("webhooks", __name__, url_prefix="/v1/webhooks")
WEBHOOKS_URL = "$URL/v1/webhooks"
JOB_COMPLETED = Webhook(
    payload.JOB_COMPLETED,
    webhook_responses.JobCompleted,
    {
        "webhook-id": "the same at every attempt: skip one that you have processed",
        "webhook-timestamp": "the time of this attempt, in seconds since 1970; reject one older than 5 minutes",
        "webhook-signature": "`v1,` and the base64 of an HMAC-SHA256 of `id.timestamp.body`; several, separated by "
        "spaces, while the secret is being rotated: accept any of them",
    },
)


@blueprint.get("/deliveries")
@describe(
    webhook_responses.Deliveries,
    f'"{WEBHOOKS_URL}/deliveries?status=failed"',
    response_headers=pagination.LINK_HEADERS,
    links={"webhooks.replay": {"delivery_id": "$response.body#/deliveries/0/id"}},
)
def index(query: webhook_requests.DeliveryListQuery) -> flask.Response:
    """Return webhook deliveries, newest first: of the caller's own jobs, or of all for other roles than `submit`.

    A key of the role `read` sees only the host of each URL: the rest may be a secret.

    Each delivery has up to ten attempts over three days. It is `failed` if the last one failed, and `disabled` if the
    receiver answered 410.
    """
    caller, base_url = auth.caller(), flask.request.url_root
    rows = container.services().db.read(
        webhook_deliveries.list_page,
        caller.visible_owner,
        limit=query.limit,
        before=query.cursor,
        filters={"job_id": query.job, "status": query.status},
    )

    def serialize(row: Any) -> webhook_responses.Delivery:
        return webhook_responses.serialize_delivery(row, base_url, show_full_url=caller.can_see_webhook_urls)

    return pagination.list_response("deliveries", query, rows, serialize, str)


@blueprint.post("/deliveries/<delivery_id>/replay")
@describe(
    webhook_responses.Delivery,
    f'-X POST "{WEBHOOKS_URL}/deliveries/$DELIVERY_ID/replay"',
    role=enums.Role.SUBMIT,
    status=202,
    problems={404: ["delivery_not_found"]},
)
def replay(delivery_id: str) -> tuple[webhook_responses.Delivery, int]:
    """Send a webhook again, now, with the same `webhook-id`; a pending one is only sent sooner."""
    id_ = ids.require_id(delivery_id, errors.DeliveryNotFound)
    row = container.services().db.write(webhook_deliveries.replay, id_, auth.caller().id)
    return webhook_responses.serialize_delivery(row, flask.request.url_root), 202


@blueprint.get("/secret")
@describe(webhook_responses.SigningSecret, f'"{WEBHOOKS_URL}/secret"', role=enums.Role.SUBMIT)
def secret() -> webhook_responses.SigningSecret:
    """Return the secret that signs the webhooks of this key's jobs (Standard Webhooks); created at the first call."""
    row = container.services().db.write(webhook_secrets.get_or_create, auth.caller().id)
    return webhook_responses.serialize_signing_secret(row)


@blueprint.post("/secret/rotate")
@describe(webhook_responses.SigningSecret, f'-X POST "{WEBHOOKS_URL}/secret/rotate"', role=enums.Role.SUBMIT)
def rotate() -> webhook_responses.SigningSecret:
    """Create a new secret. For a day the previous one signs too: each webhook has two signatures, and either suffices.

    Rotating again within that day ends the older of the two at once.
    """
    row = container.services().db.write(webhook_secrets.rotate, auth.caller().id)
    return webhook_responses.serialize_signing_secret(row)
