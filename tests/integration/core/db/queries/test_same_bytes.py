"""Lookups by bytes cost the same, however many images have the same bytes; on both databases."""

import re

import pytest
import sqlalchemy as sa

from benchmarks import synthetic_rows
from core.db import new_image
from core.db.queries import known_blobs, models, new_images
from tests.support import factories

FEW, MANY = 200, 3000
DIGEST = factories.new_image("a").sha256
KINDS = {
    "done": {},
    "queued": {"status": "queued", "attempt": 0},
    "failed": {"status": "failed"},
    "rejected": {"status": "failed", "attempt": 0},
    "in a source": {"source": "camera", "location": "a.jpg"},
}


@pytest.fixture
def other(db):
    """Another key, without images."""
    return factories.create_key(db)


@pytest.fixture
def add_copies(db):
    """Add copies of the first image, with its bytes under other names, of a key; with results if they are done."""
    job_ids, series = {}, synthetic_rows.DIALECT_SQL[db.dialect_name].series

    def add(owner, count, **values):
        job = job_ids.setdefault(owner, factories.create_job(db, owner, sealed=False))
        first = 1 + db.read(lambda c: c.execute(sa.select(sa.func.max(factories.IMAGES.c.id))).scalar())
        quote = "'{}'::uuid" if db.dialect_name == "postgresql" else "'{}'"
        chosen = {"job_id": quote.format(job), "api_key_id": quote.format(owner), "name": "'copy ' || n"}
        chosen |= {name: str(value) if isinstance(value, int) else f"'{value}'" for name, value in values.items()}
        columns = [column.name for column in factories.IMAGES.c if column.name != "id"]
        selected = ", ".join(chosen.get(name, name) for name in columns)
        copies = f"SELECT {selected} FROM images CROSS JOIN {series} WHERE id = 1"  # noqa: S608 (written here)
        insert = sa.text(f"INSERT INTO images ({', '.join(columns)}) {copies}")
        db.write(lambda c: c.execute(insert, {"first": first, "last": first + count - 1}))
        if values.get("status", "done") == "done":
            columns = [column.name for column in factories.RESULTS.c]
            source = {"image_id": factories.IMAGES.c.id, "job_id": factories.IMAGES.c.job_id}
            both = factories.IMAGES.join(factories.RESULTS, factories.RESULTS.c.image_id == 1)
            results = sa.select(*[source.get(name, factories.RESULTS.c[name]) for name in columns]).select_from(both)
            results = results.where(factories.IMAGES.c.id >= first)
            db.write(lambda c: c.execute(sa.insert(factories.RESULTS).from_select(columns, results)))
        if db.dialect_name == "postgresql":
            db.write(lambda c: c.exec_driver_sql("ANALYZE"))

    return add


@pytest.fixture
def first_image(db, owner):
    """The first image, with a result of the live version."""
    factories.make_live(db)
    factories.create_job(db, owner, "a")
    factories.complete_claims(db, factories.claim_images(db))


def work(db, query, *args):
    """How much a query function does: steps of SQLite, or blocks that PostgreSQL looks at."""
    return (_steps if db.dialect_name == "sqlite" else _blocks)(db, query, *args)


def _steps(db, query, *args):
    steps = []

    def measured(conn):
        driver = conn.connection.driver_connection
        driver.set_progress_handler(lambda: steps.append(1), 10)
        try:
            return query(conn, *args)
        finally:
            driver.set_progress_handler(None, 0)

    db.write(measured)
    return len(steps)


def _blocks(db, query, *args):
    seen = []
    listen = (db.engine, "before_cursor_execute", lambda *event: seen.append(event[2:4]))
    sa.event.listen(*listen)
    try:
        db.write(query, *args)
    finally:
        sa.event.remove(*listen)
    blocks = 0
    for statement, parameters in seen:
        explain = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) " + statement
        plan = db.write(lambda c, *s: "\n".join(c.exec_driver_sql(*s).scalars()), explain, parameters)
        counts = re.findall(
            r"(?:hit|read)=(\d+)", plan.partition("Planning")[0].partition("Buffers: ")[2].split("\n")[0]
        )
        blocks += sum(map(int, counts))
    return blocks


@pytest.mark.usefixtures("first_image")
@pytest.mark.parametrize("kind", KINDS)
def test_a_lookup_by_bytes_costs_the_same_however_many_images_have_them(db, owner, other, add_copies, kind):
    """Of the same key and of others, whatever became of those images."""
    image = [factories.new_image("a")]
    lookups = {
        "cached of one's own": (new_images.lookup_cached, [((owner, factories.MODEL), image)]),
        "cached of none": (new_images.lookup_cached, [((other, factories.MODEL), image)]),
        "known of one's own": (known_blobs.find_known, owner, [DIGEST]),
        "known of none": (known_blobs.find_known, other, [DIGEST]),
        "unreferenced": (known_blobs.unreferenced, [DIGEST]),
        "without images": (known_blobs.without_images, [DIGEST]),
    }
    if kind != "rejected":  # of the same bytes, all are or none is
        lookups["stored"] = (known_blobs.lock_stored, {DIGEST})
    add_copies(owner, FEW, **KINDS[kind])
    before = {name: work(db, *lookup) for name, lookup in lookups.items()}
    add_copies(owner, MANY, **KINDS[kind])
    after = {name: work(db, *lookup) for name, lookup in lookups.items()}
    assert {name: (before[name], after[name]) for name in lookups if after[name] > 2 * before[name] + 20} == {}


@pytest.mark.usefixtures("first_image")
def test_results_of_an_older_version_do_not_add_up(db, owner, add_copies):
    """They do not answer a submission, and only some of them are looked at."""
    factories.make_live(db)
    lookup = (new_images.lookup_cached, [((owner, factories.MODEL), [factories.new_image("a")])])
    add_copies(owner, FEW)
    db.write(lambda c: c.execute(sa.update(models.MODELS).values(digest="1" * 64)))
    assert db.read(*lookup)[owner, factories.MODEL] == {}
    before = work(db, *lookup)
    add_copies(owner, MANY)
    assert work(db, *lookup) <= 2 * before + 20


@pytest.mark.usefixtures("first_image")
def test_the_result_of_the_live_version_is_found_before_all_others(db, owner, other, add_copies):
    """Among images that wait, of other keys and in sources; the newest done image may be of a job that takes more."""
    add_copies(owner, FEW, status="queued", attempt=0)
    add_copies(other, FEW)
    add_copies(owner, FEW, model_name="another")
    keys = [((key, factories.MODEL), [factories.new_image("a")]) for key in (owner, other)]
    found = db.read(new_images.lookup_cached, keys)
    assert [found[key][DIGEST]["model_version"] for key, _ in keys] == ["1", "1"]


def test_images_that_are_still_to_be_fetched_are_not_looked_up(db, owner):
    """Their digest is not known yet: all of them have the same one in its place."""
    url = {"source": new_image.URL_SOURCE, "url": "https://images.example/a.jpg"}
    images = [new_image.NewImage("a", new_image.UNREAD_DIGEST, 0, **url)]
    few = work(db, new_images.lookup_cached, [((owner, factories.MODEL), images)])
    assert few == 0
