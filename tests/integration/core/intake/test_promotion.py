"""Promotions wait for a worker's test."""

import threading
import time

import pytest

from core import enums, errors
from core.db.queries import model_tests, models, workers
from core.intake import promotion
from tests.support import factories


@pytest.fixture
def boss(db):
    """The id of an admin who has uploaded version 2."""
    key = factories.create_key(db, "boss", enums.Role.ADMIN)
    manifest = {"name": factories.MODEL, "version": "2", "digest": "2" * 64}
    db.write(models.add, manifest, {"model.json": "0" * 64}, key)
    return key


def test_without_a_worker_nothing_is_promoted(db, boss):
    """The answer comes at once and says what to do; force promotes it all the same."""
    with pytest.raises(errors.VersionNotTested, match="no worker is running; start one, or promote with force"):
        promotion.promote(db, factories.MODEL, "2", boss)
    assert promotion.promote(db, factories.MODEL, "2", boss, force=True).stage == "live"


def test_a_promotion_waits_for_the_test(db, boss, monkeypatch):
    """It begins while the test runs, and ends with it; a test that takes too long is for a retry."""
    db.write(workers.register, "w", factories.MODEL_REF, "cpu")
    (version,) = db.read(model_tests.list_untested, "w")
    monkeypatch.setattr(promotion, "WAIT_SECONDS", 0.0)
    with pytest.raises(errors.VersionBeingTested, match="is testing"):
        promotion.promote(db, factories.MODEL, "2", boss)
    monkeypatch.setattr(promotion, "WAIT_SECONDS", 60.0)
    test = threading.Thread(target=lambda: time.sleep(0.5) or db.write(model_tests.end, "w", version.id, None))
    test.start()
    assert promotion.promote(db, factories.MODEL, "2", boss).stage == "live"
    test.join()


def test_a_failed_test_is_final(db, boss):
    """The error has the reason."""
    (version,) = db.read(model_tests.list_untested, "w")
    db.write(model_tests.end, "w", version.id, "It needs too much memory.")
    with pytest.raises(errors.VersionUnusable, match="It needs too much memory"):
        promotion.promote(db, factories.MODEL, "2", boss)
