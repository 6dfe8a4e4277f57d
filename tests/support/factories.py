"""Factories for images, jobs, claims and results, and shortcuts to read them back."""

import hashlib
import random

import sqlalchemy as sa

from core import enums
from core.concurrency import blocking_call
from core.db import database, tables
from core.db.queries import api_keys, environments, fair_claims, jobs, models, new_images, workers
from core.db.queries import claims as claim_queries
from tests.support import image_files

MODEL = "sushi-or-sandwich"
MODEL_REF = claim_queries.ModelRef(MODEL, "1", "0" * 64)
ENVIRONMENT = {
    "device": "cpu: EPYC, AVX2",
    "precision": "float32",
    "torch": "2.13.0",
    "decoder": "Pillow 13.0.0, libjpeg-turbo 3.2.0",
    "sortbelt": "0.1.0",
}
IMAGES = tables.Image.__table__
JOBS = tables.Job.__table__
RESULTS = tables.Result.__table__


def make_image(number=0, image_format="PNG", size=(40, 30)):
    """Return a small valid image file, a different one for each number."""
    return image_files.make(image_format, size, (number % 256, number // 256 % 256, number // 65536 % 256))


def create_key(db, name="other", role=enums.Role.SUBMIT):
    """Create an API key; return its id."""
    return db.write(api_keys.create, name, role, api_keys.generate()).id


def make_live(db, model_ref=MODEL_REF):
    """Make a version the live one, as a worker that ships it does at its start."""
    db.write(
        models.register_bundled, {"name": model_ref.name, "version": model_ref.version, "digest": model_ref.digest}
    )


def new_image(name, error=None):
    """Return one image of a submission, as the intake passes it on."""
    return new_images.NewImage(name, hashlib.sha256(name.encode()).hexdigest(), 1234, error)


def incompressible_name(size):
    """Return an image's name with so many bytes in UTF-8 that no database can compress."""
    ideographs = random.Random(size).choices(range(0x4E00, 0x9FA6), k=size // 3)  # noqa: S311 (no secret)
    return "".join(map(chr, ideographs)) + "x" * (size % 3)


def new_job(owner, **fields):
    """Return a new job for the tests' model."""
    return jobs.NewJob(**{"owner": owner, "model": MODEL} | fields)


def create_job(db, owner, *names, **fields):
    """Create a job with images of these names; return its id."""
    return db.write(insert_job, new_job(owner, **fields), [new_image(name) for name in names])


def insert_job(conn, job, images):
    """Insert a job with its images; return its id."""
    return str(jobs.insert_jobs(conn, [(job, images)])[0].id)


def submit_job(intake, job, images):
    """Submit a job through the intake service, and wait until it is created; return its row."""
    return blocking_call.wait(intake.start_job(job, images))


def claim_of_all_keys(conn, worker="me", model=MODEL, limit=100, lease_seconds=30.0, bulk_first=False, **options):
    """Claim a batch as a worker does to which all keys are equal."""
    batch = fair_claims.claim(
        conn,
        worker,
        {model: bulk_first},
        lambda keys, _bulk_first: [fair_claims.Turn(key.id, 1.0, limit) for key in keys],
        limits={model: limit},
        lease_seconds=lease_seconds,
        **options,
    )
    return sorted(batch.claims, key=lambda claim: claim.image_id)


def claim_images(db, limit=100, worker="me", begin=True, **options):
    """Claim images as a worker does, and begin the attempt of those that were lost before."""
    claimed_images = db.write(claim_of_all_keys, worker, limit=limit, **options)
    needs_begin = begin and any(claim.was_lost for claim in claimed_images)
    return (
        sorted(db.write(claim_queries.begin_attempt, claimed_images), key=lambda claim: claim.image_id)
        if needs_begin
        else claimed_images
    )


def outcome(claim, **fields):
    """Return a successful outcome of a claim."""
    scores = {"sushi": 0.9, "sandwich": 0.1}
    return claim_queries.Outcome(
        claim, **{"label": "sushi", "confidence": 0.9, "scores": scores, "familiarity": 0.5} | fields
    )


def complete_claims(db, held_claims, environment=None, **fields):
    """Complete claims with a label; return the number of results written."""
    outcomes = [outcome(claim, **fields) for claim in held_claims]
    return len(db.write(claim_queries.finish, outcomes, MODEL_REF, environment).results)


def create_environment(db, **fields):
    """Register an environment as a worker does; return its id."""
    return db.write(environments.get_or_create_id, environments.Environment(**ENVIRONMENT | fields))


def get_job(db, job_id):
    """Return a job row as its owner sees it."""
    return db.read(jobs.get, job_id, None)


def job_counts(db, job_id):
    """Return the non-zero counts of a job."""
    row = get_job(db, job_id)
    ended_counts = {name: getattr(row, name) for name in ("done", "failed", "cancelled", "expired")}
    queued = row.total - row.running - sum(ended_counts.values())
    return {name: n for name, n in {"queued": queued, "running": row.running, **ended_counts}.items() if n}


def image_states(db):
    """Return (status, attempt) of all images by name."""
    rows = db.read(lambda conn: conn.execute(sa.select(IMAGES.c.name, IMAGES.c.status, IMAGES.c.attempt)).all())
    return {name: (status, attempt) for name, status, attempt in rows}


def result_names(db):
    """Return the image name of every result, sorted."""
    query = sa.select(IMAGES.c.name).join(RESULTS, RESULTS.c.image_id == IMAGES.c.id).order_by(IMAGES.c.name)
    return list(db.read(lambda conn: conn.execute(query).scalars().all()))


def count_blobs(blob_store):
    """Return the number of blobs in a local store."""
    return len(list(blob_store.root.glob("??/*")))


def expire_leases(db):
    """Let every lease expire."""
    statement = (
        sa.update(IMAGES).where(IMAGES.c.status == "running").values(lease_until=sa.text("'2020-01-01 00:00:00'"))
    )
    db.write(lambda conn: conn.execute(statement))


def fill_results(url, rows):
    """Create a job with `rows` results in a database."""
    db = database.Database(url)
    owner = db.read(lambda conn: conn.execute(sa.select(tables.ApiKey.__table__.c.id)).scalars().first())
    create_job(db, owner, *map(str, range(rows)))
    while claims := claim_images(db, limit=2000):
        complete_claims(db, claims)
    db.close()


def register_immortal_worker(url):
    """Register a worker whose heartbeat and progress never get old."""
    db = database.Database(url)
    db.write(workers.register, "immortal", MODEL_REF, "cpu")
    far_future = sa.text("'2999-01-01 00:00:00'")
    statement = sa.update(tables.Worker.__table__).values(heartbeat_at=far_future, last_progress_at=far_future)
    db.write(lambda conn: conn.execute(statement))
    db.close()
