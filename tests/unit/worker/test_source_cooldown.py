import time

from tests.support import modules
from worker import source_cooldown


def test_a_failed_source_is_skipped_for_a_while(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(source_cooldown, "time", modules.with_changes(time, monotonic=lambda: now[0]))
    cooldown = source_cooldown.SourceCooldown(["camera", "scanner"])
    assert cooldown.available() == ["camera", "scanner"]
    cooldown.suspend("camera")
    now[0] += source_cooldown.COOLDOWN_SECONDS - 1
    assert cooldown.available() == ["scanner"]
    now[0] += 1
    assert cooldown.available() == ["camera", "scanner"]
