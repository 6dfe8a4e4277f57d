"""The code under fuzzing: the API's header check, then a decoder process, as in production."""

import hashlib

from core import errors
from core.intake import header_check
from core.storage import local
from model.preprocessing import decode
from tests.support import decoder_processes
from worker.decoding import decoder_pool, decoder_process

PREPROCESS = decode.Preprocess(64, 64)
LIMIT_CODES = {"timed_out", "cpu_time_exceeded"}
KNOWN_CODES = LIMIT_CODES | {None, "empty", "too_large", "unsupported_format", "truncated", "undecodable"}
TIMEOUT_SECONDS = 60.0
# Wall time. The CPU limit of 3 s must end a decode long before the timeout, even on a machine ten times overloaded.
MAX_MS = 40_000


class DecoderTarget:
    """Two decoder processes on a blob store in a folder."""

    def __init__(self, folder, count=2):
        self._store = local.LocalBlobStore(folder)
        self._pool = decoder_pool.DecoderPool(
            count, PREPROCESS, self._store, decoder_process.DecodeLimits(TIMEOUT_SECONDS, 768_000_000)
        )
        self.outcome_counts = {}

    def feed(self, images):
        """Decode images; return a message for each that broke a rule."""
        failures = []
        images = list({hashlib.sha256(data).hexdigest(): data for data in images}.items())
        for sha256, data in images:
            self._count(self._check_header(data))
            self._store.path(sha256).parent.mkdir(parents=True, exist_ok=True)
            self._store.path(sha256).write_bytes(data)
        pids = decoder_processes.pids(self._pool)
        pixels, outcomes = self._pool.submit([sha256 for sha256, _ in images], PREPROCESS).result()
        for (sha256, _), outcome, row in zip(images, outcomes, pixels, strict=True):
            code = outcome.error and outcome.error.code
            self._count(code)
            if code not in KNOWN_CODES or outcome.ms > MAX_MS or (code and row.any()):
                failures.append(f"{sha256}: {code}, {outcome.ms:.0f} ms")
        are_replaced = decoder_processes.pids(self._pool) != pids
        if are_replaced and not LIMIT_CODES & {o.error and o.error.code for o in outcomes}:
            failures.append("a decoder died")
        for sha256, _ in images:
            if not any(sha256 in message for message in failures):
                self._store.path(sha256).unlink()
        return failures

    def _check_header(self, data):
        try:
            header_check.check_header(data, max_bytes=20_000_000, max_pixels=40_000_000)
        except errors.ImageFailed as error:
            return f"header: {error.code}"
        return "header: ok"

    def _count(self, outcome):
        self.outcome_counts[outcome] = self.outcome_counts.get(outcome, 0) + 1

    def close(self):
        """Stop the decoder processes."""
        self._pool.close()
