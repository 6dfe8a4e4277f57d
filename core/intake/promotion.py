"""Promotions: only a version that a worker has loaded and tested becomes live."""

import time
from typing import Any

from core import errors
from core.db import database
from core.db.queries import models, workers

WAIT_SECONDS = 20.0  # for a test that is about to end; it begins within seconds of the upload
POLL_SECONDS = 0.25


def promote(db: database.Database, name: str, version: str, promoted_by: str, *, force: bool = False) -> Any:
    """Make a version the live one, once a worker has tested it; return its row.

    With `force` it is not waited for a test, and an earlier failure is forgotten: workers test it before they serve it.

    Raises:
        errors.ModelNotFound: the version does not exist.
        errors.VersionNotTested: no worker has tested it, and none is running.
        errors.VersionBeingTested: a worker has not finished its test yet.
        errors.VersionUnusable: its test has failed.
    """
    if not force:
        _await_test(db, name, version)
    return db.write(models.promote, name, version, promoted_by, retest=force)


def _await_test(db: database.Database, name: str, version: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        row = db.read(models.get_version, name, version)
        if row.test_error is not None:
            raise errors.VersionUnusable(
                f"{name}@{version} did not pass its test: {row.test_error} Add a repaired bundle as another version; "
                "if the worker was lost for another reason, promote with force."
            )
        if row.tested_at is not None or row.files is None:  # one that is bundled with the workers was tested there
            return
        if not db.read(workers.list_alive):
            raise errors.VersionNotTested(
                f"{name}@{version} is not tested, and no worker is running; start one, or promote with force."
            )
        if time.monotonic() > deadline:
            raise errors.VersionBeingTested(f"A worker is testing {name}@{version}.")
        time.sleep(POLL_SECONDS)
