import io
import time

from sortbelt.cli import progress
from sortbelt.client import responses
from tests.support import modules
from tests.unit.sortbelt.cli.test_terminal import Screen


def job(total, done, failed=0):
    queued = total - done - failed
    counts = {"total": total, "done": done, "failed": failed, "queued": queued}
    return responses.Job.from_json({"id": "1", "status": "running", "counts": counts})


def test_a_log_gets_a_line_at_the_end_that_has_it_all():
    out = io.StringIO()

    with progress.create_progress(out) as shown:
        shown.update(job(10, 0), sent=10, total=10)
        shown.update(job(10, 9, failed=1), sent=10, total=10)

    assert out.getvalue() == "10/10 sent, 10/10 classified, 1 failed\n"


def test_a_log_gets_a_line_every_few_seconds(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    out = io.StringIO()

    with progress.create_progress(out) as shown:
        for done in range(3):
            shown.update(job(3, done))

    assert out.getvalue().splitlines() == ["0/3 classified", "1/3 classified", "2/3 classified"]


def test_why_nothing_moves_stands_on_the_line_until_something_does(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    out = io.StringIO()

    with progress.create_progress(out) as shown:
        shown.show_waiting("Waiting 9 s: The queue is full.")
        shown.update(job(3, 1), sent=2, total=3)
        shown.show_waiting("Waiting 9 s: The queue is full.")
        shown.update(job(3, 2), sent=2, total=3)

    first, _, waits, moves = out.getvalue().splitlines()
    assert first == "Waiting 9 s: The queue is full."
    assert waits == "2/3 sent, 1/3 classified; Waiting 9 s: The queue is full."
    assert "full" not in moves


def test_a_terminal_is_reported_why_nothing_moves(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Screen()

    with progress.create_progress(out) as shown:
        shown.show_waiting("Waiting 9 s: The queue is full.")

    assert "The queue is full." in out.getvalue()


def test_a_terminal_gets_bars(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Screen()

    with progress.create_progress(out) as shown:
        shown.update(job(10, 4), sent=7, total=10)

    assert "sent" in out.getvalue()
    assert "7/10" in out.getvalue()
    assert "4/10" in out.getvalue()


def test_a_line_has_rate_and_time_left(monkeypatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(progress, "time", modules.with_changes(time, monotonic=lambda: next(clock)))
    rate_meter = progress.RateMeter()

    progress.format_line(job(1000, 100), rate_meter, None, None)
    line = progress.format_line(job(1000, 200), rate_meter, None, None)

    assert line == "200/1000 classified, 10/s, 0:01:20 left"
