"""Metrics exporter for Prometheus: reads all metrics from the database, so that every process returns the same."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import prometheus_client
from prometheus_client import core

from api.services import request_metrics
from core import enums
from core.db import database
from core.db.queries import counters, gauges
from core.intake.eta_cache import EtaCache
from sortbelt import version

Samples = Mapping[tuple[str, ...], float]
CACHE_SECONDS = 2.0
BATCH_SIZE_BUCKETS = [f"{size:g}" for size in counters.BATCH_SIZE_BUCKETS]
DURATION_BUCKETS = [f"{bound:g}" for bound in request_metrics.BUCKET_BOUNDS]
FINISHED_LABELS = ("model", "status", "error", "cached")
INTERNAL_ERRORS = ("bad_output", "blob_corrupt", "blob_missing", "worker_lost")
"""Errors that no image should cause; exported from the start, because `increase()` needs a 0 to begin with."""


class MetricsExporter:
    """Render all metrics, and cache the text for a moment."""

    def __init__(self, db: database.Database, eta_cache: EtaCache, metrics: request_metrics.RequestMetrics) -> None:
        self._db = db
        self._eta_cache = eta_cache
        self._request_metrics = metrics
        self._render_lock = threading.Lock()
        self._rendered_at = float("-inf")
        self._cached_text = b""

    def render(self) -> bytes:
        """Return the text; concurrent calls wait for one rendering."""
        with self._render_lock:
            if time.monotonic() - self._rendered_at > CACHE_SECONDS:
                self._request_metrics.flush()
                self._cached_text = prometheus_client.generate_latest(self)
                self._rendered_at = time.monotonic()
            return self._cached_text

    def collect(self) -> Iterator[core.Metric]:
        """Yield every metric family."""
        snapshot = self._db.read(gauges.collect)
        estimate = self._eta_cache.get()
        open_images = sum(snapshot.open.values())
        rate = estimate.rate if estimate else 0.0
        yield _gauge("sortbelt_info", "The version of the server.", ["version"], {(version.VERSION,): 1})
        yield from _queue_metrics(snapshot)
        yield _gauge(
            "sortbelt_images_open", "Images without a result, queued and running: scale by this.", [], open_images
        )
        yield _gauge("sortbelt_images_per_second", "Images finished per second, in the last minute.", [], rate)
        drain_seconds = open_images / rate if rate else float("inf") if open_images else 0.0
        yield _gauge("sortbelt_drain_seconds", "The time to finish all open images at that rate.", [], drain_seconds)
        yield from _worker_metrics(snapshot)
        yield _gauge("sortbelt_webhooks_pending", "Webhooks still to be delivered.", [], snapshot.webhooks_pending)
        help_text = "Webhooks due for so long that no dispatcher can be running."
        yield _gauge("sortbelt_webhooks_overdue", help_text, [], snapshot.webhooks_overdue)
        help_text = "Imports from sources due for so long that no dispatcher can be running."
        yield _gauge("sortbelt_scans_overdue", help_text, [], snapshot.scans_overdue)
        finished = _samples_of("images", snapshot.totals)
        models = {key[0] for key in finished} | {model for model, _ in snapshot.open}
        finished = {
            (model, "failed", code, "false"): 0.0 for model in sorted(models) for code in INTERNAL_ERRORS
        } | finished
        yield _counter("sortbelt_images_finished", "Images that have a result.", FINISHED_LABELS, finished)
        sizes, images = _samples_of("batches", snapshot.totals), _samples_of("batch_images", snapshot.totals)
        histogram_help = "Images in each processed batch, by the reason why it was not larger."
        yield _histogram("sortbelt_batch_images", histogram_help, ["reason"], BATCH_SIZE_BUCKETS, sizes, images)
        help_text = "Reviewed results, by how their images were chosen, and whether the model was right."
        labels = ("model", "version", "strategy", "outcome")
        reviews = _samples_of("reviews", snapshot.totals)
        yield _gauge("sortbelt_reviewed_images", help_text, labels, reviews)
        help_text = "Share of right labels among the randomly drawn results that were reviewed and are not bad images."
        yield _gauge("sortbelt_reviewed_accuracy", help_text, labels[:2], _reviewed_accuracy(reviews))
        requests = _samples_of("http", snapshot.totals)
        yield _counter("sortbelt_http_requests", "Requests answered.", ["method", "route", "status"], requests)
        buckets = _samples_of("http_bucket", snapshot.totals)
        duration_sums = _samples_of("http_seconds", snapshot.totals)
        histogram_help = "Duration of views, without the upload of the body and without long polls."
        yield _histogram(
            "sortbelt_http_request_duration_seconds",
            histogram_help,
            ["method", "route"],
            DURATION_BUCKETS,
            buckets,
            duration_sums,
        )


def _queue_metrics(snapshot: gauges.Gauges) -> Iterator[core.Metric]:
    labels = ("status", "priority", "model")
    states: dict[tuple[str, ...], float] = {}
    for (model, priority), open_images in snapshot.open.items():
        running = min(snapshot.running.get((model, priority), 0), open_images)
        priority_name = enums.Priority(priority).name.lower()
        states["queued", priority_name, model], states["running", priority_name, model] = open_images - running, running
    yield _gauge("sortbelt_images", "Images without a result.", labels, states)
    ages: Samples = {
        (enums.Priority(p).name.lower(), model): age for (model, p), age in snapshot.oldest_seconds.items()
    }
    help_text = "The age of the job whose image is processed next; an open job is older than its images."
    yield _gauge("sortbelt_oldest_queued_seconds", help_text, labels[1:], ages)


def _worker_metrics(snapshot: gauges.Gauges) -> Iterator[core.Metric]:
    states: dict[tuple[str, ...], float] = dict.fromkeys([("working",), ("stalled",)], 0)
    serving: dict[tuple[str, ...], float] = {}
    sizes: dict[tuple[str, ...], float] = {}
    for worker in snapshot.workers:
        states["working" if worker.is_progressing else "stalled",] += 1
        for loaded_model in worker.loaded_models.items():
            serving[loaded_model] = serving.get(loaded_model, 0) + 1
        sizes |= {(worker.id, model): size for model, size in (worker.batch_sizes or {}).items()}
    help_text = (
        "Workers with a recent heartbeat: working or idle, or stalled (without progress although images are queued)."
    )
    yield _gauge("sortbelt_workers", help_text, ["state"], states)
    yield _gauge("sortbelt_workers_serving", "Workers that serve a version.", ["model", "version"], serving)
    help_text = "The batch size that a worker has measured to be best."
    yield _gauge("sortbelt_batch_size", help_text, ["worker", "model"], sizes)


def _reviewed_accuracy(reviews: Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    right: dict[tuple[str, ...], float] = {}
    judged: dict[tuple[str, ...], float] = {}
    for (*title, strategy, outcome), count in reviews.items():
        if strategy == enums.Strategy.RANDOM and outcome != enums.Verdict.BAD_IMAGE:
            judged[tuple(title)] = judged.get(tuple(title), 0.0) + count
            right[tuple(title)] = right.get(tuple(title), 0.0) + (count if outcome == "right" else 0.0)
    return {title: right[title] / count for title, count in judged.items() if count}


def _samples_of(series: str, totals: Mapping[counters.CounterKey, float]) -> dict[tuple[str, ...], float]:
    return {tuple(labels): value for (kind, *labels), value in sorted(totals.items()) if kind == series}


def _gauge(name: str, help_text: str, labels: Sequence[str], samples: Samples | float) -> core.Metric:
    family = core.GaugeMetricFamily(name, help_text, labels=labels)
    for values, value in (samples if isinstance(samples, Mapping) else {(): samples}).items():
        family.add_metric(values, value)
    return family


def _counter(name: str, help_text: str, labels: Sequence[str], samples: Samples) -> core.Metric:
    family = core.CounterMetricFamily(name, help_text, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def _histogram(
    name: str, help_text: str, labels: Sequence[str], bounds: Iterable[str], counts: Samples, sums: Samples
) -> core.Metric:
    """Return a histogram; its buckets are cumulative, as Prometheus requires."""
    family = core.HistogramMetricFamily(name, help_text, labels=labels)
    finite_bounds = [bound for bound in bounds if bound != "inf"]
    for values, total in sums.items():
        cumulative, buckets = 0.0, []
        for bound in [*finite_bounds, "inf"]:
            cumulative += counts.get((*values, bound), 0)
            buckets.append(("+Inf" if bound == "inf" else bound, cumulative))
        family.add_metric(values, buckets, total)
    return family
