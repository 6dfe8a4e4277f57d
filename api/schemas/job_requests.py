"""Request schemas of submissions, jobs, their lists and results, and imports from sources."""

from typing import Annotated, Any, Literal, Self

import pydantic

from api.schemas import base, request_fields
from core import enums
from core.webhooks import url_policy

MAX_WAIT_SECONDS = 30
MAX_EXPIRES_SECONDS = 30 * 86_400
MAX_DIGESTS = 1_000
MAX_GLOBS = 50
MAX_IMAGE_FIELDS = 20  # of an image in JSON, unknown ones included: each would be an error of its own
BASE64_PATTERN = r"^(data:[^,]*,)?([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


class JobListQuery(base.PageQuery):
    """Filters of the list of jobs."""

    status: enums.JobStatus | None = pydantic.Field(None, description=f"one of {', '.join(enums.JobStatus)}")
    model: request_fields.Text | None = pydantic.Field(None, description="the name of a model")
    owner: request_fields.Text | None = pydantic.Field(None, min_length=1, description=request_fields.OWNER_DESCRIPTION)
    name: request_fields.JobName | None = pydantic.Field(
        None, description="a text that the name of the job contains, case-insensitive"
    )
    since: request_fields.Timestamp | None = pydantic.Field(
        None, description=f"created at or after: {request_fields.TIMESTAMP_DESCRIPTION}; {request_fields.UTC_NOTE}"
    )
    until: request_fields.Timestamp | None = pydantic.Field(
        None, description=f"created before: {request_fields.TIMESTAMP_DESCRIPTION}"
    )
    cursor: request_fields.TimestampCursor | None = request_fields.cursor()


class JobResultsQuery(base.PageQuery):
    """A page of the results of a job."""

    cursor: Annotated[int, pydantic.Field(ge=0, lt=10**18)] | None = request_fields.cursor()


class DiffQuery(base.PageQuery):
    """A page of the images that have different labels in two jobs."""

    cursor: Annotated[request_fields.Text, pydantic.Field(min_length=1)] | None = request_fields.cursor()
    only_in_one: bool = pydantic.Field(
        default=False, description="whether images with a result in only one of the jobs are listed too"
    )


ExpiresIn = Annotated[
    float,
    pydantic.Field(ge=1, le=MAX_EXPIRES_SECONDS),
    pydantic.BeforeValidator(request_fields.reject_boolean),
]
HttpUrl = Annotated[
    str,
    pydantic.Field(max_length=url_policy.MAX_URL_LENGTH, pattern="^https?:", json_schema_extra={"format": "uri"}),
]
Base64 = Annotated[str, pydantic.Field(json_schema_extra={"contentEncoding": "base64", "pattern": BASE64_PATTERN})]


class JobOptions(base.RequestModel):
    """The options of a submission."""

    model: request_fields.Text | None = pydantic.Field(
        None, description="the name of a model; `GET /v1/models` lists them (default: the default model of the server)"
    )
    priority: Literal["interactive", "bulk"] | None = pydantic.Field(
        None,
        description="interactive or bulk; interactive is processed first (default: interactive for an image that is "
        "the raw body, else bulk)",
        examples=["bulk"],
    )
    metadata: request_fields.Metadata = pydantic.Field(
        {},
        description=f"a JSON object of at most {request_fields.MAX_METADATA_BYTES:,} bytes; "
        "every response with the job has it",
    )
    fresh: request_fields.Boolean = pydantic.Field(
        default=False, description="true: also classify images that were classified before with the same weights"
    )
    expires_in: ExpiresIn | None = pydantic.Field(
        None,
        description=f"seconds, 1 to {MAX_EXPIRES_SECONDS:,}, after which images that no worker has claimed expire",
        examples=[3600],
    )
    webhook: HttpUrl | None = pydantic.Field(None, description="the https URL that is called when the job has ended")
    job_name: request_fields.JobName | None = pydantic.Field(
        None, description="a name of the job for people, 1 to 255 characters, such as the name of the folder"
    )


class JobChange(base.RequestModel):
    """A change of a job."""

    example = 'Send {"name": "Holidays 2026"}, or null for none.'
    name: request_fields.JobName | None = pydantic.Field(
        description="a name for people, 1 to 255 characters; null removes it"
    )


class RawImageParams(base.RequestModel):
    """The name and identifier of an image that is the raw body."""

    name: str | None = pydantic.Field(
        None,
        min_length=1,
        max_length=1024,
        description="the name of the image in the results, 1 to 1,024 characters, at most 2,600 bytes in UTF-8 "
        "(default: image)",
        examples=["lunch.jpg"],
    )
    custom_id: request_fields.CustomId | None = pydantic.Field(None, description=request_fields.CUSTOM_ID_DESCRIPTION)


class CustomIdsForm(base.RequestModel):
    """The identifiers of the images in a form."""

    custom_ids: Annotated[
        dict[str, request_fields.CustomId], pydantic.BeforeValidator(request_fields.parse_json_object)
    ] = pydantic.Field(
        default={},
        description="a JSON object with your own identifiers of images in this form, by name",
        examples=['{"lunch.jpg": "order-4711"}'],
    )


