"""Fixtures of the tests of core."""

import pytest

from core.db import database
from core.storage import local
from tests.support import factories


@pytest.fixture
def postgres_db(postgres_database_url):
    """A fresh, migrated PostgreSQL, open, for what only that can show."""
    opened = database.Database(postgres_database_url)
    yield opened
    opened.close()


@pytest.fixture
def postgres_owner(postgres_db):
    """The id of a key with the role submit."""
    return factories.create_key(postgres_db, "submitter")


@pytest.fixture
def blob_store(tmp_path):
    """A blob store in a folder."""
    return local.LocalBlobStore(tmp_path / "blobs")
