"""Notice of a finished single image: the result travels with the event, and the API need not read it.

A notice is signed: a program that can only publish in Redis cannot make up results.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

TIMESTAMPS = ("started_at", "finished_at")


@dataclass(frozen=True)
class JobNotice:
    """A job of one image that has finished, and its result."""

    job_id: str
    started_at: datetime | None
    finished_at: datetime
    result: Mapping[str, Any]
    """The columns of its only result, but for those that the row of the job has."""


NAMES = tuple(field.name for field in fields(JobNotice))


def encode(notices: Iterable[JobNotice], key: bytes) -> str:
    """Encode notices as two lines of ASCII: their signature, and themselves."""
    body = json.dumps([vars(notice) for notice in notices], default=datetime.isoformat)
    return f"{_sign(body, key)}\n{body}"


def decode(text: str, key: bytes) -> list[JobNotice]:
    """Decode notices; return none if they are not signed with this key."""
    signature, _, body = text.partition("\n")
    if not key or not hmac.compare_digest(signature, _sign(body, key)):
        return []
    return [_parse({name: each[name] for name in NAMES}) for each in json.loads(body)]


def _parse(values: Mapping[str, Any]) -> JobNotice:
    result = {**values["result"], "finished_at": datetime.fromisoformat(values["result"]["finished_at"])}
    timestamps = {name: values[name] and datetime.fromisoformat(values[name]) for name in TIMESTAMPS}
    return JobNotice(**{**values, **timestamps, "result": result})


def _sign(body: str, key: bytes) -> str:
    return hmac.digest(key, body.encode(), hashlib.sha256).hex()
