import io

from sortbelt import progress, records
from tests.sortbelt.test_terminal import Screen


def job(total, done, failed=0):
    queued = total - done - failed
    counts = {"total": total, "done": done, "failed": failed, "queued": queued}
    return records.Job.read({"id": "1", "status": "running", "counts": counts})


def test_a_log_gets_a_line_at_the_end_that_has_it_all():
    out = io.StringIO()

    with progress.progress(out) as shown:
        shown.show(job(10, 0), sent=10, total=10)
        shown.show(job(10, 9, failed=1), sent=10, total=10)

    assert out.getvalue() == "10/10 sent, 10/10 classified, 1 failed\n"


def test_a_log_gets_a_line_every_few_seconds(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    out = io.StringIO()

    with progress.progress(out) as shown:
        for done in range(3):
            shown.show(job(3, done))

    assert out.getvalue().splitlines() == ["0/3 classified", "1/3 classified", "2/3 classified"]


def test_why_nothing_moves_stands_on_the_line_until_something_does(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    out = io.StringIO()

    with progress.progress(out) as shown:
        shown.wait("Waiting 9 s: The queue is full.")
        shown.show(job(3, 1), sent=2, total=3)
        shown.wait("Waiting 9 s: The queue is full.")
        shown.show(job(3, 2), sent=2, total=3)

    first, _, waits, moves = out.getvalue().splitlines()
    assert first == "Waiting 9 s: The queue is full."
    assert waits == "2/3 sent, 1/3 classified; Waiting 9 s: The queue is full."
    assert "full" not in moves


def test_a_terminal_is_told_why_nothing_moves(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Screen()

    with progress.progress(out) as shown:
        shown.wait("Waiting 9 s: The queue is full.")

    assert "The queue is full." in out.getvalue()


def test_a_terminal_gets_bars(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Screen()

    with progress.progress(out) as shown:
        shown.show(job(10, 4), sent=7, total=10)

    assert "sent" in out.getvalue()
    assert "7/10" in out.getvalue()
    assert "4/10" in out.getvalue()


def test_the_pace_tells_rate_and_time_left(monkeypatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    pace = progress.Pace()

    pace.note(records.Counts(total=1000, queued=900), 1000)
    words = pace.note(records.Counts(total=1000, queued=800), 1000)

    assert words == "10/s, 1:20 left"
