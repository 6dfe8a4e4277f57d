"""What callers ask, checked: parameters, form fields and JSON bodies become typed, or a sentence that says why not."""

import base64
import binascii
import json
import unicodedata
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

import flask
import pydantic
from pydantic_core import ErrorDetails

from jobs import errors, tables, validation

ID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
MOST_METADATA_BYTES = 16_384
NOT_OURS = "The cursor is not one of ours: take it from the Link of the page before."


def _plain(text: str) -> str:
    """A text that every database and every JSON reader takes."""
    text.encode()  # half a surrogate cannot be
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("it must not hold control characters")
    return text


def _moment(given: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(given))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("it is none") from None


def _json_object(given: Any) -> Any:
    if isinstance(given, str):
        given = parse(given)
    if not isinstance(given, dict):
        raise ValueError("it is none")  # noqa: TRY004 (pydantic wants a ValueError)
    text = json.dumps(given, ensure_ascii=False, allow_nan=False)
    if len(text.encode()) > MOST_METADATA_BYTES or "\\u0000" in text:
        raise ValueError(f"it may have {MOST_METADATA_BYTES:,} bytes, and no character NUL")
    return given


def _true(given: object) -> object:
    if given is not True:
        raise ValueError("it is not true")
    return given


Text = Annotated[
    str,
    pydantic.Field(max_length=1024, description="a text of at most 1,024 characters, none of them for control"),
    pydantic.AfterValidator(_plain),
]
Moment = Annotated[
    datetime, pydantic.BeforeValidator(_moment), pydantic.Field(description="a moment, like 2026-01-31T12:00:00Z")
]
Share = Annotated[float, pydantic.Field(ge=0, le=1, description="a number from 0 to 1")]
Metadata = Annotated[
    dict[str, Any],
    pydantic.BeforeValidator(_json_object),
    pydantic.Field(description=f"a JSON object of at most {MOST_METADATA_BYTES:,} bytes"),
]


class Asked(pydantic.BaseModel):
    """Something asked; what we do not know is passed over."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")
    example: ClassVar[str] = ""
    """What a whole one looks like, where that helps."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Check what was given.

        Raises:
            errors.BadParameter: it is not acceptable; the sentence names it.
        """
        try:
            return cls.model_validate(given)
        except pydantic.ValidationError as error:
            sentences = [*map(cls._sentence, error.errors()), cls.example]
            raise errors.BadParameter(" ".join(filter(None, sentences))) from None

    @classmethod
    def _sentence(cls, error: ErrorDetails) -> str:
        name = str(error["loc"][0])
        return validation.sentence(name, error, cls.model_fields[name].description)

    @classmethod
    def body(cls) -> Self:
        """Check the JSON object that is the body of the request."""
        try:
            value = parse(flask.request.get_data(as_text=True))
        except ValueError as error:
            raise errors.BadParameter(f"The body is no JSON: {error}. {cls.example}".strip()) from None
        if not isinstance(value, dict):
            raise errors.BadParameter(f"The body must be a JSON object. {cls.example}".strip())
        return cls.read(value)

    @classmethod
    def parameters(cls) -> Self:
        """Check the parameters of the request's URL."""
        return cls.read(flask.request.args.to_dict())


class Page(Asked):
    """A page of a list: how many rows, and from where."""

    limit: int = pydantic.Field(default=100, ge=1, le=1000, description="a whole number from 1 to 1000")
    cursor: str | None = None

    @property
    def after_row(self) -> int | None:
        """The number of the last row of the page before."""
        if self.cursor is None:
            return None
        text = _uncovered(self.cursor)
        if not (text.isascii() and text.isdecimal() and len(text) <= 18):
            raise errors.BadParameter(NOT_OURS)
        return int(text)

    @property
    def after_id(self) -> str | None:
        """The id of the last row of the page before."""
        if self.cursor is None:
            return None
        found = id_of(_uncovered(self.cursor))
        if found is None:
            raise errors.BadParameter(NOT_OURS)
        return found


class Jobs(Page):
    """Which jobs."""

    status: tables.Status | None = pydantic.Field(None, description=f"one of {', '.join(tables.Status)}")


class Results(Page):
    """Which results."""

    job: Annotated[str, pydantic.StringConstraints(pattern=ID)] | None = pydantic.Field(None, description="a job's id")
    label: Text | None = None
    min_confidence: Share | None = None
    max_confidence: Share | None = None
    status: Literal["done", "failed", "cancelled", "expired"] | None = pydantic.Field(
        None, description="one of done, failed, cancelled, expired"
    )
    error: Text | None = None
    model: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    name: Text | None = None


class Order(Asked):
    """What is ordered with a job."""

    model: Text | None = None
    priority: Literal["interactive", "bulk"] | None = pydantic.Field(None, description="interactive or bulk")
    metadata: Metadata = {}


class OpenOrder(Order):
    """A job that is opened without pictures."""

    example = 'A job is opened without pictures by {"open": true}; a priority, model and metadata may be added.'
    open: Annotated[bool, pydantic.BeforeValidator(_true), pydantic.Field(description="true")]


class Key(Asked):
    """A key to be made."""

    example = 'Send {"name": …, "role": "read", "submit" or "admin"}.'
    name: Annotated[
        Text,
        pydantic.Field(min_length=1, max_length=255, description="a text of 1 to 255 characters, none for control"),
    ]
    role: tables.Role = pydantic.Field(description=f"one of {', '.join(tables.Role)}")


def id_of(given: str) -> str | None:
    """An id as we write it, or None if it cannot be one of ours."""
    try:
        return given if str(uuid.UUID(given)) == given else None
    except ValueError:
        return None


def parse(text: str) -> Any:
    """JSON as the standard has it: no NaN, no endless nesting.

    Raises:
        ValueError: it is not.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _uncovered(cursor: str) -> str:
    try:
        return base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise errors.BadParameter(NOT_OURS) from None
