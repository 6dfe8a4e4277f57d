"""What callers ask, checked: parameters, form fields and JSON bodies become typed, or a sentence that says why not."""

import json
import re
import unicodedata
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import flask
import pydantic
from pydantic_core import ErrorDetails

from api import unknown
from jobs import destinations, errors, tables, validation

ID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
MOST_WAIT_SECONDS = 30
MOST_EXPIRES_SECONDS = 30 * 86_400
MOST_KEY_SECONDS = 36_500 * 86_400
MOST_DIGESTS = 1_000
MOST_GLOBS = 50
MOST_FAULTS = 10
MOST_METADATA_BYTES = 16_384
PAIR = r"^\d\.\d{1,20}(e-\d{1,3})?_\d{1,18}$"
PLACE = r"^((0|1|0\.[0-9]{1,20})_)?[0-9]{1,18}$"
MADE = r"^[0-9]{1,16}_" + ID.removeprefix("^")
MOMENT = "a moment, like 2026-01-31T12:00:00Z"
CURSOR = "where the page before ended: it is in its Link"
CUSTOM_ID = "an identifier of your own, 1 to 255 characters, none of them for control; need not be unique"


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
        raise ValueError(f"it must be {MOMENT}") from None


def _flag(given: object) -> object:
    """A truth value, also as JSON writes it; no other word for it is known."""
    return {"true": True, "false": False}.get(given, given) if isinstance(given, str) else given


def _parsed(given: Any) -> Any:
    if isinstance(given, str):
        given = validation.parse(given)
    if not isinstance(given, dict):
        raise ValueError("it must be a JSON object")  # noqa: TRY004 (pydantic wants a ValueError)
    return given


def _json_object(given: Any) -> Any:
    given = _parsed(given)
    text = json.dumps(given, ensure_ascii=False, allow_nan=False)
    if len(text.encode()) > MOST_METADATA_BYTES or "\\u0000" in text:
        raise ValueError(f"it may have {MOST_METADATA_BYTES:,} bytes, and no character NUL")
    return given


Text = Annotated[
    str,
    pydantic.Field(
        max_length=1024,
        description="a text of at most 1,024 characters, none of them for control",
        json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"},
    ),
    pydantic.AfterValidator(_plain),
]
Moment = Annotated[datetime, pydantic.BeforeValidator(_moment), pydantic.Field(description=MOMENT)]
Share = Annotated[float, pydantic.Field(ge=0, le=1, description="a number from 0 to 1")]
Title = Annotated[
    str, pydantic.Field(pattern=r"^[a-z0-9._-]{1,100}@[a-z0-9._-]{1,100}$", description="a version, like NAME@VERSION")
]
CustomId = Annotated[
    str,
    pydantic.Field(
        min_length=1,
        max_length=255,
        description=CUSTOM_ID,
        json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"},
        examples=["order-4711"],
    ),
    pydantic.AfterValidator(_plain),
]
Metadata = Annotated[
    dict[str, Any],
    pydantic.BeforeValidator(_json_object),
    pydantic.Field(description=f"a JSON object of at most {MOST_METADATA_BYTES:,} bytes"),
]


