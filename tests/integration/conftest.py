"""Fixtures of all integration tests."""

import pytest

from core import enums
from core.db import database
from tests.support import factories
from tests.support.otlp_receiver import enabled_tracing, trace_receiver  # noqa: F401 (pytest finds them here)


@pytest.fixture(autouse=True)
def _long_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let connecting to PostgreSQL take as long as a busy machine needs; servers have two seconds."""
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_SECONDS", 20)


@pytest.fixture
def admin_key_id(db: database.Database) -> str:
    """Create an API key with the role `admin`; its id."""
    return factories.create_key(db, "boss", enums.Role.ADMIN)
