"""Response schemas of the health checks."""

from typing import Annotated, Literal

from typing_extensions import TypedDict

from api.schemas.fields import doc


class Liveness(TypedDict):
    """A sign of life."""

    status: Annotated[Literal["alive"], doc("that the process answers")]


class CheckResult(TypedDict):
    """The outcome of one check."""

    ok: Annotated[bool, doc("whether it passed")]
    detail: Annotated[str, doc("what was seen, in a sentence")]


class Readiness(TypedDict):
    """Whether jobs are accepted and processed, with each check; `redis` may fail."""

    status: Annotated[Literal["ready", "not ready"], doc("whether jobs are accepted and processed")]
    checks: Annotated[dict[str, CheckResult], doc("the checks, by name")]