class Asked(pydantic.BaseModel):
    """Something asked; what we do not know is refused."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    example: ClassVar[str] = ""
    """What a whole one looks like, where that helps."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Check what was given.

        Raises:
            errors.BadParameter: it is not acceptable, or not known; the sentence names it.
        """
        unknown.refuse("field", given, cls.model_fields)
        try:
            return cls.model_validate(given)
        except pydantic.ValidationError as error:
            raise refusal(cls, error) from None

    @classmethod
    def described(cls) -> dict[str, Any]:
        """How OpenAPI tells of a body that is one."""
        return {"application/json": {"schema": _inlined(cls.model_json_schema())}}

    @classmethod
    def told(cls) -> dict[str, Any]:
        """Its schema in a form or a URL, where nothing is null."""
        schema = cls.model_json_schema()
        return {**schema, "properties": {name: given(kind) for name, kind in schema["properties"].items()}}

    @classmethod
    def body(cls) -> Self:
        """Check the JSON object that is the body of the request; parameters of its URL count as fields."""
        try:
            value = validation.parse(flask.request.get_data(as_text=True))
        except ValueError as error:
            raise errors.BadParameter(f"The body is no JSON: {error}. {cls.example}".strip()) from None
        if not isinstance(value, dict):
            raise errors.BadParameter(f"The body must be a JSON object. {cls.example}".strip())
        return cls.read({**flask.request.args.to_dict(), **value})


class Page(Asked):
    """A page of a list: how many rows, and from where."""

    limit: int = pydantic.Field(
        default=100, ge=1, le=1000, description="a whole number from 1 to 1000; the most rows of a page", examples=[100]
    )


class Rows(Page):
    """A page of rows that have a number."""

    cursor: Annotated[int, pydantic.Field(ge=0, lt=10**18)] | None = pydantic.Field(None, description=CURSOR)


class Jobs(Page):
    """Which jobs."""

    status: tables.JobStatus | None = pydantic.Field(None, description=f"one of {', '.join(tables.JobStatus)}")
    model: Text | None = pydantic.Field(None, description="the name of a model")
    owner: Annotated[str, pydantic.StringConstraints(pattern=ID)] | None = pydantic.Field(
        None, description="the id of a key: whose jobs; a key of the role submit sees only its own in any case"
    )
    since: Moment | None = pydantic.Field(None, description=f"made then or later: {MOMENT}")
    until: Moment | None = pydantic.Field(None, description=f"made before: {MOMENT}")
    cursor: Annotated[str, pydantic.StringConstraints(pattern=MADE)] | None = pydantic.Field(None, description=CURSOR)


class Receipts(Page):
    """Which receipts of purges."""

    cursor: Annotated[str, pydantic.StringConstraints(pattern=MADE)] | None = pydantic.Field(None, description=CURSOR)


class Deliveries(Page):
    """Which deliveries of webhooks."""

    job: Annotated[str, pydantic.StringConstraints(pattern=ID)] | None = pydantic.Field(None, description="a job's id")
    status: tables.DeliveryStatus | None = pydantic.Field(
        None, description=f"one of {', '.join(tables.DeliveryStatus)}"
    )
    cursor: Annotated[str, pydantic.StringConstraints(pattern=ID)] | None = pydantic.Field(None, description=CURSOR)


class Filter(Asked):
    """Which results."""

    job: Annotated[str, pydantic.StringConstraints(pattern=ID)] | None = pydantic.Field(None, description="a job's id")
    label: Text | None = pydantic.Field(None, description="a label that the model gives", examples=["sushi"])
    min_confidence: Share | None = pydantic.Field(
        None, description="a number from 0 to 1: results at least so sure", examples=[0.9]
    )
    max_confidence: Share | None = pydantic.Field(None, description="a number from 0 to 1: results at most so sure")
    status: Literal["done", "failed", "cancelled", "expired"] | None = pydantic.Field(
        None, description="one of done, failed, cancelled, expired"
    )
    error: Text | None = pydantic.Field(None, description="the code of an error, such as undecodable")
    model: Text | None = pydantic.Field(None, description="the name of a model")
    version: Text | None = pydantic.Field(None, description="the version of the model")
    owner: Annotated[str, pydantic.StringConstraints(pattern=ID)] | None = pydantic.Field(
        None, description="the id of a key: whose results; a key of the role submit sees only its own in any case"
    )
    since: Moment | None = pydantic.Field(None, description=f"ended then or later: {MOMENT}")
    until: Moment | None = pydantic.Field(None, description=f"ended before: {MOMENT}")
    name: Text | None = pydantic.Field(None, description="a text that the picture's name contains, in any case")
    custom_id: CustomId | None = pydantic.Field(None, description="an identifier of your own, as it was given")


class Results(Filter, Page):
    """Which results, in which order."""

    order: Literal["newest", "confidence"] = pydantic.Field(
        "newest", description="newest (the latest first) or confidence (the least confident first)"
    )
    cursor: Annotated[str, pydantic.StringConstraints(pattern=PLACE)] | None = pydantic.Field(None, description=CURSOR)


class Stats(Filter):
    """Which results are counted, and by what."""

    group: Literal["label", "status", "error", "model", "day", "hour"] = pydantic.Field(
        "label", description="one of label, status, error, model, day, hour"
    )


class Names(Page):
    """A page of rows that have a name."""

    cursor: Annotated[Text, pydantic.Field(min_length=1, description=CURSOR)] | None = pydantic.Field(
        None, description=CURSOR
    )


Webhook = Annotated[
    str,
    pydantic.Field(
        max_length=destinations.MOST_CHARACTERS,
        pattern="^https?:",
        description="the https URL that is told when the job has ended",
        json_schema_extra={"format": "uri"},
    ),
]


class Order(Asked):
    """What is ordered with a job."""

    model: Text | None = pydantic.Field(
        None, description="the name of a model; `GET /v1/models` tells which there are; without one, the server's own"
    )
    priority: Literal["interactive", "bulk"] | None = pydantic.Field(
        None,
        description="interactive or bulk; the former is served first; without one, interactive for a picture that is "
        "the raw body, else bulk",
        examples=["bulk"],
    )
    metadata: Metadata = pydantic.Field(
        {}, description=f"a JSON object of at most {MOST_METADATA_BYTES:,} bytes; the job has it wherever it is shown"
    )
    fresh: Annotated[bool, pydantic.Strict(), pydantic.BeforeValidator(_flag)] = pydantic.Field(
        default=False, description="true: classify also what was classified before with the same weights"
    )
    expires_in: Annotated[float, pydantic.Field(ge=1, le=MOST_EXPIRES_SECONDS)] | None = pydantic.Field(
        None,
        description=f"seconds, 1 to {MOST_EXPIRES_SECONDS:,}, after which what no worker has taken expires",
        examples=[3600],
    )
    webhook: Webhook | None = pydantic.Field(None, description="the https URL that is told when the job has ended")


class RawPicture(Asked):
    """What is said of a picture that is the raw body."""

    name: str | None = pydantic.Field(
        None,
        min_length=1,
        max_length=1024,
        description="the picture's name in the results, 1 to 1,024 characters; without one, `image`",
        examples=["lunch.jpg"],
    )
    custom_id: CustomId | None = pydantic.Field(None, description=CUSTOM_ID)


class CustomIds(Asked):
    """What a form says of its pictures besides their names."""

    custom_ids: Annotated[dict[str, CustomId], pydantic.BeforeValidator(_parsed)] = pydantic.Field(
        default={},
        description="a JSON object that gives pictures of this form, by name, identifiers of your own",
        examples=['{"lunch.jpg": "order-4711"}'],
    )


class FormOrder(Order, CustomIds):
    """What a form orders besides its pictures."""


class RawOrder(Order, RawPicture):
    """What is ordered with a picture that is the raw body."""


class Waiting(Asked):
    """How long an answer may take."""

    wait: Annotated[float, pydantic.Field(ge=0, le=MOST_WAIT_SECONDS)] = pydantic.Field(
        0,
        description=f"seconds to wait for the job to end, 0 to {MOST_WAIT_SECONDS}; when they are over, the answer is "
        "200 too, with the job as it is then",
        examples=[10],
    )


Digest = Annotated[
    str, pydantic.Field(pattern=r"^[0-9a-f]{64}$", description="64 hexadecimal digits, those above 9 in lower case")
]


class Reference(Asked):
    """A picture whose bytes were sent before."""

    name: Annotated[
        str, pydantic.Field(min_length=1, max_length=1024, description="a name in the results, 1 to 1,024 characters")
    ]
    sha256: Digest
    custom_id: CustomId | None = pydantic.Field(None, description=CUSTOM_ID)


class References(Asked):
    """Pictures whose bytes were sent before."""

    example = 'Pictures sent before are named by {"images": [{"name": …, "sha256": …}, …]}.'
    images: list[Reference] = pydantic.Field(min_length=1, description="a list of objects with name and sha256")


class JsonOrder(Order):
    """A job that is opened without pictures, or one of pictures whose bytes were sent before."""

    example = (
        'A job is opened without pictures by {"open": true}; one of pictures sent before is ordered by {"images": '
        '[{"name": …, "sha256": …}, …]}; a priority, model and metadata may be added.'
    )
    model_config = pydantic.ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"open": {"const": True}}, "required": ["open"]},
                {"properties": {"images": {"minItems": 1}}, "required": ["images"]},
            ]
        }
    )
    open: bool = pydantic.Field(
        default=False, strict=True, description="true or false; true: pictures may follow, until the job is sealed"
    )
    images: list[Reference] = pydantic.Field(default=[], description="a list of objects with name and sha256")


Glob = Annotated[
    str,
    pydantic.Field(min_length=1, max_length=200, json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}),
    pydantic.AfterValidator(_plain),
]
Globs = Annotated[list[Glob], pydantic.Field(max_length=MOST_GLOBS)]


class Scan(Asked):
    """What an open job is filled from: a source of the server's list."""

    example = 'Send {"source": "photos"}, with a prefix, include and exclude if wanted.'
    source: Text = pydantic.Field(
        min_length=1, description="the name of a source, or the address in S3 of something in one", examples=["photos"]
    )
    prefix: Text = pydantic.Field("", description="a folder in it; without one, all of it", examples=["2026/january"])
    include: Globs = pydantic.Field(
        default=[],
        description=f"a list of up to {MOST_GLOBS} globs: files like these are taken, whatever their suffix",
        examples=[["*.jpg"]],
    )
    exclude: Globs = pydantic.Field(
        default=[],
        description=f"a list of up to {MOST_GLOBS} globs: files and folders like these are left alone",
        examples=[["thumbs"]],
    )
    seal: bool = pydantic.Field(
        default=True, strict=True, description="true: the job is sealed when everything was found"
    )


