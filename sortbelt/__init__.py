"""Python client, bulk runs and the `sortbelt` command for a Sortbelt server, over HTTP.

from sortbelt import Client

with Client() as client:
    job = client.submit(["lunch.jpg", "dinner.jpg"], wait=True)
    for result in client.results(job.id):
        print(result.image, result.label, result.confidence)
"""

import importlib
from typing import TYPE_CHECKING, Any

from sortbelt import version

if TYPE_CHECKING:
    from sortbelt.client.async_client import AsyncClient, AsyncJob
    from sortbelt.client.responses import Key, Result
    from sortbelt.client.sync_client import Client, Job
    from sortbelt.client.transport import RetryPolicy
    from sortbelt.errors import SortbeltError

__version__ = version.VERSION
__all__ = ["AsyncClient", "AsyncJob", "Client", "Job", "Key", "Result", "RetryPolicy", "SortbeltError", "__version__"]

_LAZY_EXPORTS = {
    "AsyncClient": "client.async_client",
    "AsyncJob": "client.async_client",
    "Client": "client.sync_client",
    "Job": "client.sync_client",
    "Key": "client.responses",
    "Result": "client.responses",
    "RetryPolicy": "client.transport",
    "SortbeltError": "errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: `sortbelt --help` must not wait for the HTTP library."""
    if name not in _LAZY_EXPORTS:
        raise AttributeError(f"module 'sortbelt' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sortbelt.{_LAZY_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, also those that were not used yet."""
    return sorted({*globals(), *__all__})
