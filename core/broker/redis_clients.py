"""Clients of Redis with short timeouts, for all that does not go through Celery."""

import redis

BACKOFF_SECONDS = 2.0  # between an error and the next attempt
TIMEOUT_SECONDS = 2.0


def create(redis_url: str, *, block_seconds: float = 0.0) -> redis.Redis:
    """Create a client; `block_seconds` is the time for which its calls may block by themselves."""
    timeouts = {"socket_timeout": TIMEOUT_SECONDS + block_seconds, "socket_connect_timeout": TIMEOUT_SECONDS}
    return redis.Redis.from_url(redis_py_url(redis_url), **timeouts, retry=None)


def redis_py_url(redis_url: str) -> str:
    """Spell a URL as redis-py does, which does not know kombu's scheme for sockets."""
    return redis_url.replace("redis+socket://", "unix://")