class Digests(Asked):
    """SHA-256 of pictures."""

    example = 'Send {"sha256": ["…", …]}.'
    sha256: list[Digest] = pydantic.Field(
        min_length=1, max_length=MOST_DIGESTS, description=f"a list of 1 to {MOST_DIGESTS:,} SHA-256 in hexadecimal"
    )


KeyName = Annotated[
    Text,
    pydantic.Field(
        min_length=1,
        max_length=255,
        description="a text of 1 to 255 characters, none for control",
        examples=["kitchen"],
    ),
]


def _whole(value: object) -> object:
    """A number that JSON calls whole: 2.0 is one, true and "2" are not."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Quota = Annotated[int, pydantic.Strict(), pydantic.Field(ge=0, le=10**15), pydantic.BeforeValidator(_whole)]


def _quota(what: str) -> Any:
    about = f"{what}; null is what the server's settings say, 0 is no limit"
    return pydantic.Field(None, description=about, examples=[600])


class KeyLimits(Asked):
    """What a key may do, and for how long."""

    images_per_minute: Quota | None = _quota("a whole number of pictures that it may hand in a minute")
    bytes_per_minute: Quota | None = _quota("a whole number of bytes of pictures that it may hand in a minute")
    open_images: Quota | None = _quota("a whole number of its pictures that may be without a result at a time")
    open_bytes: Quota | None = _quota("a whole number of bytes of its pictures that may be so")
    expires_in: Annotated[float, pydantic.Strict(), pydantic.Field(ge=1, le=MOST_KEY_SECONDS)] | None = pydantic.Field(
        None,
        description=f"seconds, 1 to {MOST_KEY_SECONDS:,}, after which it is not valid any more; null is never",
        examples=[7776000],
    )


class Key(KeyLimits):
    """A key to be made."""

    example = 'Send {"name": …, "role": "read", "submit" or "admin"}.'
    name: KeyName
    role: Annotated[
        tables.Role,
        pydantic.Field(description=f"one of {', '.join(tables.Role)}"),
        pydantic.WithJsonSchema({"type": "string", "enum": list(tables.Role), "examples": ["submit"]}),
    ]


class KeyChange(KeyLimits):
    """What is to be changed of a key; what is not given stays as it is."""

    example = 'Send {"images_per_minute": 600}, or whatever else is to be changed.'
    name: KeyName = pydantic.Field("", description="a text of 1 to 255 characters, none for control")

    @property
    def given(self) -> dict[str, Any]:
        """What was given, by name."""
        return self.model_dump(include=self.model_fields_set)


def given(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value that is given, without the null that stands for one that is not."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    told = {name: schema[name] for name in ("description", "examples", "default") if schema.get(name) is not None}
    return {**kinds[0], **told} if len(kinds) == 1 else schema


def _inlined(schema: Any, kinds: Mapping[str, Any] | None = None) -> Any:
    """A schema that refers to nothing beside it, because it is to stand in the middle of a document."""
    if isinstance(schema, list):
        return [_inlined(one, kinds) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kinds = schema.get("$defs", kinds)
    if "$ref" in schema and kinds is not None:
        return _inlined(kinds[schema["$ref"].rpartition("/")[2]], kinds)
    return {name: _inlined(one, kinds) for name, one in schema.items() if name != "$defs"}


def refusal(asked: type[Asked], error: pydantic.ValidationError) -> errors.BadParameter:
    """Why something asked is not acceptable: one sentence for each of its faults, if they are not too many."""
    faults = error.errors()
    sentences = [_fault(asked, fault) for fault in faults[:MOST_FAULTS]]
    more = f"There are {len(faults) - MOST_FAULTS:,} more faults." if len(faults) > MOST_FAULTS else ""
    return errors.BadParameter(" ".join(filter(None, [*sentences, more, asked.example])))


def _fault(asked: type[Asked], fault: ErrorDetails) -> str:
    """One sentence for one fault."""
    if fault["type"] == "extra_forbidden":
        *above, name = fault["loc"]
        within = _described(asked, tuple(above))["properties"]
        return unknown.sentence("field", [str(name)], within, f"in {_place(tuple(above))}")
    wanted = (
        _described(asked, fault["loc"]).get("description", "").partition(";")[0]
    )  # what follows is for the document
    return validation.sentence(_place(fault["loc"]), fault, wanted)


def _place(steps: tuple[int | str, ...]) -> str:
    """Where a fault is, such as `images[0].sha256`."""
    first, *rest = steps
    after = [f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{step!r:.100}]" for step in rest]
    return f"{first}{''.join(after)}"


def _described(asked: type[Asked], steps: tuple[int | str, ...]) -> dict[str, Any]:
    """What the document says of the value at a place: the schema, with what must be there."""
    schema: Any = _inlined(asked.model_json_schema())
    for step in steps:
        named = schema.get("properties", {})
        schema = given(named[step] if step in named else schema.get("items") or schema.get("additionalProperties"))
    return cast("dict[str, Any]", schema)


def preferred_wait() -> float | None:
    """How many seconds of waiting the header Prefer asks for (RFC 7240); None if it does not, or not in numbers."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\b", flask.request.headers.get("Prefer", ""), re.IGNORECASE)
    return min(float(found[1]), MOST_WAIT_SECONDS) if found else None


