"""Every setting of Sortbelt, read once from `SORTBELT_…` variables, validated, then frozen.

Importing this module loads parsers only (`core/specs.py`); checks that need more are preflight checks.
"""

import difflib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pydantic
from pydantic_core import ErrorDetails

from core import errors, json_values, specs
from core.concurrency import cpu_count
from imaging import limits

ENV_PREFIX = "SORTBELT_"
# Variables of the command line client: where the server is, not how it runs.
CLIENT_VARIABLES = {"SORTBELT_URL", "SORTBELT_KEY", "SORTBELT_KEY_FILE", "SORTBELT_DATA_DIR"}
SECRET_FIELDS = {"admin_key", "database_url", "redis_url"}
MAX_BATCH_SIZE = 4096
BUNDLES_DIR = Path(__file__).parent.parent / "model" / "bundles"
RENAMED_FIELDS = {
    "drain_seconds": "task_seconds",
    "idle_ring_seconds": "idle_poll_seconds",
    "stuck_seconds": "watchdog_seconds",
    "models_held": "max_loaded_models",
    "models_seconds": "model_poll_seconds",
    "max_bad_keys_per_minute": "max_failed_auth_per_minute",
    "decoders": "decoder_processes",
    "blobs": "blob_store",
}
"""Names of 0.1 and the fields they set; accepted in 0.2 and rejected from 0.3."""


URL_SCHEMES = {
    "database_url": ("sqlite:///", "postgresql+psycopg://"),
    "redis_url": ("redis://", "rediss://", "redis+socket://"),
}
PARSERS: Mapping[str, Callable[[str], object]] = {
    "webhook_allow": specs.parse_destinations,
    "public_url": specs.check_public_url,
    "trusted_proxies": specs.parse_networks,
    "cors_origins": specs.parse_origins,
}


