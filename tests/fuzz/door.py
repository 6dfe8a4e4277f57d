"""The decoder's door as the fuzzer sees it: the API's look at the header, then a decoder process, as in earnest."""

import hashlib

from jobs import blobs, errors, pictures
from model import preprocess
from worker import decoders

HOW = preprocess.Preprocess(64, 64)
KNOWN = {None, "empty", "too_large", "unsupported_format", "undecodable", "timed_out"}
MOST_MS = 4000  # 3 s of processor time, on a busy machine


class Door:
    """Decoders on a folder of their own."""

    def __init__(self, folder, count=2):
        self._store = blobs.Folder(folder)
        self._pool = decoders.Decoders(count, HOW, self._store, decoders.Limits(10, 768_000_000))
        self.seen = {}

    def knock(self, datas):
        """Bring pictures; a sentence for each that did what none may do."""
        broken = []
        datas = list({hashlib.sha256(data).hexdigest(): data for data in datas}.items())
        for sha256, data in datas:
            self._count(self._header(data))
            self._store.path(sha256).parent.mkdir(parents=True, exist_ok=True)
            self._store.path(sha256).write_bytes(data)
        pids = self._pool.pids()
        pixels, outcomes = self._pool.decode([sha256 for sha256, _ in datas])
        for (sha256, _), outcome, row in zip(datas, outcomes, pixels, strict=True):
            code = outcome.error and outcome.error.code
            self._count(code)
            if code not in KNOWN or outcome.ms > MOST_MS or (code and row.any()):
                broken.append(f"{sha256}: {code}, {outcome.ms:.0f} ms")
        if self._pool.pids() != pids and "timed_out" not in {o.error and o.error.code for o in outcomes}:
            broken.append("a decoder died")
        for sha256, _ in datas:
            if not any(sha256 in sentence for sentence in broken):
                self._store.path(sha256).unlink()
        return broken

    def _header(self, data):
        try:
            pictures.inspect(data, max_bytes=20_000_000, max_pixels=40_000_000)
        except errors.BadPicture as bad:
            return f"header: {bad.code}"
        return "header: fine"

    def _count(self, what):
        self.seen[what] = self.seen.get(what, 0) + 1

    def close(self):
        """End the decoders."""
        self._pool.close()
