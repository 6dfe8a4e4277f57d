"""Singles: one picture a request, at several numbers of callers at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import load, processes, stack

WAIT_SECONDS = 30
NO_WAIT = "this server does not know `Prefer: wait`"


@dataclass(frozen=True)
class Single:
    """One load, and what the server took for it."""

    load: load.Load
    cpu_us: dict[str, float]
    """Microseconds of the server's CPU for each answer, by role."""
    rss_mb: dict[str, float]

    @property
    def load_cpu_us(self) -> float:
        """The same of the load itself."""
        return self.load.cpu_seconds / len(self.load.milliseconds) * 1e6


def measure(
    url: str,
    bodies: Sequence[bytes],
    usage: Callable[[], processes.Usage],
    *,
    connections: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    form: str | None = None,
    status: int = 200,
) -> Single:
    """Load a server for so long.

    Raises:
        RuntimeError: it answered something with another status, or nothing at all.
    """
    before = usage()
    done = load.run(url, bodies, connections=connections, seconds=seconds, headers=headers, form=form)
    after = usage()
    if set(done.statuses) != {status}:
        raise RuntimeError(f"{url} answered {dict(done.statuses)} at {connections} connections.")
    each = {role: used / len(done.milliseconds) * 1e6 for role, used in after.since(before).items()}
    return Single(done, each, {role: size / 1e6 for role, size in after.rss_bytes.items()})


def accepted(server: stack.Stack, bodies: Sequence[bytes], **how: Any) -> Single:
    """Jobs of one picture that are answered 202 when they are safe."""
    return measure(f"{server.url}/v1/jobs", bodies, server.usage, headers=server.headers, status=202, **how)


def finished(server: stack.Stack, bodies: Sequence[bytes], **how: Any) -> Single:
    """Jobs of one picture that are answered with their result."""
    headers = {**server.headers, "Prefer": f"wait={WAIT_SECONDS}"}
    return measure(f"{server.url}/v1/jobs", bodies, server.usage, headers=headers, **how)


def knows_wait(server: stack.Stack, body: bytes) -> bool:
    """Whether the server can answer a job with its result."""
    headers = {"Content-Type": "image/jpeg", "Prefer": f"wait={WAIT_SECONDS}"}
    with server.client() as client:
        answer = client.post("/v1/jobs", content=body, headers=headers).raise_for_status()
    return "Preference-Applied" in answer.headers