class Version(Asked):
    """Which version of a model."""

    example = 'Send {"version": "2"}.'
    version: Text = pydantic.Field(description="a version of the model")


class Shadow(Version):
    """Which version is to be a shadow, and of how much."""

    example = 'Send {"version": "2", "share": 0.1}; a share of 0 ends it.'
    share: Share


class Comparison(Page):
    """Which two versions are compared; the page is of the pictures on which they disagree."""

    a: Title
    b: Title = pydantic.Field(description="another version of the same model, like NAME@VERSION")
    cursor: Annotated[str, pydantic.StringConstraints(pattern=PAIR)] | None = pydantic.Field(None, description=CURSOR)

    @property
    def versions(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The name and the version of each."""
        (name, one), (other_name, other) = self.a.split("@"), self.b.split("@")
        if name != other_name:
            raise errors.BadParameter(f"{self.a} and {self.b} are no versions of one model.")
        return (name, one), (name, other)

    @property
    def after_pair(self) -> tuple[float, int] | None:
        """How sure both were of the last picture of the page before, and its number."""
        if self.cursor is None:
            return None
        sure, _, number = self.cursor.partition("_")
        return float(sure), int(number)


def is_slug(given: str) -> bool:
    """Whether a text could be the name of a model, or a version."""
    return re.fullmatch(r"[a-z0-9._-]{1,100}", given) is not None


def id_of(given: str) -> str | None:
    """An id as we write it, or None if it cannot be one of ours."""
    try:
        return given if str(uuid.UUID(given)) == given else None
    except ValueError:
        return None


def is_row(given: str) -> bool:
    """Whether this can be the number of a row."""
    return given.isascii() and given.isdecimal() and len(given) <= 18
