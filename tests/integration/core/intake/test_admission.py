import os

import pytest

from core import enums, errors, settings
from core.db.queries import quotas
from core.intake import admission, disk_share
from core.intake.eta_cache import EtaCache
from core.storage import local
from tests.support import factories

Load, NONE = quotas.Load, quotas.UNSET
URGENT = enums.Priority.INTERACTIVE.value


def made(db, **limits):
    """A gate with a watermark."""
    return admission.AdmissionControl(settings.Settings(**limits), db, EtaCache(db))


def test_above_the_watermark_nothing_is_let_in(db, owner):
    """By images or by bytes; the error has the queue's length and a delay."""
    factories.create_job(db, owner, *map(str, range(10)))
    made(db, max_queued_images=12).admit(owner, NONE, Load(2, 0))
    for limits in ({"max_queued_images": 12}, {"max_queued_bytes": 12 * 1234}):
        with pytest.raises(errors.QueueFull, match=r"The queue is full \(1[02],?\d* ") as refused:
            made(db, **limits).admit(owner, NONE, Load(3, 3 * 1234))
        assert refused.value.retry_after == admission.DEFAULT_RETRY_AFTER_SECONDS


def test_what_was_let_in_since_the_last_look_counts(db, owner):
    """Between two estimates, admitted submissions count."""
    one = made(db, max_queued_images=5)
    factories.create_job(db, owner, "a")
    for _ in range(2):
        one.admit(owner, NONE, Load(2, 0))
    with pytest.raises(errors.QueueFull):
        one.admit(owner, NONE, Load(2, 0))


def test_interactive_jobs_have_headroom_in_a_full_queue(db, owner):
    """Bulk goes up to the watermark, interactive orders a tenth beyond."""
    factories.create_job(db, owner, *map(str, range(20)))
    one = made(db, max_queued_images=20)
    one.admit(owner, NONE, Load(2, 0), URGENT)
    for priority in (URGENT, enums.Priority.BULK.value):
        with pytest.raises(errors.QueueFull):
            one.admit(owner, NONE, Load(1, 0), priority)


@pytest.mark.parametrize("limits", [{"max_queued_images": 12}, {"max_queued_bytes": 12 * 1234}])
def test_a_full_queue_rejects_only_keys_with_more_than_an_equal_share(db, owner, limits):
    """One key has filled the queue: it is rejected, another one goes on until it has half, a third until a third."""
    quiet, late = factories.create_key(db, "quiet"), factories.create_key(db, "late")
    factories.create_job(db, owner, *map(str, range(12)))
    one, single = made(db, **limits), Load(1, 1234)
    with pytest.raises(errors.QueueFull, match="of this key"):
        one.admit(owner, NONE, single)
    for key, share in ((quiet, 6), (late, 4)):
        for _ in range(share):
            one.admit(key, NONE, single)
        for rejected in (owner, key):
            with pytest.raises(errors.QueueFull):
                one.admit(rejected, NONE, single)


class SmallDisk(local.LocalBlobStore):
    """A blob store on a disk of 1,000 blocks."""

    free_blocks = free_files = 1000

    def disk(self):
        """Return the state of that disk."""
        block = 4096
        return os.statvfs_result(
            (block, block, 1000, self.free_blocks, self.free_blocks, 1000, self.free_files, self.free_files, 0, 255)
        )


@pytest.mark.parametrize("free", ["free_blocks", "free_files"])
def test_the_rest_of_a_disk_is_for_keys_that_store_little(db, owner, tmp_path, free):
    """One key has filled the disk: below a tenth it is rejected, whatever is done with its images, others are not."""
    factories.create_job(db, owner, *map(str, range(30)))
    factories.complete_claims(db, factories.claim_images(db))
    quiet, late = factories.create_key(db, "quiet"), factories.create_key(db, "late")
    factories.create_job(db, quiet, "a")
    store, single = SmallDisk(tmp_path), Load(1, 1234)
    setattr(store, free, 20)
    share = disk_share.DiskShare(db, store)
    one = admission.AdmissionControl(settings.Settings(), db, EtaCache(db), share)
    with pytest.raises(errors.StoreFull):
        one.admit(owner, NONE, single)
    for key in (quiet, late):
        one.admit(key, NONE, single)
    one.admit(owner, NONE, Load(1, 0))  # a retry stores nothing
    setattr(store, free, 200)
    one.admit(owner, NONE, single)


def test_a_key_that_is_alone_may_fill_the_disk(db, owner, tmp_path):
    """Nothing is kept from it for others, of which there are none."""
    factories.create_job(db, owner, *map(str, range(30)))
    store = SmallDisk(tmp_path)
    store.free_blocks = 20
    share = disk_share.DiskShare(db, store)
    share.admit(owner, Load(1, 1234))


def test_what_is_larger_than_the_queue_is_taken_when_that_is_empty(db, owner):
    """Else it would wait for ever."""
    made(db, max_queued_images=2).admit(owner, NONE, Load(10, 0))


def test_when_to_come_again_follows_from_what_was_done_lately(db, owner):
    """Thirty images too many at ten per second: in three seconds."""
    factories.create_job(db, owner, *map(str, range(60)))
    factories.complete_claims(db, factories.claim_images(db, limit=10))
    with pytest.raises(errors.QueueFull) as refused:
        made(db, max_queued_images=20).admit(owner, NONE, Load(0, 0))
    assert 1 <= refused.value.retry_after <= admission.MAX_RETRY_AFTER_SECONDS
    assert refused.value.retry_after != admission.DEFAULT_RETRY_AFTER_SECONDS


def test_no_limits_ask_nothing(db, owner):
    """Without any, the gate does not even look."""
    db.close()
    one = admission.AdmissionControl(settings.Settings(max_queued_images=0), None, None)
    one.admit(owner, NONE, Load(10**9, 10**15))
