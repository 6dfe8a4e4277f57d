"""Base of both clients: their arguments, the server that they use, and its notices."""

from collections.abc import Callable
from typing import Generic, TypeVar

from sortbelt.client import discovery, transport

TransportT = TypeVar("TransportT", bound=transport.BaseTransport)


class BaseClient(Generic[TransportT]):
    """Server and transport of a client; the arguments are those of `Client`."""

    _transport_class: type[TransportT]

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retry_policy: transport.RetryPolicy | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.config = discovery.find_server(url, key)
        self._transport = self._transport_class(
            self.config.url, self.config.key, timeout=timeout, retry_policy=retry_policy, notice=notice
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config.url!r})"

    def notify(self, notice: Callable[[str], None] | None) -> None:
        """Replace the function that is called when a request waits or is retried."""
        self._transport.notice = notice
