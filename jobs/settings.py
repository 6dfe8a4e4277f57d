"""Every setting of Sortbelt: read once from `SORTBELT_…` variables, checked, then frozen."""

import difflib
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pydantic
from pydantic_core import ErrorDetails

from jobs import destinations, errors, sources, tracing, validation

PREFIX = "SORTBELT_"
# The command's own variables: where the server is, not how it runs.
CLIENT_VARIABLES = {"SORTBELT_URL", "SORTBELT_KEY", "SORTBELT_DATA_DIR"}
SECRET = {"admin_key", "database_url", "redis_url"}
MOST_IN_A_BATCH = 4096
BUNDLES = Path(__file__).parent.parent / "model" / "bundles"


class Settings(pydantic.BaseModel):
    """The settings, each by the name of its variable without the prefix, in lower case."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    database_url: str = pydantic.Field(default="sqlite:///sortbelt.db", repr=False)
    """`sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`."""
    redis_url: str = pydantic.Field(default="redis://127.0.0.1:6379/0", repr=False)
    """`redis://…`, `rediss://…` or `redis+socket:///PATH`."""
    blobs: str = "blobs"
    """Where picture bytes lie: a folder, or `s3://BUCKET/PREFIX` (credentials by the `AWS_…` variables)."""
    sources: str = ""
    """Where pictures may be classified without being sent: `NAME=/FOLDER` or `NAME=s3://BUCKET/PREFIX`, between commas.
    Whoever may submit may have any picture there classified."""
    admin_key: pydantic.SecretStr | None = None
    """A key that `python -m migrations` makes valid, with the role admin."""

    host: str = "127.0.0.1"
    """The address at which the API listens."""
    port: int = pydantic.Field(default=8000, ge=0, le=65535)
    """The port at which it listens."""
    api_threads: int = pydantic.Field(default=8, ge=1, le=256)
    """How many requests the API works on at once; those that wait for a job's end do not count."""
    max_body_bytes: int = pydantic.Field(default=64_000_000, ge=1_000)
    """The largest request, but for bundles."""
    max_image_bytes: int = pydantic.Field(default=20_000_000, ge=1)
    """The largest picture, by its file."""
    max_images_per_request: int = pydantic.Field(default=1_000, ge=1)
    """How many pictures one request may hold; a job may have more."""
    max_event_streams: int = pydantic.Field(default=200, ge=0)
    """How many may follow jobs by server-sent events at once, for each process that serves; one key half of them."""
    max_pixels: int = pydantic.Field(default=40_000_000, ge=1)
    """The largest picture, width times height."""
    webhook_allow: str = ""
    """Where webhooks may go besides public addresses by https: networks (`10.0.0.0/8`) and hosts, between commas."""

    max_queued_images: int = pydantic.Field(default=1_000_000, ge=0)
    """How many pictures may be without a result before no more are taken in; 0 is no limit."""
    max_queued_bytes: int = pydantic.Field(default=0, ge=0)
    """The same by their bytes."""
    key_images_per_minute: int = pydantic.Field(default=0, ge=0)
    """What each key may hand in, unless it has a quota of its own; as with the three that follow, 0 is no limit."""
    key_bytes_per_minute: int = pydantic.Field(default=0, ge=0)
    """The same by bytes."""
    key_open_images: int = pydantic.Field(default=0, ge=0)
    """How many pictures of a key may be without a result at a time."""
    key_open_bytes: int = pydantic.Field(default=0, ge=0)
    """How many bytes of a key's pictures may be so."""
    max_bad_keys_per_minute: int = pydantic.Field(default=30, ge=0)
    """How often one address may try wrong keys, for each process that serves; 0 is no limit."""
    retention_days: float = pydantic.Field(default=0, ge=0)
    """For how long the pictures and results of a job are kept once it is over, an hour at least; 0 is for ever."""

    max_bundle_bytes: int = pydantic.Field(default=128_000_000, ge=1_000, le=400_000_000)
    """The largest bundle that the registry takes; the API needs four times as much memory for it."""

    model: str = pydantic.Field(default="sushi-or-sandwich", pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")
    """The model that jobs get if they name none."""
    bundles: Path = BUNDLES
    """The folder that holds a bundle of that name: what is served until another version is promoted."""
    model_cache: Path = pydantic.Field(default_factory=lambda: Path(tempfile.gettempdir(), f"sortbelt-{os.getuid()}"))
    """Where a worker keeps the bundles that it has fetched from the registry."""
    models_held: int = pydantic.Field(default=4, ge=1, le=100)
    """How many versions a worker keeps loaded; more live models than that are loaded again and again."""
    models_seconds: float = pydantic.Field(default=2.0, gt=0)
    """How often a worker looks whether another version was promoted."""
    device: str = pydantic.Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where the network runs: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:1`."""
    decoders: int = pydantic.Field(default_factory=lambda: len(os.sched_getaffinity(0)), ge=1, le=256)
    """How many processes of a worker decode pictures."""
    decode_seconds: float = pydantic.Field(default=10.0, gt=0)
    """The longest that one picture may take to decode, by the clock on the wall."""
    decode_memory_bytes: int = pydantic.Field(default=768_000_000, ge=64_000_000)
    """How far one decoder's address space may grow beyond what it starts with."""
    batch_size: int | Literal["auto"] = "auto"
    """How many pictures a batch may have: a number from 1 to 4096, or `auto`, as many as a worker has seen itself get
    through in a quarter of a second, from 16 to 1024."""
    linger_ms: float = pydantic.Field(default=4.0, ge=0, le=1000)
    """How long a batch that is not full waits for more, while another is at work; the first goes at once."""
    drain_seconds: float = pydantic.Field(default=1.0, gt=0)
    """How long one `drain` task works before it rings again and returns."""
    idle_ring_seconds: float = pydantic.Field(default=1.0, gt=0)
    """How often an idle worker looks for work without a bell."""
    lease_seconds: float = pydantic.Field(default=15.0, gt=0)
    """How long a worker that shows no life keeps what it has claimed; it renews four times as often."""
    max_attempts: int = pydantic.Field(default=3, ge=1, le=100)
    """How often a picture may be lost with its worker before it fails as `worker_lost`."""
    stuck_seconds: float = pydantic.Field(default=60.0, gt=0)
    """A worker whose batch makes no progress for so long ends itself; its supervisor starts another."""
    tracing: bool = False
    """Whether traces are sent by OpenTelemetry; where to, and how many, is said by its own `OTEL_…` variables."""

    @pydantic.field_validator("database_url")
    @classmethod
    def _a_database_we_know(cls, url: str) -> str:
        if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("must begin with sqlite:/// or postgresql+psycopg://")
        return url

    @pydantic.field_validator("redis_url")
    @classmethod
    def _a_broker_we_know(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://", "redis+socket://")):
            raise ValueError("must begin with redis://, rediss:// or redis+socket://")
        return url

    @pydantic.field_validator("batch_size", mode="plain")
    @classmethod
    def _auto_or_a_number(cls, wanted: object) -> int | Literal["auto"]:
        if wanted == "auto":
            return "auto"
        size = str(wanted)
        if not re.fullmatch("[0-9]{1,4}", size) or not 1 <= int(size) <= MOST_IN_A_BATCH:
            raise ValueError(f"must be auto, or a number from 1 to {MOST_IN_A_BATCH}")
        return int(size)

    @pydantic.field_validator("webhook_allow")
    @classmethod
    def _networks_and_hosts(cls, listed: str) -> str:
        destinations.Rules.read(listed)
        return listed

    @pydantic.field_validator("tracing")
    @classmethod
    def _only_with_its_packages(cls, wanted: bool) -> bool:
        if wanted and not tracing.installed():
            raise ValueError("it needs OpenTelemetry, which is not installed: pip install 'sortbelt[otel]'")
        return wanted

    @pydantic.field_validator("sources")
    @classmethod
    def _folders_and_buckets(cls, listed: str, info: pydantic.ValidationInfo) -> str:
        for source in sources.Sources.read(listed):
            if sources.overlap(source.address, info.data.get("blobs", "")):
                raise ValueError(f"the source {source.name!r} and SORTBELT_BLOBS must not lie in one another")
        return listed

    @property
    def bundle(self) -> Path:
        """The folder of the model that jobs get if they name none."""
        return self.bundles / self.model


def read(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in an environment; `NAME_FILE` names a file that holds the value of `NAME`.

    Raises:
        errors.BadSetting: a variable is unknown, malformed, or its file cannot be read.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, str] = {}
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in CLIENT_VARIABLES:
            name, value = _value(variable, environ[variable])
            if name in values:
                raise errors.BadSetting(f"{PREFIX}{name.upper()} is set twice, with and without _FILE; keep one.")
            values[name] = value
    try:
        return Settings.model_validate(values)
    except pydantic.ValidationError as error:
        raise errors.BadSetting(" ".join(_sentence(e) for e in error.errors())) from None


def _sentence(error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    if name in SECRET:
        error["input"] = "(not shown)"
    return validation.sentence(PREFIX + name.upper(), error)


def read_or_exit() -> Settings:
    """The settings of the environment, for the start of a program: a bad one ends it with a sentence and code 2."""
    try:
        return read()
    except errors.BadSetting as error:
        print(f"sortbelt: {error.detail}", file=sys.stderr)  # noqa: T201 (no log is set up yet)
        sys.exit(2)


def _value(variable: str, value: str) -> tuple[str, str]:
    name = variable.removeprefix(PREFIX).lower()
    if name in Settings.model_fields:
        return name, value
    if not name.endswith("_file") or name.removesuffix("_file") not in Settings.model_fields:
        close = difflib.get_close_matches(name, Settings.model_fields, n=1)
        hint = f" Did you mean {PREFIX}{close[0].upper()}?" if close else " Unset it."
        raise errors.BadSetting(f"{variable} is no setting of Sortbelt.{hint}")
    try:
        return name.removesuffix("_file"), Path(value).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.BadSetting(f"{variable} names a file that cannot be read: {error}.") from None
