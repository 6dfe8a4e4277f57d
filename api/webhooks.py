"""Webhooks: the log of their deliveries, another try, and the secret that signs them."""

import flask

from api import asked, auth, document, pages, shapes
from api.parts import parts
from jobs import errors, tables, webhooks
from jobs.store import deliveries, signing

blueprint = flask.Blueprint("webhooks", __name__, url_prefix="/v1/webhooks")
HERE = "$URL/v1/webhooks"
HEADERS = {
    "webhook-id": "the same at every attempt: whoever has seen it may pass it over",
    "webhook-timestamp": "when this attempt was made, in seconds since 1970; refuse what is older than 5 minutes",
    "webhook-signature": "`v1,` and the base64 of an HMAC-SHA256 of `id.timestamp.body`; several between blanks, any "
    "of which suffices, while the secret is changed",
}
document.event(webhooks.COMPLETED, shapes.JobCompleted, HEADERS)


@blueprint.get("/deliveries")
@document.call(
    shapes.Deliveries,
    f'"{HERE}/deliveries?status=failed"',
    answered=pages.ANSWERED,
    links={"webhooks.replay": {"delivery_id": "$response.body#/deliveries/0/id"}},
)
def index(query: asked.Deliveries) -> flask.Response:
    """What has become of webhooks, newest first: those of one's own jobs; everybody's for `read` and `admin`.

    A key of the role `read` learns only the host of each address: what follows may be a secret.

    Each is tried ten times over three days. `failed` are those whose last attempt was in vain, `disabled` those whose
    receiver has answered 410.
    """
    filters = {"job_id": query.job, "status": query.status}
    rows = parts().db.read(deliveries.page, auth.caller().sees, limit=query.limit, before=query.cursor, filters=filters)
    root, whole = flask.request.url_root, auth.caller().learns_addresses
    shape = lambda row: shapes.delivery(row, root, whole=whole)  # noqa: E731 (as short as the others)
    return pages.answer("deliveries", query, rows, shape, lambda row: row.id)


@blueprint.post("/deliveries/<delivery_id>/replay")
@auth.needs(tables.Role.SUBMIT)
@document.call(
    shapes.Delivery,
    f'-X POST "{HERE}/deliveries/$DELIVERY_ID/replay"',
    status=202,
    problems={404: ["delivery_not_found"]},
)
def replay(delivery_id: str) -> tuple[shapes.Delivery, int]:
    """Send a webhook once more, at once, under the same `webhook-id`; one that still waits is sent only sooner."""
    if asked.id_of(delivery_id) is None:
        raise errors.DeliveryNotFound
    row = parts().db.write(deliveries.replay, delivery_id, auth.caller().id)
    return shapes.delivery(row, flask.request.url_root), 202


@blueprint.get("/secret")
@auth.needs(tables.Role.SUBMIT)
@document.call(shapes.SigningSecret, f'"{HERE}/secret"')
def secret() -> shapes.SigningSecret:
    """What the webhooks of this key's jobs are signed with, as Standard Webhooks has it; made when first asked for."""
    return shapes.signing_secret(parts().db.write(signing.secret, auth.caller().id))


@blueprint.post("/secret/rotate")
@auth.needs(tables.Role.SUBMIT)
@document.call(shapes.SigningSecret, f'-X POST "{HERE}/secret/rotate"')
def rotate() -> shapes.SigningSecret:
    """Make another secret. For a day the one before signs too: there are two signatures, and either one suffices.

    Asked again within that day, the one from before both signs no more.
    """
    return shapes.signing_secret(parts().db.write(signing.rotate, auth.caller().id))
