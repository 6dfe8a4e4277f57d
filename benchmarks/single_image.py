"""Single images: one image per request, over a number of concurrent connections."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import load_generator, process_usage, stack

WAIT_SECONDS = 30


@dataclass(frozen=True)
class SingleImageResult:
    """One load, with the CPU and memory of the server."""

    load: load_generator.LoadResult
    cpu_us: dict[str, float]
    """Microseconds of the server's CPU per response, by role."""
    rss_mb: dict[str, float]

    @property
    def load_cpu_us(self) -> float:
        """Microseconds of the load generator's CPU per response."""
        return self.load.cpu_seconds / len(self.load.milliseconds) * 1e6


def measure(
    url: str,
    bodies: Sequence[bytes],
    usage: Callable[[], process_usage.Usage],
    *,
    connections: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    form_field: str | None = None,
    is_json: bool = False,
    status: int = 200,
) -> SingleImageResult:
    """Load a server for `seconds`.

    Raises:
        RuntimeError: a response had another status, or there was none.
    """
    before = usage()
    load_result = load_generator.run(
        url, bodies, connections=connections, seconds=seconds, headers=headers, form_field=form_field, is_json=is_json
    )
    after = usage()
    if set(load_result.statuses) != {status}:
        raise RuntimeError(f"{url} responded with {dict(load_result.statuses)} at {connections} connections.")
    cpu_us = {role: used / len(load_result.milliseconds) * 1e6 for role, used in after.since(before).items()}
    return SingleImageResult(load_result, cpu_us, {role: size / 1e6 for role, size in after.rss_bytes.items()})


def accepted(server: stack.Stack, bodies: Sequence[bytes], **options: Any) -> SingleImageResult:
    """Submit jobs of one image, answered with a 202 once they are stored."""
    return measure(f"{server.url}/v1/jobs", bodies, server.usage, headers=server.headers, status=202, **options)


def finished(server: stack.Stack, bodies: Sequence[bytes], **options: Any) -> SingleImageResult:
    """Submit jobs of one image, answered with their result."""
    headers = {**server.headers, "Prefer": f"wait={WAIT_SECONDS}"}
    return measure(f"{server.url}/v1/jobs", bodies, server.usage, headers=headers, **options)
