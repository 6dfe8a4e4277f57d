import itertools

import pytest
import sqlalchemy as sa
from prometheus_client import parser

from api import app as apps
from api import exposition
from jobs import clock
from jobs.store import tallies, workers
from tests.api import asking
from tests.api.conftest import serve
from tests.jobs import making


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """Every look is a new one."""
    monkeypatch.setattr(exposition, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr("jobs.outlook.FRESH_SECONDS", 0.0)


def read(response):
    """Every sample: {(name, its labels): value}."""
    assert response.status_code == 200, response.text
    assert response.mimetype == "text/plain"
    families = parser.text_string_to_metric_families(response.text)
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def by(samples, name, *labels):
    """The samples of a name by these labels, the others summed."""
    found = {}
    for (this, *pairs), value in samples.items():
        if this == name:
            key = tuple(dict(pairs).get(label) for label in labels)
            found[key] = found.get(key, 0) + value
    return found


def test_metrics_want_a_key_and_the_least_one_will_do(app, reader):
    """They tell how much is done here, which is nobody's business outside."""
    asking.problem(asking.Person(app.test_client(), None).get("/metrics"), 401, "no_key")
    assert ("sortbelt_images_open",) in read(reader.get("/metrics"))


def test_the_queue_is_told_as_it_is(db, me, reader, done):
    """By status, priority and model; what to scale by, and what was finished."""
    me.post("/v1/jobs", images=[(f"{n}.png", making.picture(n + 10)) for n in range(5)])
    making.claim(db, limit=2)
    samples = read(reader.get("/metrics"))
    assert by(samples, "sortbelt_images", "status", "model") == {
        ("queued", making.MODEL): 3,
        ("running", making.MODEL): 2,
    }
    assert samples["sortbelt_images_open",] == 5
    finished = by(samples, "sortbelt_images_finished_total", "status", "error")
    assert {key: count for key, count in finished.items() if count} == {
        ("done", ""): 2,
        ("failed", "unsupported_format"): 1,
    }
    assert finished["failed", "worker_lost"] == 0
    assert samples["sortbelt_images_per_second",] > 0
    assert samples["sortbelt_drain_seconds",] == pytest.approx(5 / samples["sortbelt_images_per_second",])
    (age,) = by(samples, "sortbelt_oldest_queued_seconds", "model").values()
    assert 0 <= age < 60


def test_a_queue_that_nobody_works_off_is_never_drained(db, me, reader):
    """Infinite, so that an alert above any bound fires; and 0 when nothing is open."""
    assert read(reader.get("/metrics"))["sortbelt_drain_seconds",] == 0
    job = me.post("/v1/jobs", images=[("a.png", making.picture())]).json
    assert read(reader.get("/metrics"))["sortbelt_drain_seconds",] == float("inf")
    me.post(f"/v1/jobs/{job['id']}/cancel")
    assert read(reader.get("/metrics"))["sortbelt_drain_seconds",] == 0


def test_workers_are_told_by_whether_they_get_on(db, reader):
    """The silent ones are none."""
    for name in ("w1", "w2", "silent"):
        db.write(workers.enter, name, making.MAKER, "cpu")
    values = {
        "w2": {"progress_at": clock.now(-60), "started_at": clock.now(-60)},
        "silent": {"seen_at": clock.now(-60)},
    }
    for name, changed in values.items():
        change = sa.update(workers.WORKERS).where(workers.WORKERS.c.id == name).values(changed)
        db.write(lambda c, change=change: c.execute(change))
    samples = read(reader.get("/metrics"))
    assert by(samples, "sortbelt_workers", "state") == {("working",): 1, ("still",): 1}
    assert by(samples, "sortbelt_workers_serving", "version") == {(making.MAKER.version,): 2}


def test_how_large_the_batches_of_each_worker_may_be_is_told(db, reader):
    """As it was when the worker last showed life; nothing of one that has not said."""
    for name in ("w1", "w2", "new"):
        db.write(workers.enter, name, making.MAKER, "cpu")
    db.write(workers.show_life, "w1", 3, batch_sizes={"a": 64, "b": 8})
    db.write(workers.show_life, "w1", 0)
    db.write(workers.show_life, "w2", 3, batch_sizes={"a": 1024})
    told = by(read(reader.get("/metrics")), "sortbelt_batch_size", "worker", "model")
    assert told == {("w1", "a"): 64, ("w1", "b"): 8, ("w2", "a"): 1024}


def test_batches_are_a_histogram_by_reason(db, reader):
    """Cumulative, as Prometheus has them."""
    for reason, size in (("full", 64), ("full", 64), ("linger", 3)):
        db.write(tallies.add_batch, tallies.Release(reason), size)
    samples = read(reader.get("/metrics"))
    assert by(samples, "sortbelt_batch_images_count", "reason") == {("full",): 2, ("linger",): 1}
    assert by(samples, "sortbelt_batch_images_sum", "reason") == {("full",): 128, ("linger",): 3}
    buckets = by(samples, "sortbelt_batch_images_bucket", "reason", "le")
    assert (buckets["full", "32"], buckets["full", "64"], buckets["full", "+Inf"]) == (0, 2, 2)
    assert (buckets["linger", "2"], buckets["linger", "4"], buckets["linger", "+Inf"]) == (0, 1, 1)


def test_requests_of_every_process_are_in_it_and_outlive_them(app, wanted, me, reader):
    """Two processes and a restart: each tells what all have answered, by route, never by what stood in the URL."""
    other = apps.create_app(wanted)
    beside = asking.Person(other.test_client(), me.key)
    for id_ in ("0197e6a4-0000-7000-8000-000000000000", "0197e6a4-0000-7000-8000-000000000001"):
        assert me.get(f"/v1/jobs/{id_}").status_code == 404
    beside.get("/v1/jobs/0197e6a4-0000-7000-8000-000000000002")
    beside.get("/wp-login.php")
    beside.ask("BREW", "/livez")
    other.extensions["sortbelt"].meter.close()
    samples = read(reader.get("/metrics"))
    requests = by(samples, "sortbelt_http_requests_total", "method", "route", "status")
    assert requests["GET", "/v1/jobs/{job_id}", "404"] == 3
    assert requests["GET", "none", "404"] == 1
    assert requests["OTHER", "none", "405"] == 1
    assert by(samples, "sortbelt_http_request_seconds_count", "route")["/v1/jobs/{job_id}",] == 3
    other.extensions["sortbelt"].db.close()
    again = apps.create_app(wanted)
    later = read(asking.Person(again.test_client(), reader.key).get("/metrics"))
    again.extensions["sortbelt"].db.close()
    counters = [key for key in samples if key[0].endswith(("_total", "_count", "_bucket"))]
    assert all(later[key] >= samples[key] for key in counters)


def test_one_look_serves_all_who_ask_at_the_same_time(app, reader, monkeypatch):
    """A scrape costs no more than the looks of a clock's tick."""
    monkeypatch.setattr(exposition, "FRESH_SECONDS", 60.0)
    looks = itertools.count()
    look = exposition.gauges.look
    monkeypatch.setattr(exposition.gauges, "look", lambda c: (next(looks), look(c))[1])
    for _ in range(3):
        reader.get("/metrics")
    assert next(looks) == 1


def test_what_could_not_be_added_is_added_later(app, db, reader, me):
    """The database was away: the counts wait in the process."""
    meter = app.extensions["sortbelt"].meter
    me.get("/v1/jobs")
    db.write(lambda c: c.execute(sa.text("ALTER TABLE tallies RENAME TO gone")))
    meter.flush()
    db.write(lambda c: c.execute(sa.text("ALTER TABLE gone RENAME TO tallies")))
    assert by(read(reader.get("/metrics")), "sortbelt_http_requests_total", "route")["/v1/jobs",] == 1


def test_the_real_server_counts_by_itself_and_what_its_front_refuses_too(tmp_path, redis_url, template):
    """Without a scrape, within seconds; a body that is cut off never comes to a view."""
    with serve(tmp_path, template, redis_url) as server:
        server.exchange(server.head(Content_Type="image/png", Content_Length=9), b"no picture")
        server.exchange(server.head(Content_Type="image/png", Content_Length=1000), b"half", hang_up=True)
    from jobs import database

    db = database.Database(f"sqlite:///{tmp_path}/sortbelt.db")
    kept = {key for key in db.read(tallies.totals) if key[0] == "http"}
    db.close()
    assert {("http", "POST", "/v1/jobs", "415"), ("http", "POST", "none", "400")} <= kept
