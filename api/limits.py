"""What a key may still hand in, told with every answer to those whose minute is limited: the RateLimit headers.

As draft-ietf-httpapi-ratelimit-headers has them: `RateLimit-Policy` says what there is in a window of `w` seconds,
`RateLimit` what remains of it, and in how many seconds all of it is there again.
"""

import math

import flask

from api import auth
from api.parts import parts
from jobs import errors
from jobs.store import quotas

TAKING_IN = {"jobs.submit", "jobs.add", "jobs.retry", "results.verify"}
TOLD = {
    "RateLimit-Policy": "what the key may hand in, if that is limited: images and bytes in 60 seconds",
    "RateLimit": "what remains of it (`r`), and in how many seconds all of it is there again (`t`)",
}
LATER = {429: ["rate_limited", "quota_exceeded"], 503: ["queue_full"]}


def register(app: flask.Flask) -> None:
    """Tell it with every answer to a call that takes pictures in."""
    app.after_request(_tell)


def _tell(response: flask.Response) -> flask.Response:
    if flask.request.endpoint not in TAKING_IN or "caller" not in flask.g:
        return response
    own = auth.quotas_of_caller()
    units = [unit for unit in quotas.UNITS if own.a_minute.of(unit)]
    if units and response.status_code != 403:
        try:
            left = parts().db.read(quotas.state, auth.caller().id, own).left
        except errors.DatabaseUnavailable:
            return response
        response.headers["RateLimit-Policy"] = ", ".join(_policy(unit, own) for unit in units)
        response.headers["RateLimit"] = ", ".join(_rest(unit, own, left) for unit in units)
    return response


def _policy(unit: str, own: quotas.Quotas) -> str:
    kind = ';qu="content-bytes"' if unit == "bytes" else ';qu="images"'
    return f'"{unit}";q={own.a_minute.of(unit):.0f};w={quotas.MINUTE:.0f}{kind}'


def _rest(unit: str, own: quotas.Quotas, left: quotas.Load) -> str:
    most = own.a_minute.of(unit)
    seconds = math.ceil((most - left.of(unit)) / most * quotas.MINUTE)
    return f'"{unit}";r={max(0, math.floor(left.of(unit)))};t={seconds}'