class Settings(pydantic.BaseModel):
    """The settings. Each field is named as its variable, in lower case and without the prefix."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    database_url: str = pydantic.Field(default="sqlite:///sortbelt.db", repr=False)
    """`sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`."""
    redis_url: str = pydantic.Field(default="redis://127.0.0.1:6379/0", repr=False)
    """`redis://…`, `rediss://…` or `redis+socket:///PATH`."""
    blob_store: str = "blobs"
    """Where image bytes are stored: a folder, or `s3://BUCKET/PREFIX` (credentials from the `AWS_…` variables)."""
    thumbnail_cache_bytes: int = pydantic.Field(default=2_000_000_000, ge=0)
    """How many bytes of thumbnails and previews are kept in the blob store; above, the oldest are removed, and made
    again when they are asked for. 0 keeps none."""
    sources: str = ""
    """Where images may be classified in place, without an upload: a comma-separated list of `NAME=/FOLDER` and
    `NAME=s3://BUCKET/PREFIX`. Every key with the role submit may have any image there classified."""
    admin_key: pydantic.SecretStr | None = None
    """A key that `python -m migrations` makes valid, with the role admin."""

    host: str = "127.0.0.1"
    """The address the API listens on."""
    port: int = pydantic.Field(default=8000, ge=0, le=65535)
    """The port the API listens on."""
    public_url: str = ""
    """The URL at which callers reach the API, if a reverse proxy is in front of it: `https://HOST/PREFIX`. Links begin
    with it; without it, they follow the request."""
    trusted_proxies: str = ""
    """The reverse proxies whose `X-Forwarded-…` and `Forwarded` headers are believed: a comma-separated list of
    addresses and networks."""
    cors_origins: str = ""
    """The browser apps of other origins that may call the API: a comma-separated list of `https://HOST`, or `*`."""
    api_processes: int = pydantic.Field(default=1, ge=1, le=64)
    """The number of processes of the API, each with its own threads and limits; more than one needs PostgreSQL."""
    api_threads: int = pydantic.Field(default=8, ge=1, le=256)
    """The number of requests the API works on at a time, without those that wait for a job to finish."""
    max_body_bytes: int = pydantic.Field(default=64_000_000, ge=1_000)
    """The largest request body, except for bundles."""
    max_image_bytes: int = pydantic.Field(default=50_000_000, ge=1)
    """The largest image file."""
    max_images_per_request: int = pydantic.Field(default=1_000, ge=1)
    """The maximum number of images in one request; a job may have more."""
    max_connections: int = pydantic.Field(default=4_000, ge=10, le=100_000)
    """The maximum number of connections of an API process; one address may have half of them, and
    a trusted proxy all. Above, idle ones are closed first. The limit of open files may lower it."""
    max_waits: int = pydantic.Field(default=1_000, ge=0)
    """The maximum number of requests per API process that wait for a job (`?wait=`, `Prefer: wait`); one key may have
    half of them."""
    max_event_streams: int = pydantic.Field(default=200, ge=0)
    """The maximum number of server-sent event streams per API process; one key may have half of them."""
    max_pixels: int = pydantic.Field(default=limits.MAX_PIXELS, ge=1)
    """The most pixels that are decoded of an image. A JPEG may have 64 times as many: it is decoded at up to 1/8 of its
    sides. With a higher limit, raise `SORTBELT_DECODE_MEMORY_BYTES` too: decoding takes up to 16 bytes a pixel."""
    max_base64_bytes: int = pydantic.Field(default=30_000_000, ge=1_000)
    """The largest JSON body of a submission, which may have images in base64."""
    fetch_urls: bool = False
    """Whether images may be submitted by URL: the dispatcher then fetches them."""
    webhook_allow: str = ""
    """Where webhooks may go, and images may be fetched from, besides public addresses by https: a comma-separated list
    of networks (`10.0.0.0/8`) and hosts."""

    max_queued_images: int = pydantic.Field(default=1_000_000, ge=0)
    """The maximum number of images without a result. When it is reached, keys that have more than an equal share of
    them get a 503; other keys are still accepted. 0 means no limit."""
    max_queued_bytes: int = pydantic.Field(default=0, ge=0)
    """How many bytes the images without a result may have in all, as `SORTBELT_MAX_QUEUED_IMAGES` limits their number.
    0 means no limit."""
    key_images_per_minute: int = pydantic.Field(default=0, ge=0)
    """How many images a key may submit per minute, unless it has a quota of its own; here and in the next four
    settings, 0 means no limit."""
    key_bytes_per_minute: int = pydantic.Field(default=0, ge=0)
    """How many bytes of images a key may submit per minute, as `SORTBELT_KEY_IMAGES_PER_MINUTE` limits their number."""
    key_open_images: int = pydantic.Field(default=0, ge=0)
    """How many images of a key may be without a result at a time."""
    key_open_bytes: int = pydantic.Field(default=0, ge=0)
    """How many bytes the images of a key that are without a result may have, as `SORTBELT_KEY_OPEN_IMAGES` limits their
    number."""
    key_work_seconds_per_minute: int = pydantic.Field(default=0, ge=0)
    """How many seconds decoding and classifying the images of a key may take per minute; they are charged when the work
    is done, and a key in debt may submit nothing."""
    key_open_jobs: int = pydantic.Field(default=100, ge=0)
    """How many open jobs a key may have: those that take more images; 0 means no limit."""
    open_job_days: float = pydantic.Field(default=7, ge=0)
    """After how long an open job to which nothing is added is sealed, so that it ends; 0 disables this."""
    max_failed_auth_per_minute: int = pydantic.Field(default=30, ge=0)
    """How many invalid keys one address may send per minute, for each API process; 0 means no limit."""
    retention_days: float = pydantic.Field(default=0, ge=0)
    """How long the images and results of a finished job are stored, at least an hour; 0 means no limit."""

    max_bundle_bytes: int = pydantic.Field(default=128_000_000, ge=1_000, le=400_000_000)
    """The largest bundle the model registry accepts; the API needs four times as much memory for it."""

    model: str = pydantic.Field(default="sushi-or-sandwich", pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")
    """The model of jobs that name none."""
    bundles: Path = BUNDLES_DIR
    """The folder that has a bundle in a subfolder named as `SORTBELT_MODEL`; it is served until another version is
    promoted."""
    model_cache: Path = pydantic.Field(default_factory=lambda: Path(tempfile.gettempdir(), f"sortbelt-{os.getuid()}"))
    """The folder in which a worker caches bundles from the registry."""
    max_loaded_models: int = pydantic.Field(default=4, ge=1, le=100)
    """The number of model versions a worker holds in memory; with more live models than that, it reloads them."""
    model_memory_bytes: int = pydantic.Field(default=4_000_000_000, ge=500_000_000)
    """How much memory a version may need while a worker tests it, in a process of its own, or runs it as a shadow."""
    model_poll_seconds: float = pydantic.Field(default=2.0, gt=0)
    """How often a worker checks whether another version was promoted."""
    device: str = pydantic.Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """The device of the network: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:1`."""
    decoder_processes: int = pydantic.Field(default_factory=cpu_count.available_cpus, ge=1, le=256)
    """The number of decoder processes of a worker; by default as many as it may use CPUs. One more is started when
    images of one key have to overtake slow ones of another."""
    decode_seconds: float = pydantic.Field(default=10.0, gt=0)
    """The maximum wall-clock time to decode one image."""
    decode_memory_bytes: int = pydantic.Field(default=768_000_000, ge=64_000_000)
    """How much a decoder's address space may grow beyond its size at start."""
    batch_size: int | Literal["auto"] = "auto"
    """The maximum number of images in a batch: 1 to 4096, or `auto`, as many as the worker has been able to process in
    a quarter of a second, between 16 and 1024."""
    linger_ms: float = pydantic.Field(default=4.0, ge=0, le=1000)
    """How long a batch that is not full waits for more images while the device processes another;
    while the device is idle, a batch does not wait."""
    task_seconds: float = pydantic.Field(default=1.0, gt=0)
    """How long one `drain` task works before it sends another wake-up and returns."""
    idle_poll_seconds: float = pydantic.Field(default=1.0, gt=0)
    """How often an idle worker polls for work without a wake-up."""
    lease_seconds: float = pydantic.Field(default=15.0, gt=0)
    """How long a worker without heartbeat holds the images it has claimed; it renews its leases every quarter
    of this time, every 5 s at the latest."""
    max_attempts: int = pydantic.Field(default=3, ge=1, le=100)
    """How often an image may be lost with its worker before it fails as `worker_lost`."""
    watchdog_seconds: float = pydantic.Field(default=60.0, gt=0)
    """A worker whose batch makes no progress for this long exits; its supervisor starts another."""
    tracing: bool = False
    """Whether traces are sent by OpenTelemetry; its own `OTEL_…` variables say where to, and how many."""

    @pydantic.field_validator(*URL_SCHEMES)
    @classmethod
    def _validate_scheme(cls, url: str, info: pydantic.ValidationInfo) -> str:
        *others, last = schemes = URL_SCHEMES[str(info.field_name)]
        if not url.startswith(schemes):
            raise ValueError(f"it must begin with {', '.join(others)} or {last}")
        return url

    @pydantic.field_validator("api_processes")
    @classmethod
    def _validate_api_processes(cls, value: int, info: pydantic.ValidationInfo) -> int:
        if value > 1 and str(info.data.get("database_url", "")).startswith("sqlite"):
            raise ValueError(
                "it must be 1 on SQLite, where processes would wait for each other; use PostgreSQL for more"
            )
        return value

    @pydantic.field_validator("batch_size", mode="plain")
    @classmethod
    def _validate_batch_size(cls, value: object) -> int | Literal["auto"]:
        if value == "auto":
            return "auto"
        size = str(value)
        if not re.fullmatch("[0-9]{1,4}", size) or not 1 <= int(size) <= MAX_BATCH_SIZE:
            raise ValueError(f"it must be auto, or a number from 1 to {MAX_BATCH_SIZE}")
        return int(size)

    @pydantic.field_validator(*PARSERS)
    @classmethod
    def _validate_by_parser(cls, value: str, info: pydantic.ValidationInfo) -> str:
        if value:
            PARSERS[str(info.field_name)](value)
        return value

    @pydantic.field_validator("tracing")
    @classmethod
    def _validate_tracing(cls, value: bool) -> bool:
        if value and not specs.is_tracing_installed():
            raise ValueError("it must be false without OpenTelemetry: to install it, pip install 'sortbelt[otel]'")
        return value

    @pydantic.field_validator("sources")
    @classmethod
    def _validate_sources(cls, value: str, info: pydantic.ValidationInfo) -> str:
        for source in specs.parse_sources(value):
            if specs.is_overlapping(source.address, info.data.get("blob_store", "")):
                raise ValueError(f"it must not overlap with SORTBELT_BLOB_STORE, as the source {source.name!r} does")
        return value

    @property
    def default_bundle(self) -> Path:
        """The folder of the model of jobs that name none."""
        return self.bundles / self.model


def read(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from an environment; `NAME_FILE` names a file that holds the value of `NAME`.

    Raises:
        errors.BadSetting: a variable is unknown, malformed or given twice, or its file cannot be read.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, str] = {}
    variables: dict[str, str] = {}
    for variable in _setting_variables(environ):
        name, value = _resolve_variable(variable, environ[variable])
        if name in values:
            raise errors.BadSetting(f"{variables[name]} and {variable} are both set, and mean the same; keep one.")
        values[name], variables[name] = value, variable
    try:
        return Settings.model_validate(values)
    except pydantic.ValidationError as error:
        raise errors.BadSetting(" ".join(_error_message(e, variables) for e in error.errors())) from None


def read_or_exit() -> Settings:
    """Read the settings of the environment when a program starts; on a bad one print a sentence and exit with 2."""
    try:
        return read()
    except errors.BadSetting as error:
        print(f"sortbelt: {error.detail}", file=sys.stderr)  # noqa: T201 (no log is set up yet)
        sys.exit(2)


def renamed_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that are still set by their old name, each with the new one."""
    renamed = {}
    for variable in _setting_variables(environ):
        name, suffix = _split_variable(variable)
        if name in RENAMED_FIELDS:
            renamed[variable] = f"{ENV_PREFIX}{RENAMED_FIELDS[name].upper()}{suffix.upper()}"
    return renamed


def _setting_variables(environ: Mapping[str, str]) -> list[str]:
    return sorted(name for name in environ if name.startswith(ENV_PREFIX) and name not in CLIENT_VARIABLES)


def _split_variable(variable: str) -> tuple[str, str]:
    """Split a variable into the name of a field, old or new, and its suffix: `_file` or nothing."""
    name = variable.removeprefix(ENV_PREFIX).lower()
    is_plain = name in Settings.model_fields or name in RENAMED_FIELDS or not name.endswith("_file")
    return (name, "") if is_plain else (name.removesuffix("_file"), "_file")


def _resolve_variable(variable: str, value: str) -> tuple[str, str]:
    """Return the field that a variable sets, and the value: its own, or that of the file it names."""
    name, suffix = _split_variable(variable)
    field = RENAMED_FIELDS.get(name, name)
    if field not in Settings.model_fields:
        suggestions = difflib.get_close_matches(name, Settings.model_fields, n=1)
        hint = f"Did you mean {ENV_PREFIX}{suggestions[0].upper()}?" if suggestions else "Unset it."
        raise errors.BadSetting(f"{variable} is not a setting of Sortbelt. {hint}")
    if not suffix:
        return field, value
    try:
        return field, Path(value).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise errors.BadSetting(f"{variable}={value} cannot be read: {reason}.") from None


def _error_message(error: ErrorDetails, variables: Mapping[str, str]) -> str:
    name = str(error["loc"][0])
    if name in SECRET_FIELDS:
        error["input"] = "(not shown)"
    variable = variables.get(name, ENV_PREFIX + name.upper())
    return json_values.error_message(variable.removesuffix("_FILE"), error)
