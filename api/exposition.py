"""The exposition: all metrics as one text, read off the database: the same whichever process is asked."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import prometheus_client
from prometheus_client import core

from api import meter
from jobs import database, outlook, tables, version
from jobs.store import gauges, tallies

Samples = Mapping[tuple[str, ...], float]
FRESH_SECONDS = 2.0  # so long one look at the database serves all who ask
SIZES = [f"{size:g}" for size in tallies.SIZES]
BOUNDS = [f"{bound:g}" for bound in meter.BOUNDS]
FINISHED = ("model", "status", "error", "cached")
OURS = ("bad_output", "blob_corrupt", "blob_missing", "worker_lost")
"""Errors that no picture should bring about; told from the start, for a rise is only seen where there was a 0."""


class Exposition:
    """The text as it was last made, and all of it anew if that is a while ago."""

    def __init__(self, db: database.Database, sight: outlook.Outlook, counter: meter.Meter) -> None:
        self._db = db
        self._outlook = sight
        self._meter = counter
        self._making = threading.Lock()
        self._made_at = float("-inf")
        self._text = b""

    def text(self) -> bytes:
        """The text; who comes while it is made waits for it."""
        with self._making:
            if time.monotonic() - self._made_at > FRESH_SECONDS:
                self._meter.flush()
                self._text = prometheus_client.generate_latest(self)
                self._made_at = time.monotonic()
            return self._text

    def collect(self) -> Iterator[core.Metric]:
        """Every family, each with its help."""
        seen = self._db.read(gauges.look)
        forecast = self._outlook.now()
        open_ = sum(seen.open.values())
        rate = forecast.rate if forecast else 0.0
        yield _gauge("sortbelt_info", "The version of the server that answers.", ["version"], {(version.VERSION,): 1})
        yield from _queue(seen)
        yield _gauge("sortbelt_images_open", "Images without a result, queued and running: scale by this.", [], open_)
        yield _gauge("sortbelt_images_per_second", "Images finished a second, in the last minute.", [], rate)
        drain = open_ / rate if rate else float("inf") if open_ else 0.0
        yield _gauge("sortbelt_drain_seconds", "In how long all that is open is done, at that rate.", [], drain)
        yield from _workers(seen)
        yield _gauge("sortbelt_webhooks_pending", "Webhooks still to be delivered.", [], seen.webhooks_pending)
        overdue = "Webhooks due for so long that no courier can be at work."
        yield _gauge("sortbelt_webhooks_overdue", overdue, [], seen.webhooks_overdue)
        overdue = "Scans of sources due for so long that no courier can be at work."
        yield _gauge("sortbelt_scans_overdue", overdue, [], seen.scans_overdue)
        finished = _of("images", seen.totals)
        models = {key[0] for key in finished} | {model for model, _ in seen.open}
        finished = {(model, "failed", code, "false"): 0.0 for model in sorted(models) for code in OURS} | finished
        yield _counter("sortbelt_images_finished", "Images that have got their result.", FINISHED, finished)
        sizes, images = _of("batches", seen.totals), _of("batch_images", seen.totals)
        about = "Images in each batch that was worked off, by the reason why it was not larger."
        yield _histogram("sortbelt_batch_images", about, ["reason"], SIZES, sizes, images)
        answers = _of("http", seen.totals)
        yield _counter("sortbelt_http_requests", "Requests answered.", ["method", "route", "status"], answers)
        took, sums = _of("http_bucket", seen.totals), _of("http_seconds", seen.totals)
        about = "How long views took, without the coming of the body and without long polls."
        yield _histogram("sortbelt_http_request_seconds", about, ["method", "route"], BOUNDS, took, sums)


def _queue(seen: gauges.Gauges) -> Iterator[core.Metric]:
    labels = ("status", "priority", "model")
    states: dict[tuple[str, ...], float] = {}
    for (model, priority), open_ in seen.open.items():
        running = min(seen.running.get((model, priority), 0), open_)
        name = tables.Priority(priority).name.lower()
        states["queued", name, model], states["running", name, model] = open_ - running, running
    yield _gauge("sortbelt_images", "Images without a result.", labels, states)
    ages: Samples = {(tables.Priority(p).name.lower(), model): age for (model, p), age in seen.oldest_seconds.items()}
    about = "The age of the job whose image is served next; a job that grows is older than its images."
    yield _gauge("sortbelt_oldest_queued_seconds", about, labels[1:], ages)


def _workers(seen: gauges.Gauges) -> Iterator[core.Metric]:
    states: dict[tuple[str, ...], float] = dict.fromkeys([("working",), ("still",)], 0)
    serving: dict[tuple[str, ...], float] = {}
    sizes: dict[tuple[str, ...], float] = {}
    for worker in seen.workers:
        states["working" if worker.gets_on else "still",] += 1
        for served in worker.serves.items():
            serving[served] = serving.get(served, 0) + 1
        sizes |= {(worker.id, model): size for model, size in (worker.batch_sizes or {}).items()}
    about = "Workers that show life: those that get on or have nothing to do, and those that do not get on."
    yield _gauge("sortbelt_workers", about, ["state"], states)
    yield _gauge("sortbelt_workers_serving", "Workers that serve a version.", ["model", "version"], serving)
    about = "How many images the next batch of a worker may have, as it has learned."
    yield _gauge("sortbelt_batch_size", about, ["worker", "model"], sizes)


def _of(name: str, totals: Mapping[tallies.Key, float]) -> dict[tuple[str, ...], float]:
    return {tuple(labels): value for (what, *labels), value in sorted(totals.items()) if what == name}


def _gauge(name: str, about: str, labels: Sequence[str], samples: Samples | float) -> core.Metric:
    family = core.GaugeMetricFamily(name, about, labels=labels)
    for values, value in (samples if isinstance(samples, Mapping) else {(): samples}).items():
        family.add_metric(values, value)
    return family


def _counter(name: str, about: str, labels: Sequence[str], samples: Samples) -> core.Metric:
    family = core.CounterMetricFamily(name, about, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def _histogram(
    name: str, about: str, labels: Sequence[str], bounds: Iterable[str], counts: Samples, sums: Samples
) -> core.Metric:
    """Buckets hold what is up to their bound, as Prometheus wants it: each with all below it."""
    family = core.HistogramMetricFamily(name, about, labels=labels)
    wanted = [bound for bound in bounds if bound != "inf"]
    for values, total in sums.items():
        below, buckets = 0.0, []
        for bound in [*wanted, "inf"]:
            below += counts.get((*values, bound), 0)
            buckets.append(("+Inf" if bound == "inf" else bound, below))
        family.add_metric(values, buckets, total)
    return family
