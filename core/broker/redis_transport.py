"""Redis transport for kombu that discards malformed messages: they must not end the worker that receives them."""

import logging
from typing import Any

from kombu import transport
from kombu.transport import redis
from kombu.transport.virtual import base
from redis import exceptions

# Raised by kombu and Celery for malformed messages, and not by Redis or the network.
MALFORMED_MESSAGE_ERRORS = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)

log = logging.getLogger(__name__)


class Channel(redis.Channel):
    """A channel that survives malformed messages, and reports a lost connection."""

    _connection_lost = False

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge as kombu does, but free the message's slot if the connection is lost.

        kombu leaves the slot taken, and then receives nothing any more.
        """
        try:
            super().basic_ack(delivery_tag, multiple)  # type: ignore[no-untyped-call]  # kombu has no types
        except self.connection_errors:
            self._connection_lost = True
            base.QoS.ack(self.qos, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types
            raise

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self._connection_lost:
            raise exceptions.ConnectionError("the connection was lost while a message was acknowledged")
        super()._brpop_start(timeout)  # type: ignore[no-untyped-call]  # kombu has no types

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu has no types
        except MALFORMED_MESSAGE_ERRORS as error:
            log.warning("a malformed message was discarded: %s: %.200s", type(error).__name__, error)
            return True


class Transport(redis.Transport):
    """The transport of `redis://`, `rediss://` and `redis+socket://` in this process."""

    Channel = Channel


def register_transport() -> None:
    """Use this transport for all kombu connections to Redis in this process: URLs select a transport by scheme."""
    transport.TRANSPORT_ALIASES |= dict.fromkeys(("redis", "rediss"), "core.broker.redis_transport:Transport")
