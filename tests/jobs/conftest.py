"""What the tests of the ground floor share."""

import pytest

from jobs import database, tables
from jobs.store import keys


@pytest.fixture
def postgres(postgres_database_url):
    """A fresh, migrated PostgreSQL, open, for what only that can show."""
    opened = database.Database(postgres_database_url)
    yield opened
    opened.close()


@pytest.fixture
def postgres_owner(postgres):
    """Somebody who may submit there."""
    return postgres.write(keys.create, "somebody", tables.Role.SUBMIT, keys.make()).id
