"""Fixtures of all integration tests."""

import pytest

from core.db import database


@pytest.fixture(autouse=True)
def _long_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let connecting to PostgreSQL take as long as a busy machine needs; servers have two seconds."""
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_SECONDS", 20)
