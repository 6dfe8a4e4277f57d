"""Pictures, orders and claims for tests that need some."""

import hashlib
import io

import sqlalchemy as sa
from PIL import Image

from jobs import database, tables
from jobs.store import environments, incoming, jobs, models, work, workers

MODEL = "sushi-or-sandwich"
MAKER = work.Maker(MODEL, "1", "0" * 64)
WHERE = {
    "device": "cpu: EPYC, AVX2",
    "precision": "float32",
    "torch": "2.13.0",
    "decoder": "Pillow 13.0.0, libjpeg-turbo 3.2.0",
    "sortbelt": "0.1.0",
}
IMAGES = tables.Image.__table__
JOBS = tables.Job.__table__
RESULTS = tables.Result.__table__


def picture(number=0, form="PNG", size=(40, 30)):
    """A small good picture as bytes; another number is another picture."""
    file = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256 % 256, number // 65536 % 256)).save(file, form)
    return file.getvalue()


def live(db, maker=MAKER):
    """Make a version the live one, as a worker that comes with it does."""
    db.write(models.settle, {"name": maker.name, "version": maker.version, "digest": maker.digest})


def image(name, error=None):
    """One picture of an order, as the intake describes it."""
    return incoming.NewImage(name, hashlib.sha256(name.encode()).hexdigest(), 1234, error)


def order(owner, **fields):
    """An order for the model of the tests."""
    return jobs.NewJob(**{"owner": owner, "model": MODEL} | fields)


def job(db, owner, *names, **fields):
    """A job with images of these names; its id."""
    return db.write(jobs.create, order(owner, **fields), [image(name) for name in names])


def claim(db, limit=100, worker="me", lease_seconds=30.0, start=True, **options):
    """Claim as a worker does, and start what was lost before."""
    claims = db.write(work.claim, worker, MODEL, limit=limit, lease_seconds=lease_seconds, **options)
    again = start and any(claim.again for claim in claims)
    return sorted(db.write(work.start, claims), key=lambda claim: claim.image_id) if again else claims


def fate(claim, **fields):
    """A good fate of a claim."""
    return work.Fate(claim, **{"label": "sushi", "confidence": 0.9, "scores": {"sushi": 0.9, "sandwich": 0.1}} | fields)


def finish(db, claims, environment=None, **fields):
    """Finish claims with a label, in an environment; how many results were written."""
    return db.write(work.finish, [fate(claim, **fields) for claim in claims], MAKER, environment)


def environment(db, **fields):
    """The number of an environment, entered as a worker does."""
    return db.write(environments.enter, environments.Environment(**WHERE | fields))


def view(db, job_id):
    """A job as its owner sees it."""
    return db.read(jobs.job, job_id, None)


def counts(db, job_id):
    """The counts of a job, which must sum to its total."""
    row = view(db, job_id)
    ended = {name: getattr(row, name) for name in ("done", "failed", "cancelled", "expired")}
    queued = row.total - row.running - sum(ended.values())
    return {name: n for name, n in {"queued": queued, "running": row.running, **ended}.items() if n}


def images(db):
    """All images by name: status and attempt."""
    rows = db.read(lambda c: c.execute(sa.select(IMAGES.c.name, IMAGES.c.status, IMAGES.c.attempt)).all())
    return {name: (status, attempt) for name, status, attempt in rows}


def results(db):
    """The names of the images that have a result, sorted, one for each result."""
    query = sa.select(IMAGES.c.name).join(RESULTS, RESULTS.c.image_id == IMAGES.c.id).order_by(IMAGES.c.name)
    return list(db.read(lambda c: c.execute(query).scalars().all()))


def let_leases_end(db):
    """Set every lease into the past, as if time had gone by."""
    past = sa.update(IMAGES).where(IMAGES.c.status == "running").values(lease_until=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(past))


def fill(url, rows):
    """Put a job with so many results into a database, all at once."""
    db = database.Database(url)
    owner = db.read(lambda c: c.execute(sa.select(tables.ApiKey.__table__.c.id)).scalars().first())
    job(db, owner, *map(str, range(rows)))
    while claims := claim(db, limit=2000):
        finish(db, claims)
    db.close()


def immortal_worker(url):
    """Enter a worker that shows life, and gets on, for ever."""
    db = database.Database(url)
    db.write(workers.enter, "immortal", MAKER, "cpu")
    far = sa.text("'2999-01-01 00:00:00'")
    for_ever = sa.update(tables.Worker.__table__).values(seen_at=far, progress_at=far)
    db.write(lambda c: c.execute(for_ever))
    db.close()
