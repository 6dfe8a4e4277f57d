from tests.support import modules
from worker import source_cooldown


def test_a_failed_source_is_skipped_for_a_while(monkeypatch):
    now = modules.set_clock(monkeypatch, source_cooldown)
    cooldown = source_cooldown.SourceCooldown(["camera", "scanner"])
    assert cooldown.available() == ["camera", "scanner"]
    cooldown.suspend("camera")
    now[0] += source_cooldown.COOLDOWN_SECONDS - 1
    assert cooldown.available() == ["scanner"]
    now[0] += 1
    assert cooldown.available() == ["camera", "scanner"]
