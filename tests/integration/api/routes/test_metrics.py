import itertools

import pytest
import sqlalchemy as sa
from prometheus_client import parser

from api import app as apps
from api.services import metrics_exporter
from core.db import clock
from core.db.queries import counters as counter_queries
from core.db.queries import workers
from tests.integration.api.conftest import run_api_server
from tests.support import api_client, factories


@pytest.fixture(autouse=True)
def _uncached_metrics(monkeypatch):
    """Render metrics anew at every request."""
    monkeypatch.setattr(metrics_exporter, "CACHE_SECONDS", 0.0)
    monkeypatch.setattr("core.intake.eta_cache.MAX_AGE_SECONDS", 0.0)


def read(response):
    """Return every sample: {(name, its labels): value}."""
    assert response.status_code == 200, response.text
    assert response.mimetype == "text/plain"
    families = parser.text_string_to_metric_families(response.text)
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def by(samples, name, *labels):
    """Return the samples of a name by these labels, summed over the others."""
    matches = {}
    for (this, *pairs), value in samples.items():
        if this == name:
            key = tuple(dict(pairs).get(label) for label in labels)
            matches[key] = matches.get(key, 0) + value
    return matches


def test_metrics_need_a_key_of_any_role(anonymous_client, read_client):
    """They show the load of the server, which is not public."""
    api_client.assert_problem(anonymous_client.get("/metrics"), 401, "no_key")
    assert ("sortbelt_images_open",) in read(read_client.get("/metrics"))


