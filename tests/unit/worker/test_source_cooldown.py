import time

from worker import source_cooldown


def test_a_failed_source_is_skipped_for_a_while():
    cooldown = source_cooldown.SourceCooldown(["camera", "scanner"], cooldown_seconds=0.05)
    assert cooldown.available() == ["camera", "scanner"]
    cooldown.start("camera")
    assert cooldown.available() == ["scanner"]
    time.sleep(0.06)
    assert cooldown.available() == ["camera", "scanner"]