class FormSubmission(JobOptions, CustomIdsForm):
    """The options of a submission by form."""


class RawSubmission(JobOptions, RawImageParams):
    """The options of a submission whose raw body is an image."""


class WaitQuery(base.RequestModel):
    """The time that a response may wait."""

    wait: Annotated[float, pydantic.Field(ge=0, le=MAX_WAIT_SECONDS)] = pydantic.Field(
        0,
        description=f"seconds to wait for the job to end, 0 to {MAX_WAIT_SECONDS}; if it has not ended by then, the "
        "response is 200 with the job as it is",
        examples=[10],
    )


Digest = Annotated[
    str, pydantic.Field(pattern=r"^[0-9a-f]{64}$", description="64 hexadecimal digits, with a to f in lower case")
]


class ImageReference(base.RequestModel):
    """An image: its bytes, or where they are; exactly one of `sha256`, `data` and `url`."""

    model_config = pydantic.ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"type": "string"}}} for name in ("sha256", "data", "url")
            ]
        }
    )

    name: Annotated[
        str,
        pydantic.Field(
            min_length=1,
            max_length=1024,
            description="a name in the results, 1 to 1,024 characters, at most 2,600 bytes in UTF-8",
        ),
    ]
    sha256: Digest | None = pydantic.Field(
        None,
        description="64 hexadecimal digits in lower case: the SHA-256 of bytes sent before",
    )
    data: Base64 | None = pydantic.Field(
        None, description="the bytes in base64, with or without `data:image/…;base64,` before them"
    )
    url: HttpUrl | None = pydantic.Field(
        None, description="the https URL from which the server fetches the bytes, if it is set up to do so"
    )
    custom_id: request_fields.CustomId | None = pydantic.Field(None, description=request_fields.CUSTOM_ID_DESCRIPTION)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _limit_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MAX_IMAGE_FIELDS:
            raise ValueError(
                f"it has {len(value):,} fields; an image has name, one of sha256, data and url, and custom_id"
            )
        return value

    @pydantic.model_validator(mode="after")
    def _require_one_origin(self) -> Self:
        if [self.sha256, self.data, self.url].count(None) != 2:
            raise ValueError("it must have exactly one of sha256, data and url")
        return self


ImageObject = Annotated[
    ImageReference,
    pydantic.Field(
        description="an object with name and one of sha256, data and url; an image: its bytes, or where they are"
    ),
]


class ImageReferences(base.RequestModel):
    """Images in JSON: their bytes, or where they are."""

    example = 'Send {"images": [{"name": …, "sha256": …}, …]}.'
    images: list[ImageObject] = pydantic.Field(
        min_length=1, description="a list of objects with name and sha256, data or url"
    )


class JsonSubmission(JobOptions):
    """A submission in JSON: of an open job, or of images: their bytes, or where they are."""

    example = (
        'Send {"open": true} for an open job without images, or {"images": [{"name": …, "sha256": …}, …]} for images '
        "that were sent before, with `data` in base64 or a `url` instead for others; a priority, model and metadata "
        "may be added."
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
        default=False, strict=True, description="true or false; true: images may be added until the job is sealed"
    )
    images: list[ImageObject] = pydantic.Field(
        default=[], description="a list of objects with name and sha256, data or url"
    )


Glob = Annotated[
    str,
    pydantic.Field(
        min_length=1,
        max_length=200,
        description="a glob of 1 to 200 characters, no control characters",
        json_schema_extra=request_fields.NO_CONTROL_CHARACTERS,
    ),
    pydantic.AfterValidator(request_fields.reject_control_characters),
]
Globs = Annotated[list[Glob], pydantic.Field(max_length=MAX_GLOBS)]


class ScanRequest(base.RequestModel):
    """The import of images from a source into an open job."""

    example = 'Send {"source": "photos"}, optionally with prefix, include and exclude.'
    source: request_fields.Text = pydantic.Field(
        min_length=1, description="the name of a source, or an S3 URL within one", examples=["photos"]
    )
    prefix: request_fields.Text = pydantic.Field(
        "", description="a folder in it (default: the whole source)", examples=["2026/january"]
    )
    include: Globs = pydantic.Field(
        default=[],
        description=f"a list of up to {MAX_GLOBS} globs of files to import, whatever their suffix",
        examples=[["*.jpg"]],
    )
    exclude: Globs = pydantic.Field(
        default=[], description=f"a list of up to {MAX_GLOBS} globs of files and folders to skip", examples=[["thumbs"]]
    )
    seal: bool = pydantic.Field(
        default=True, strict=True, description="true: seal the job when the import has finished (default: true)"
    )


class DigestCheckRequest(base.RequestModel):
    """SHA-256 digests of images."""

    example = 'Send {"sha256": ["…", …]}.'
    sha256: list[Digest] = pydantic.Field(
        min_length=1, max_length=MAX_DIGESTS, description=f"a list of 1 to {MAX_DIGESTS:,} SHA-256 in hexadecimal"
    )
