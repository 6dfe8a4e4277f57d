"""A queue of files: the whole worker works off a SQLite database that has been filled for it; no API, no Redis."""

import hashlib
import time
from pathlib import Path

from jobs import blobs, database, settings, tables
from jobs.store import incoming, invariants, jobs, keys
from migrations.__main__ import upgrade
from worker import station

TOGETHER = 1000  # images of one job
STILL_SECONDS = 60.0


def drain(files: list[Path], work: Path, *, bundle: Path, device: str, decoders: int, batch_size: int | str) -> float:
    """Images a second from the first claim to the last commit.

    Raises:
        TimeoutError: it stands still.
    """
    given = {"database_url": f"sqlite:///{work}/queue.db", "blobs": f"{work}/blobs", "device": device}
    given |= {"decoders": str(decoders), "batch_size": str(batch_size), "idle_ring_seconds": "3600"}
    given |= {"model": bundle.name, "bundles": str(bundle.parent)}
    wanted = settings.read({f"SORTBELT_{name.upper()}": value for name, value in given.items()})
    db = database.Database(wanted.database_url)
    db.write(upgrade)
    _order(db, blobs.open_blobs(wanted.blobs), files, wanted.model)
    one = station.Station(wanted)
    try:
        started = progress = time.monotonic()
        left = len(files)
        while left:
            one.drain.run()
            now = db.read(invariants.open_images)
            progress, left = (time.monotonic() if now < left else progress), now
            if time.monotonic() - progress > STILL_SECONDS:
                raise TimeoutError(f"{left} pictures are left, and nothing goes on.")
        return len(files) / (time.monotonic() - started)
    finally:
        one.close()
        db.close()


def _order(db: database.Database, store: blobs.Blobs, files: list[Path], model: str) -> None:
    owner = db.write(keys.create, "bench", tables.Role.SUBMIT, keys.make()).id
    for start in range(0, len(files), TOGETHER):
        images = []
        for path in files[start : start + TOGETHER]:
            data = path.read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            store.put([(sha256, data)])
            images.append(incoming.NewImage(path.name, sha256, len(data)))
        db.write(jobs.create, jobs.NewJob(owner, model), images)
