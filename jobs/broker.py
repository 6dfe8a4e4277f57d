"""kombu's way to Redis, but a message that makes no sense is thrown away: it must not end the worker that takes it."""

import logging
from typing import Any

from kombu import transport
from kombu.transport import redis
from kombu.transport.virtual import base
from redis import exceptions

# What kombu and Celery raise on text that is no message; not what Redis or the network raise.
NONSENSE = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)

log = logging.getLogger(__name__)


class Channel(redis.Channel):
    """A channel that survives what anybody may have put into Redis, and notices when it has gone deaf."""

    _deaf = False

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """As kombu's, which on a lost connection keeps the message's place taken, and so hears nothing ever after."""
        try:
            super().basic_ack(delivery_tag, multiple)  # type: ignore[no-untyped-call]  # kombu has no types
        except self.connection_errors:
            self._deaf = True
            base.QoS.ack(self.qos, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types
            raise

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self._deaf:
            raise exceptions.ConnectionError("the connection was lost while a message was acknowledged")
        super()._brpop_start(timeout)  # type: ignore[no-untyped-call]  # kombu has no types

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu has no types
        except NONSENSE as error:
            log.warning("a message that is none was thrown away: %s: %.200s", type(error).__name__, error)
            return True


class Transport(redis.Transport):
    """What `redis://`, `rediss://` and `redis+socket://` mean to this program."""

    Channel = Channel


def install() -> None:
    """Use it, in this process, for all that speaks to Redis by kombu: a URL names its transport by its scheme only."""
    transport.TRANSPORT_ALIASES |= dict.fromkeys(("redis", "rediss"), "jobs.broker:Transport")
