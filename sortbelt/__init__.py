"""What users hold: the Python client, the folder enqueuer, the `sortbelt` command; all of it speaks HTTP.

from sortbelt import Client

with Client() as client:
    job = client.submit(["lunch.jpg", "dinner.jpg"], wait=True)
    for result in client.results(job.id):
        print(result.image, result.label, result.confidence)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sortbelt.asynchronous import AsyncClient, AsyncJob
    from sortbelt.client import Client, Job
    from sortbelt.errors import SortbeltError
    from sortbelt.records import Key, Result

__version__ = "0.1.0"
__all__ = ["AsyncClient", "AsyncJob", "Client", "Job", "Key", "Result", "SortbeltError", "__version__"]

_HOMES = {
    "AsyncClient": "asynchronous",
    "AsyncJob": "asynchronous",
    "Client": "client",
    "Job": "client",
    "Key": "records",
    "Result": "records",
    "SortbeltError": "errors",
}


def __getattr__(name: str) -> Any:
    """The public names, fetched when asked for: `sortbelt --help` must not wait for the HTTP library."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sortbelt' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sortbelt.{_HOMES[name]}"), name)