def test_the_queue_is_exported(db, submit_client, read_client, finished_job):
    """By status, priority and model; the number to scale by, and finished images."""
    submit_client.post("/v1/jobs", images=[(f"{n}.png", factories.make_image(n + 10)) for n in range(5)])
    factories.claim_images(db, limit=2)
    samples = read(read_client.get("/metrics"))
    assert by(samples, "sortbelt_images", "status", "model") == {
        ("queued", factories.MODEL): 3,
        ("running", factories.MODEL): 2,
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


def test_a_queue_without_workers_is_never_drained(db, submit_client, read_client):
    """Infinite, so that an alert above any bound fires; and 0 when nothing is open."""
    assert read(read_client.get("/metrics"))["sortbelt_drain_seconds",] == 0
    job = submit_client.post("/v1/jobs", images=[("a.png", factories.make_image())]).json
    assert read(read_client.get("/metrics"))["sortbelt_drain_seconds",] == float("inf")
    submit_client.post(f"/v1/jobs/{job['id']}/cancel")
    assert read(read_client.get("/metrics"))["sortbelt_drain_seconds",] == 0


def test_workers_are_exported_by_progress(db, read_client):
    """Without those that send no heartbeat."""
    for name in ("w1", "w2", "silent"):
        db.write(workers.register, name, factories.MODEL_REF, "cpu")
    values = {
        "w2": {"last_progress_at": clock.now(-60), "started_at": clock.now(-60)},
        "silent": {"heartbeat_at": clock.now(-60)},
    }
    for name, changed in values.items():
        change = sa.update(workers.WORKERS).where(workers.WORKERS.c.id == name).values(changed)
        db.write(lambda c, change=change: c.execute(change))
    samples = read(read_client.get("/metrics"))
    assert by(samples, "sortbelt_workers", "state") == {("working",): 1, ("stalled",): 1}
    assert by(samples, "sortbelt_workers_serving", "version") == {(factories.MODEL_REF.version,): 2}


def test_batch_sizes_of_workers_are_exported(db, read_client):
    """As of their last heartbeat; absent for a worker that has measured none."""
    for name in ("w1", "w2", "new"):
        db.write(workers.register, name, factories.MODEL_REF, "cpu")
    db.write(workers.heartbeat, "w1", 3, batch_sizes={"a": 64, "b": 8})
    db.write(workers.heartbeat, "w1", 0)
    db.write(workers.heartbeat, "w2", 3, batch_sizes={"a": 1024})
    payload = by(read(read_client.get("/metrics")), "sortbelt_batch_size", "worker", "model")
    assert payload == {("w1", "a"): 64, ("w1", "b"): 8, ("w2", "a"): 1024}


def test_batches_are_a_histogram_by_reason(db, read_client):
    """Cumulative, as Prometheus requires."""
    for reason, size in (("full", 64), ("full", 64), ("linger", 3)):
        db.write(counter_queries.count_batch, counter_queries.FlushReason(reason), size)
    samples = read(read_client.get("/metrics"))
    assert by(samples, "sortbelt_batch_images_count", "reason") == {("full",): 2, ("linger",): 1}
    assert by(samples, "sortbelt_batch_images_sum", "reason") == {("full",): 128, ("linger",): 3}
    buckets = by(samples, "sortbelt_batch_images_bucket", "reason", "le")
    assert (buckets["full", "32"], buckets["full", "64"], buckets["full", "+Inf"]) == (0, 2, 2)
    assert (buckets["linger", "2"], buckets["linger", "4"], buckets["linger", "+Inf"]) == (0, 1, 1)


def test_requests_of_all_processes_are_counted_and_outlive_them(app, app_settings, submit_client, read_client):
    """Two processes and a restart: each exports the requests of all, by route, never by URL."""
    other = apps.create_app(app_settings)
    mixed = api_client.ApiClient(other.test_client(), submit_client.key)
    for id_ in ("0197e6a4-0000-7000-8000-000000000000", "0197e6a4-0000-7000-8000-000000000001"):
        assert submit_client.get(f"/v1/jobs/{id_}").status_code == 404
    mixed.get("/v1/jobs/0197e6a4-0000-7000-8000-000000000002")
    mixed.get("/wp-login.php")
    mixed.request("BREW", "/livez")
    other.extensions["sortbelt"].request_metrics.close()
    samples = read(read_client.get("/metrics"))
    requests = by(samples, "sortbelt_http_requests_total", "method", "route", "status")
    assert requests["GET", "/v1/jobs/{job_id}", "404"] == 3
    assert requests["GET", "none", "404"] == 1
    assert requests["OTHER", "none", "405"] == 1
    assert by(samples, "sortbelt_http_request_duration_seconds_count", "route")["/v1/jobs/{job_id}",] == 3
    other.extensions["sortbelt"].db.close()
    again = apps.create_app(app_settings)
    later = read(api_client.ApiClient(again.test_client(), read_client.key).get("/metrics"))
    again.extensions["sortbelt"].db.close()
    counters = [key for key in samples if key[0].endswith(("_total", "_count", "_bucket"))]
    assert all(later[key] >= samples[key] for key in counters)


def test_concurrent_scrapes_share_one_query(app, read_client, monkeypatch):
    """Within the time of the cache."""
    monkeypatch.setattr(metrics_exporter, "CACHE_SECONDS", 60.0)
    reads = itertools.count()
    look = metrics_exporter.gauges.collect
    monkeypatch.setattr(metrics_exporter.gauges, "collect", lambda c: (next(reads), look(c))[1])
    for _ in range(3):
        read_client.get("/metrics")
    assert next(reads) == 1


def test_counts_are_kept_while_the_database_is_down(app, db, read_client, submit_client):
    """And added at the next flush."""
    meter = app.extensions["sortbelt"].request_metrics
    submit_client.get("/v1/jobs")
    db.write(lambda c: c.execute(sa.text("ALTER TABLE counters RENAME TO gone")))
    meter.flush()
    db.write(lambda c: c.execute(sa.text("ALTER TABLE gone RENAME TO counters")))
    assert by(read(read_client.get("/metrics")), "sortbelt_http_requests_total", "route")["/v1/jobs",] == 1


def test_the_real_server_flushes_counts_by_itself(tmp_path, redis_url, database_template):
    """Within seconds, without a scrape; also requests that the ASGI adapter rejects."""
    with run_api_server(tmp_path, database_template, redis_url) as server:
        server.send_raw(server.request_head(Content_Type="image/png", Content_Length=10), b"no image!!")
        server.send_raw(server.request_head(Content_Type="image/png", Content_Length=1000), b"half", half_close=True)
    from core.db import database

    db = database.Database(f"sqlite:///{tmp_path}/sortbelt.db")
    kept = {key for key in db.read(counter_queries.totals) if key[0] == "http"}
    db.close()
    assert {("http", "POST", "/v1/jobs", "415"), ("http", "POST", "none", "400")} <= kept
