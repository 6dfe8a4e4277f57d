"""How every question that is asked often is answered: by an index, whatever has piled up; on both databases.

SQLite has no statistics (nor has it in production); PostgreSQL has, as autovacuum makes them.
"""

import os
import re
import shutil
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from benchmarks import synthetic_rows
from core import enums
from core.db import database, tables
from core.db.queries import claims as claim_queries
from core.db.queries import (
    eta,
    expired_leases,
    fair_claims,
    gauges,
    images,
    job_diff,
    job_lists,
    jobs,
    known_blobs,
    new_images,
    purge_log,
    quotas,
    results,
    retention,
    retries,
    review_queue,
    reviews,
    url_fetches,
    webhook_deliveries,
)
from tests.support import factories

ROWS = 50_000
FETCHES = 20_000
LARGE = ("images", "results", "jobs", "webhook_deliveries", "reviews", "url_fetches")
BAD_IMAGE = reviews.NewReview(enums.Verdict.BAD_IMAGE)
SOME = results.ResultCursor(ROWS // 2, 0.75)
LATE = datetime.now(UTC) - timedelta(days=1)
HOOK = {"webhook_url": "https://hooks.example/", "public_base_url": "https://sortbelt.example/"}
GIANT = "01800000-0000-7000-8000-000000000000"  # has 15 % of all results


class Filled:
    """A database with finished, queued and running images, and webhook deliveries."""

    def __init__(self, url):
        self.db = database.Database(url)
        self.owner, other = (factories.create_key(self.db, who) for who in "ab")
        synthetic_rows.fill(self.db.engine, ROWS, (self.owner, other))
        self.idle_owner = factories.create_key(self.db, "c")
        self.add_deliveries()
        self.add_reviews()
        self.add_fetches()
        self.old = factories.create_job(self.db, self.owner, *(f"{n}.jpg" for n in range(3)), **HOOK)
        factories.complete_claims(self.db, factories.claim_images(self.db))
        self.open = factories.create_job(
            self.db, self.owner, *(f"{n}.jpg" for n in range(900)), priority=enums.Priority.BULK
        )
        self.claims = factories.claim_images(self.db, limit=40)
        for _ in range(20):
            factories.create_job(self.db, self.owner, "a", "b", expires_in=3600)
        if self.db.dialect_name == "postgresql":
            self.db.write(lambda c: c.exec_driver_sql("ANALYZE"))

    def add_deliveries(self):
        """A long log of webhooks."""
        words = synthetic_rows.DIALECT_SQL[self.db.dialect_name]
        values = {
            "id": words.id("n"),
            "job_id": words.id("n % 5000"),
            "event": "'e' || (n / 5000)",
            "api_key_id": f"(SELECT api_key_id FROM jobs WHERE id = {words.id('n % 5000')})",  # noqa: S608 (written here)
            "url": "'https://x.example/'",
            "status": "'delivered'",
            "attempts": "1",
            "created_at": "CURRENT_TIMESTAMP",
        }
        into = f"INSERT INTO webhook_deliveries ({', '.join(values)})"
        statement = sa.text(f"{into} SELECT {', '.join(values.values())} FROM {words.series}")  # noqa: S608 (as above)
        self.db.write(lambda c: c.execute(statement, {"first": 0, "last": 9999}))

    def add_fetches(self):
        """Very many due fetches of one key, and three of another that are due later."""
        words = synthetic_rows.DIALECT_SQL[self.db.dialect_name]
        values = {
            "id": words.id("n"),
            "image_id": "n + 1",
            "url": "'https://x.example/'",
            "status": "'pending'",
            "attempts": "0",
            "next_attempt_at": "CURRENT_TIMESTAMP",
            "api_key_id": f"(SELECT id FROM api_keys WHERE name = CASE WHEN n < {FETCHES} THEN 'a' ELSE 'c' END)",  # noqa: S608 (as above)
        }
        into = f"INSERT INTO url_fetches ({', '.join(values)})"
        statement = sa.text(f"{into} SELECT {', '.join(values.values())} FROM {words.series}")  # noqa: S608 (as above)
        self.db.write(lambda c: c.execute(statement, {"first": 0, "last": FETCHES + 2}))

    def add_reviews(self):
        """A review of every third image, half of them replaced."""
        values = {
            "image_id": "n * 3 + 1",
            "job_id": "(SELECT job_id FROM results WHERE image_id = n * 3 + 1)",
            "model_name": f"'{synthetic_rows.MODEL}'",
            "model_version": "'1'",
            "verdict": "'label'",
            "label": "'sushi'",
            "reviewed_by": f"'{self.owner}'",
            "reviewed_at": "CURRENT_TIMESTAMP",
            "replaced_at": "CASE n % 2 WHEN 0 THEN CURRENT_TIMESTAMP END",
        }
        words = synthetic_rows.DIALECT_SQL[self.db.dialect_name]
        if self.db.dialect_name == "postgresql":
            values["reviewed_by"] += "::uuid"
        into = f"INSERT INTO reviews ({', '.join(values)})"
        statement = sa.text(f"{into} SELECT {', '.join(values.values())} FROM {words.series}")  # noqa: S608 (as above)
        self.db.write(lambda c: c.execute(statement, {"first": 0, "last": ROWS // 3 - 1}))
        self.reviewed = [7, 13, 19]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled_database(request, tmp_path_factory):
    """A filled database of each kind, for all of this file."""
    if request.param == "sqlite":
        file = tmp_path_factory.mktemp("plans") / "sortbelt.db"
        shutil.copy(request.getfixturevalue("_sqlite_template"), file)
        made = Filled(f"sqlite:///{file}")
        yield made
        made.db.close()
        return
    url, template = request.getfixturevalue("postgres_url"), request.getfixturevalue("_postgres_template")
    name = f"plans_{os.urandom(6).hex()}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as c:
        c.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    made = Filled(url.replace("/postgres?", f"/{name}?"))
    yield made
    made.db.close()
    with engine.connect() as c:
        c.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


def statements(db, action):
    """The statements that an action runs, with their parameters."""
    seen = []

    def note(_conn, _cursor, statement, parameters, _context, _many):
        seen.append((statement, parameters))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    try:
        action()
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", note)
    return seen


def explained(db, statement, parameters):
    """The plan of a statement that was run."""
    explain = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}[db.dialect_name]
    rows = db.read(lambda c: c.exec_driver_sql(explain + statement, parameters).all())
    return "\n".join(str(tuple(row)) for row in rows)


def plans(db, action):
    """The plans of what an action asks of the large tables, in one text."""
    words = ("SELECT", "WITH f", "WITH p", "WITH R", "WITH l", "UPDATE", "DELETE")
    asked = [s for s in statements(db, action) if s[0].lstrip()[:6] in words]
    asked = [(s, p) for s, p in asked if re.search(rf"\b({'|'.join(LARGE)})\b", s)]
    assert asked
    return "\n".join(f"-- {s}\n{explained(db, s, p if not isinstance(p, list) else p[0])}" for s, p in asked)


def read_whole(plan):
    """The large tables that a plan reads from end to end, not by an index."""
    tables_ = "|".join(LARGE)
    return re.findall(rf"Seq Scan on ({tables_})\b|\bSCAN ({tables_})(?! USING)", plan)


def sorts(plan):
    """Whether a plan sorts what it has read."""
    return "TEMP B-TREE FOR ORDER" in plan or "Sort Key" in plan


FEW = {  # these may sort, but only the rows that they have found
    "known blobs",
    "known blobs of many",
    "rescue",
    "finish",
    "release",
    "sweep of deadlines",
    "claim",
    "claim, bulk first",
    "claim, only new",
    "claim webhooks",
    "differences",
    "differences and images of one job",
    "deliveries of a job",
    "deliveries that are pending of a key",
    "deliveries that are pending of all keys",
    "receipts",  # of which there are none: nothing was purged
    "least confident of a label of none",
    "results by since",  # of a page's stretch; PostgreSQL knows how few they are
    "queue of the least confident",  # what its person has leased before
    "queue of the least familiar",
    "queue of random images",
    "results by owner of few",  # results do not know their owner: what such a one has is sorted
}
ORDER = results.ResultOrder


def page(order=ORDER.NEWEST, after=None, **wanted):
    """A page of results; of so few, PostgreSQL would rather sort all than walk over as many as it does of millions."""
    few = {"limit": 50, "max_scanned": ROWS // 25}
    return lambda f: f.db.read(results.list_page, results.ResultFilter(**wanted), after=after, order=order, **few)


def job_page(after=False, **wanted):
    """A page of jobs."""

    def ask(f):
        given = {name: getattr(f, value) if name == "owner" else value for name, value in wanted.items()}
        last = f.db.read(job_lists.list_page, job_lists.JobFilter(**given), limit=50)[-1] if after else None
        place = last and job_lists.JobCursor(last.created_at, str(last.id))
        return f.db.read(job_lists.list_page, job_lists.JobFilter(**given), limit=50, after=place)

    return ask


def review_page(**wanted):
    """A page of reviews."""
    return lambda f: f.db.read(reviews.list_page, reviews.ReviewFilter(**wanted), limit=50)


def queue(strategy):
    """Choose images for review."""

    def ask(f):
        wanted = review_queue.Queue(f.owner, synthetic_rows.MODEL, "1", strategy)
        f.db.read(review_queue.outstanding, wanted, limit=20)
        selection = f.db.read(review_queue.select, wanted, limit=20)
        assert len(f.db.write(review_queue.lease, wanted, [], selection)) == 20

    return few(ask)


def deliveries_page(status, *, owned):
    """A page of webhook deliveries of a status; of half of a log, PostgreSQL would rather read all."""
    wanted = {"limit": 50, "filters": {"status": status}, "max_scanned": 200}
    return lambda f: f.db.read(webhook_deliveries.list_page, f.owner if owned else None, **wanted)


def few(ask):
    """Ask for few rows: of so few in all, PostgreSQL would rather read whole tables."""

    def limited(f):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(review_queue, "DRAWS_PER_ROUND", 50)
            patch.setattr(reviews, "MAX_REVIEWS", 50)
            ask(f)

    return limited


QUESTIONS = {
    "claim": (lambda f: factories.claim_images(f.db, limit=8), "ix_images_queued_of"),
    "claim, bulk first": (lambda f: factories.claim_images(f.db, limit=8, bulk_first=True), "ix_images_queued_of"),
    "claim, only new": (lambda f: factories.claim_images(f.db, limit=8, only_new=True), "ix_images_queued_of"),
    "keys with queued images": (lambda f: f.db.read(fair_claims.queued_keys, factories.MODEL), "ix_images_queued_of"),
    "look whether any waits": (lambda f: f.db.read(claim_queries.has_queued, [factories.MODEL]), "ix_images_queued"),
    "renew": (lambda f: f.db.write(claim_queries.extend_lease, f.claims, lease_seconds=30), "images"),
    "finish": (lambda f: factories.complete_claims(f.db, [f.claims.pop()]), "jobs"),
    "release": (lambda f: f.db.write(claim_queries.release, [f.claims.pop()]), "images"),
    "rescue": (lambda f: f.db.write(expired_leases.requeue, max_attempts=3), "ix_images_running"),
    "end of the leases of dead workers": (
        lambda f: f.db.write(expired_leases.end, ["dead", "also dead"]),
        "ix_images_running",
    ),
    "sweep of deadlines": (lambda f: f.db.write(jobs.expire), "ix_jobs_expiring"),
    "jobs that are ending": (lambda f: f.db.read(jobs.list_ending), "(?s)ix_jobs_open.*ix_jobs_deleting"),
    "queued images to cancel": (lambda f: f.db.read(jobs.queued_ids, f.open, limit=500), "images"),
    "sweep of purges": (lambda f: f.db.write(retention.purge_step, days=36_500), "ix_jobs_full"),
    "receipts": (lambda f: f.db.read(purge_log.list_page, None, limit=50), "ix_jobs_purged"),
    "receipts of one": (lambda f: f.db.read(purge_log.list_page, f.idle_owner, limit=50), "ix_jobs_purged_of"),
    "unused blobs": (lambda f: f.db.read(known_blobs.unreferenced, {"0" * 64, "1" * 64}), "ix_images_digest"),
    "thumbnails without images": (
        lambda f: f.db.read(known_blobs.without_images, {"0" * 64, "1" * 64}),
        "ix_images_digest",
    ),
    "known blobs": (lambda f: f.db.read(known_blobs.find_known, f.owner, {"0" * 64}), "ix_images_digest"),
    "blobs that are referred to": (
        lambda f: f.db.write(known_blobs.lock_stored, {f"{number:064}" for number in range(30)}),
        "ix_images_digest",
    ),
    "known blobs of many": (
        lambda f: f.db.read(known_blobs.find_known, f.owner, {f"{number:064}" for number in range(30)}),
        "ix_images_digest",
    ),
    "what is known of bytes": (
        lambda f: f.db.read(
            new_images.lookup_cached,
            [((f.owner, factories.MODEL), [factories.new_image("x"), factories.new_image("y")])],
        ),
        "ix_images_cached",
    ),
    "what is known of the bytes of many": (
        lambda f: f.db.read(
            new_images.lookup_cached,
            [((f.owner, factories.MODEL), [factories.new_image(f"{number}") for number in range(30)])],
        ),
        "ix_images_cached",
    ),
    "a job by its id": (lambda f: f.db.read(jobs.get, f.open, None), "ix_images_running"),
    "a giant's counts": (lambda f: f.db.read(jobs.get, GIANT, None), "ix_images_running"),
    "names that a job has": (
        lambda f: f.db.read(jobs.get_with_names, f.open, f.owner, ["x"]),
        "uq_images_job_id_name|sqlite_autoindex_images_1",
    ),
    "seal": (lambda f: f.db.write(jobs.seal, f.open, f.owner), "jobs"),
    "retry of": (lambda f: f.db.read(retries.existing_retry, f.old), "ix_jobs_retry_of"),
    "retries that are being copied": (lambda f: f.db.read(retries.list_unfinished), "ix_jobs_unsealed"),
    "images that can be retried": (
        lambda f: f.db.read(lambda c: retries._next_images(c, f.open, "1.jpg", 500)),
        "uq_images_job_id_name|sqlite_autoindex_images_1",
    ),
    "copy images into a retry": (
        lambda f: f.db.write(retries._copy, f.old, f.open, f.owner, [1, 2]),
        "images",
    ),
    "repeat of an order": (
        lambda f: f.db.read(jobs.find_repeated, [factories.new_job(f.owner, idempotency_key="x")]),
        "uq_jobs_owner_idempotency_key|sqlite_autoindex_jobs_2",
    ),
    "an image": (lambda f: f.db.read(images.get, ROWS // 2, f.owner), "images"),
    "a result": (lambda f: f.db.read(results.get, ROWS // 2, f.owner), "results"),
    "results of a job": (page(ORDER.IMAGE, job=GIANT), "ix_results_job_id_image_id"),
    "results of a job, deep": (page(ORDER.IMAGE, SOME, job=GIANT), "ix_results_job_id_image_id"),
    "results": (page(), "results"),
    "results, deep": (page(after=SOME), "results"),
    "results, least confident first": (page(ORDER.CONFIDENCE), "ix_results_confidence"),
    "results, least confident first, deep": (page(ORDER.CONFIDENCE, SOME), "ix_results_confidence"),
    "results, least familiar first": (page(ORDER.FAMILIARITY), "ix_results_familiarity"),
    "results, least familiar first, deep": (page(ORDER.FAMILIARITY, SOME), "ix_results_familiarity"),
    "least familiar of a model": (
        page(ORDER.FAMILIARITY, model=synthetic_rows.MODEL),
        "ix_results_familiarity",
    ),
    "results by job": (page(job=GIANT), "ix_results_job_id_image_id"),
    "results by label of none": (page(label="none such"), "ix_results_label_image_id"),
    "results by label of none, deep": (page(after=SOME, label="none such"), "ix_results_label_image_id"),
    "results by error of none": (page(error="none such"), "ix_results_error_code"),
    "results by model of none": (page(model="none such"), "ix_results_model_image_id"),
    "results by version of none": (page(version="none such"), "ix_results_model_version_image_id"),
    "results by custom_id": (page(custom_id="order-10002"), "ix_images_custom_id"),
    "results by label": (page(label="sushi"), "ix_results_label_image_id"),
    "results by label, deep": (page(after=SOME, label="sushi"), "ix_results_label_image_id"),
    "results by error": (page(error="undecodable"), "ix_results_error_code"),
    "results by model": (page(model=synthetic_rows.MODEL), "ix_results_model_image_id"),
    "results by version": (page(version="1"), "ix_results_model_version_image_id"),
    "results by model and version": (
        page(model=synthetic_rows.MODEL, version="1"),
        "ix_results_model_version_image_id",
    ),
    "results by label and owner": (lambda f: page(label="sushi", owner=f.owner)(f), "ix_results_label_image_id"),
    "least confident of a label": (page(ORDER.CONFIDENCE, label="sushi"), "ix_results_confidence"),
    "least confident of a model, deep": (
        page(ORDER.CONFIDENCE, SOME, model=synthetic_rows.MODEL),
        "ix_results_confidence",
    ),
    "least confident of a label of none": (page(ORDER.CONFIDENCE, label="none such"), "ix_results_label_image_id"),
    "results by status": (page(status="failed"), "results"),
    "results by min_confidence": (page(min_confidence=0.8), "results"),
    "results by max_confidence": (page(max_confidence=0.6), "results"),
    "results by min_familiarity": (page(min_familiarity=0.8), "results"),
    "results by max_familiarity": (page(max_familiarity=0.02), "results"),
    "results by since": (page(since=LATE), "results"),
    "results by until": (page(until=LATE), "results"),
    "results by owner": (lambda f: page(owner=f.owner)(f), "results"),
    "results by owner of few": (lambda f: page(owner=f.idle_owner)(f), "results"),
    "results by name": (page(name="IMG_1"), "results"),
    "results with a review": (page(reviewed=True), "ix_reviews_current_image_id"),
    "results without a review": (page(ORDER.CONFIDENCE, reviewed=False), "ix_reviews_current_image_id"),
    "reviews": (review_page(), "reviews"),
    "reviews of a version": (review_page(model=synthetic_rows.MODEL, version="1"), "reviews"),
    "reviews of a result": (review_page(result=7, history=True), "ix_reviews_image_id_id"),
    "statistics of reviews": (
        few(lambda f: f.db.read(reviews.list_judged, reviews.ReviewFilter(model=synthetic_rows.MODEL, version="1"))),
        "reviews",
    ),
    "queue of the least confident": (queue(enums.Strategy.LEAST_CONFIDENT), "ix_results_confidence"),
    "queue of the least familiar": (queue(enums.Strategy.UNFAMILIAR), "ix_results_familiarity"),
    "queue of random images": (queue(enums.Strategy.RANDOM), "results"),
    "review a result": (
        lambda f: f.db.write(reviews.put, f.reviewed.pop(), None, f.owner, BAD_IMAGE),
        "ix_reviews_image_id_id",
    ),
    "jobs": (job_page(), "ix_jobs_newest"),
    "jobs, deep": (job_page(after=True), "ix_jobs_newest"),
    "jobs by owner": (job_page(owner="idle_owner"), "ix_jobs_newest_of"),
    "jobs by owner, deep": (job_page(after=True, owner="owner"), "ix_jobs_newest"),
    "jobs by model": (job_page(model=synthetic_rows.MODEL), "ix_jobs_newest"),
    "jobs by model, deep": (job_page(after=True, model=synthetic_rows.MODEL), "ix_jobs_newest"),
    "jobs by model of none": (job_page(model="none such"), "ix_jobs_newest_for"),
    "jobs by since": (job_page(since=LATE), "ix_jobs_newest"),
    "jobs by until": (job_page(until=LATE), "ix_jobs_newest"),
    "jobs by until, deep": (job_page(after=True, until=LATE), "ix_jobs_newest"),
    "jobs by owner and time": (job_page(owner="owner", since=LATE), "ix_jobs_newest"),
    "jobs by status": (job_page(status="done"), "ix_jobs_newest"),
    "forecast": (lambda f: f.db.read(eta.estimate_queue), "ix_jobs_open"),
    "what is open of a key": (lambda f: f.db.read(quotas.open_load, f.owner), "ix_jobs_open_of"),
    "what is open of each key": (lambda f: f.db.read(quotas.open_loads), "ix_jobs_open"),
    "look for webhooks": (lambda f: f.db.read(webhook_deliveries.has_due), "ix_deliveries_pending"),
    "claim webhooks": (
        lambda f: f.db.write(webhook_deliveries.claim, limit=1, max_per_owner=8, in_flight={f.owner: 3}),
        "ix_deliveries_pending",
    ),
    "claim fetches": (
        lambda f: f.db.write(url_fetches.claim, limit=3, max_per_owner=3, in_flight={f.owner: 3}),
        "ix_url_fetches_pending_of",
    ),
    "overdue webhooks": (lambda f: f.db.read(webhook_deliveries.count_overdue), "ix_deliveries_pending"),
    "deliveries of a key": (
        lambda f: f.db.read(webhook_deliveries.list_page, f.owner, limit=50, filters={}),
        "webhook_deliveries",
    ),
    **{
        f"deliveries that are {status} of {who}": (deliveries_page(status, owned=owned), index)
        for status, index in (("pending", "ix_deliveries_pending"), ("failed", "webhook_deliveries"))
        for who, owned in (("a key", True), ("all keys", False))
    },
    **{
        f"differences{suffix}": (
            lambda f, unpaired=unpaired: f.db.read(
                job_diff.list_page, GIANT, GIANT, limit=50, include_unpaired=unpaired, max_scanned=500
            ),
            "uq_images_job_id_name|sqlite_autoindex_images_1",
        )
        for suffix, unpaired in (("", False), (" and images of one job", True))
    },
    "deliveries of a job": (
        lambda f: f.db.read(webhook_deliveries.list_page, f.owner, limit=50, filters={"job_id": f.old}),
        "webhook_deliveries",
    ),
}


# These walk the results in their order and leave out what is not asked for: no index has both.
WALKS = {
    *(f"results by {name}" for name in ("status", "since", "until", "name", "owner")),
    *(f"results by {bound}_{value}" for bound in ("min", "max") for value in ("confidence", "familiarity")),
    *("results", "results with a review", "reviews"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_answered_by_an_index(filled_database, name):
    """No large table is read from end to end, and nothing is sorted but the few rows that were found."""
    ask, index = QUESTIONS[name]
    plan = plans(filled_database.db, lambda: ask(filled_database))
    assert re.search(index, plan)
    assert [found for found in read_whole(plan) if not (name in WALKS and found[1] in ("results", "reviews"))] == []
    assert name in FEW or not sorts(plan)


def analysed(db, action):
    """The plan of the last statement of an action, as PostgreSQL carried it out, and how many blocks it looked at."""
    (*_, (statement, parameters)) = statements(db, action)  # before it, where the page must end
    explain = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) " + statement
    plan = db.read(lambda c: "\n".join(c.exec_driver_sql(explain, parameters).scalars()))
    return plan, sum(int(n) for n in re.findall(r"(?:hit|read)=(\d+)", re.search(r"Buffers: .*", plan)[0]))


JOB_BLOCKS = 3  # that a lookup of a job by its id reads
WANTED = (
    {},
    {"job": GIANT},
    {"job": GIANT, "label": "sushi"},
    {"version": "1"},
    {"label": "sushi"},
    {"custom_id": "order-4711"},
)


@pytest.mark.parametrize("order", [ORDER.NEWEST, ORDER.IMAGE])
@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_a_deep_page_reads_only_that_page(filled_database, wanted, order):
    """Counted by PostgreSQL itself: the results of the giant lie together, and before all others.

    Each of the 50 others may have a job of its own, which is looked up.
    """
    if filled_database.db.dialect_name == "sqlite":
        pytest.skip("SQLite does not count")
    _, first = analysed(filled_database.db, lambda: page(order, **wanted)(filled_database))
    for after in (None, results.ResultCursor(ROWS // 10), results.ResultCursor(ROWS // 2)):
        plan, blocks = analysed(filled_database.db, lambda: page(order, after, **wanted)(filled_database))  # noqa: B023 (at once)
        read = [int(n) for n in re.findall(r"actual rows=(\d+)", plan)]
        removed = [int(n) for n in re.findall(r"Rows Removed by \w+(?: \w+)?: (\d+)", plan)]
        assert max([*read, *removed]) <= 1000, plan
        assert blocks <= first + 10 + 50 * JOB_BLOCKS, plan


def test_a_deep_page_of_jobs_before_a_moment_reads_only_that_page(filled_database):
    """It begins at its place, and not at the moment."""
    if filled_database.db.dialect_name == "sqlite":
        pytest.skip("SQLite does not count")
    oldest = filled_database.db.read(lambda c: c.execute(sa.select(sa.func.min(tables.Job.created_at))).scalar())
    place = job_lists.JobCursor(oldest + timedelta(days=1), GIANT)
    one = {"filters": job_lists.JobFilter(until=LATE), "limit": 1}
    _, first = analysed(filled_database.db, lambda: filled_database.db.read(job_lists.list_page, **one))
    plan, blocks = analysed(
        filled_database.db, lambda: filled_database.db.read(job_lists.list_page, **one, after=place)
    )
    assert blocks <= first + 5, plan


@pytest.mark.parametrize("wanted", [{}, {"label": "sushi"}, {"owner": None}])
def test_what_ended_before_a_moment_is_not_looked_for_among_what_came_since(filled_database, wanted):
    """A page begins at a number that came after it, and not at the newest."""
    wanted = {name: value or filled_database.owner for name, value in wanted.items()}
    middle = datetime.now(UTC) - timedelta(days=synthetic_rows.SPREAD_DAYS / 2)
    ran = statements(filled_database.db, lambda: page(ORDER.NEWEST, until=middle, **wanted)(filled_database))
    statement, parameters = ran[-1]
    values = parameters.values() if isinstance(parameters, dict) else parameters
    (number, *_) = [n for n in values if isinstance(n, int) and ROWS // 2 < n < ROWS * 0.51]
    assert re.search(rf"id<\?|Index Cond: .*\b{number}\b", explained(filled_database.db, statement, parameters))


def test_metrics_read_nothing_that_has_ended(filled_database):
    """A scrape every few seconds comes by the small indexes of what is open, however many results there are."""
    ran = statements(filled_database.db, lambda: filled_database.db.read(gauges.collect))
    assert not [s for s in ran if "results" in s[0]]
    plans = [explained(filled_database.db, *s) for s in ran if "FROM images" in s[0]]
    assert len(plans) >= 2
    for text in plans:
        assert "ix_images_running" in text or "ix_images_queued" in text
        assert "Seq Scan on images" not in text


def test_a_fetch_is_found_whatever_another_key_has(filled_database):
    """Counted by PostgreSQL itself: it does not look at the fetches of the key that has very many."""
    if filled_database.db.dialect_name == "sqlite":
        pytest.skip("SQLite does not count")
    wanted = {"limit": 3, "max_per_owner": 3, "in_flight": {filled_database.owner: 3}}
    ran = statements(filled_database.db, lambda: filled_database.db.write(url_fetches.claim, **wanted))
    asked = [s for s in ran if s[0].startswith(("WITH", "UPDATE")) and "url_fetches" in s[0]]
    assert len(asked) >= 2
    for statement, parameters in asked:
        explain = "EXPLAIN (ANALYZE, TIMING OFF) " + statement
        plan = filled_database.db.write(lambda c, *s: "\n".join(c.exec_driver_sql(*s).scalars()), explain, parameters)
        counts = re.findall(r"actual rows=(\d+)|Rows Removed by \w+(?: \w+)?: (\d+)", plan)
        assert max(int(n or m) for n, m in counts) < 100, plan


def test_a_purge_goes_by_indexes(filled_database, monkeypatch):
    """Every statement of it, and of the next step, which goes on in a job; last, since it takes rows away."""
    monkeypatch.setattr(retention, "IMAGES_PER_STEP", 20)
    monkeypatch.setattr(retention, "JOBS_PER_STEP", 5)
    for _ in range(2):
        plan = plans(filled_database.db, lambda: filled_database.db.write(retention.purge_step, days=1))
        assert "ix_jobs_full" in plan
        assert read_whole(plan) == []
        assert not sorts(plan)
