"""Fakes that stand in for the pipeline's collaborators."""

import concurrent.futures
import threading

from core import errors
from core.db.queries import claims as claim_queries
from model.preprocessing import decode
from worker.models import loaded_model


class FakeWakeupSender:
    """Count wake-ups instead of sending them."""

    def __init__(self):
        self.sent = 0

    def send(self):
        """Count one."""
        self.sent += 1


class FakeJobEvents:
    """Drop events."""

    def publish(self, job_ids, notices=()):
        """Drop them."""


class UnreliableDatabase:
    """The real database, unavailable while `is_away` is set."""

    def __init__(self, db):
        self.db = db
        self.is_away = threading.Event()
        self.refused = 0

    def write(self, query, *args, **kwargs):
        """Write, unless it is away."""
        self._check()
        return self.db.write(query, *args, **kwargs)

    def read(self, query, *args, **kwargs):
        """Read, unless it is away."""
        self._check()
        return self.db.read(query, *args, **kwargs)

    def _check(self):
        if self.is_away.is_set():
            self.refused += 1
            raise errors.DatabaseUnavailable("Away.")


class ObservedClassifier:
    """A real batch classifier that first calls `before` with the number of the batch."""

    def __init__(self, classifier, before=lambda _: None):
        self.classifier = classifier
        self.before = before
        self.batch_sizes = []

    @property
    def device_capacity(self):
        """Return the real one's."""
        return self.classifier.device_capacity

    def classify(self, claims, pixels, decode_outcomes):
        """Classify as the real one does."""
        self.batch_sizes.append(len(claims))
        self.before(len(self.batch_sizes))
        return self.classifier.classify(claims, pixels, decode_outcomes)


class FakeClassifier:
    """A batch classifier that gives every image the same label."""

    device_capacity = 10**9

    def __init__(self, label, before=lambda: None):
        self.label = label
        self.before = before
        self.batches = []
        """The number of images, and their height, of each batch."""

    def classify(self, claims, pixels, _decode_outcomes):
        """Return one outcome for each claim."""
        self.batches.append((len(claims), pixels.shape[1]))
        self.before()
        return [claim_queries.Outcome(claim, label=self.label, confidence=1.0, scores={}) for claim in claims]


def fake_model(name, version="1", size=24, before=lambda: None):
    """Return a loaded version that labels every image by its own name and version."""
    classifier = FakeClassifier(f"{name}@{version}", before)
    model_ref = claim_queries.ModelRef(name, version, "0" * 64)
    return loaded_model.LoadedModel(model_ref, classifier, decode.Preprocess(size, size))


class FakeModelManager:
    """A model manager that serves the versions in `loaded`, by name; those in `away` cannot be fetched."""

    def __init__(self, *loaded):
        self.loaded = {each.model_ref.name: each for each in loaded}
        self.away = set()

    def model_names(self):
        """Return their names."""
        return sorted(self.loaded)

    def get(self, name):
        """Return the version of a name."""
        if name in self.away:
            raise errors.BlobsUnavailable("Away.")
        return self.loaded[name]


class FakeShadowRunner:
    """Record the batches that are offered."""

    def __init__(self, before=lambda: None):
        self.before = before
        self.offered = []

    def offer(self, batch):
        """Record one."""
        self.before()
        self.offered.append(batch)


class PoolWithSlowBatch:
    """A decoder pool whose first batch is decoded, but not done until the test says so."""

    def __init__(self):
        self.pool = None
        self.last_progress_at = 0.0
        self.slow = None
        self.urgent = []
        """Whether each of the other batches was urgent."""
        self.go = threading.Event()

    def wrap(self, pool):
        """Stand in for a real pool."""
        self.pool, self.capacity = pool, pool.capacity
        return self

    def submit(self, *arguments):
        """Submit a batch; keep the first one from being done."""
        future = self.pool.submit(*arguments)
        if self.slow is not None:
            self.urgent.append(arguments[-1])
            return future
        self.slow = concurrent.futures.Future()
        threading.Thread(target=self._finish_slow, args=(future,), daemon=True).start()
        return self.slow

    def _finish_slow(self, future):
        assert self.go.wait(100)
        self.slow.set_result(future.result())


class HeldDecoderPool:
    """A decoder pool that holds batches back until the test lets them go."""

    def __init__(self):
        self.pool = None
        self.last_progress_at = 0.0
        self.held = []
        self.max_open = 0
        """The largest number of batches that were not decoded at the same time."""

    def wrap(self, pool):
        """Stand in for a real pool."""
        self.pool, self.capacity = pool, pool.capacity
        return self

    def submit(self, *arguments):
        """Hold a batch back."""
        future = concurrent.futures.Future()
        self.held.append((future, arguments))
        self.max_open = max(self.max_open, sum(not held.done() for held, _ in self.held))
        return future

    def let_go(self, index=0):
        """Decode one of the batches held back."""
        future, arguments = self.held.pop(index)
        future.set_result(self.pool.submit(*arguments).result())
