import random

import pytest
import sqlalchemy as sa

from jobs.store import gauges, jobs, results, work
from tests.jobs import making

ROWS = 6000


@pytest.fixture
def grown(db, owner):
    """A table with thousands of images that have ended, some that wait, few that run; and its statistics."""
    chance = random.Random(1)  # noqa: S311 (not a secret)
    ids = [making.job(db, owner, *(f"{job} {n}" for n in range(ROWS // 10))) for job in range(10)]
    making.finish(db, making.claim(db, limit=ROWS * 8 // 10))
    taken = making.claim(db, limit=50)
    db.write(work.release, chance.sample(taken, 30))
    db.write(lambda c: c.exec_driver_sql("ANALYZE"))
    return ids


def statements(db, action):
    """The statements that an action runs, with their parameters."""
    seen = []

    def note(_conn, _cursor, statement, parameters, _context, _many):
        seen.append((statement, parameters))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    action()
    sa.event.remove(db.engine, "before_cursor_execute", note)
    return seen


def explained(db, statement, parameters):
    """The plan of a statement that was run."""
    explain = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}[db.name]
    rows = db.read(lambda c: c.exec_driver_sql(explain + statement, parameters).all())
    return "\n".join(str(tuple(row)) for row in rows)


@pytest.mark.parametrize("bulk_first", [False, True])
def test_claiming_looks_only_at_what_waits(db, grown, bulk_first):
    """However many images have ended, a claim finds its own by the index of the queue."""
    ran = statements(db, lambda: making.claim(db, limit=64, bulk_first=bulk_first))
    head, taking = [s for s in ran if "images" in s[0] and s[0].lstrip().startswith(("SELECT", "WITH", "UPDATE"))]
    for statement in (head, taking):
        text = explained(db, *statement)
        assert "ix_images_queued" in text
        assert "Seq Scan on images" not in text


def test_the_rescue_looks_only_at_what_runs(db, grown):
    """A sweep every few seconds must not read the whole table."""
    making.let_leases_end(db)
    ran = statements(db, lambda: db.write(work.rescue, max_attempts=3))
    text = explained(db, *next(s for s in ran if s[0].lstrip().startswith("UPDATE images")))
    assert "ix_images_running" in text


def test_a_page_of_results_of_a_job_reads_that_page(db, grown):
    """The results of a job come by their index, in order, without a sort."""
    wanted = results.Filter(job=grown[3])
    ran = statements(db, lambda: db.read(results.page, wanted, limit=50, after=results.Place(1000)))
    ((statement, parameters),) = [s for s in ran if "results" in s[0]]
    text = explained(db, statement, parameters)
    assert "ix_results_job_id_image_id" in text
    assert "Seq Scan on results" not in text
    assert "TEMP B-TREE" not in text


def test_the_view_of_a_job_counts_only_what_runs(db, grown):
    """Polling a job of a million images does not count a million."""
    ((statement, parameters),) = [
        s for s in statements(db, lambda: db.read(jobs.job, grown[9], None)) if "jobs" in s[0]
    ]
    text = explained(db, statement, parameters)
    assert "ix_images_running" in text
    assert "Seq Scan on images" not in text


def page_plan(db, **options):
    """The plan of a page of results across jobs."""
    filter_ = results.Filter(**options.pop("wanted", {}))
    ran = statements(db, lambda: db.read(results.page, filter_, limit=50, **options))
    ((statement, parameters),) = [s for s in ran if "results" in s[0]]
    return explained(db, statement, parameters)


def test_admin_pages_come_by_an_index_without_a_sort(db, grown):
    """Newest, least confident, by label, by error: the first page and a deep one read what they show."""
    order = results.Order
    asked = {
        "ix_results_confidence": {"order": order.CONFIDENCE},
        "ix_results_label_image_id": {"order": order.NEWEST, "wanted": {"label": "none such"}},
        "ix_results_error_code": {"order": order.NEWEST, "wanted": {"error": "none such"}},
    }
    for index, options in asked.items():
        assert index in page_plan(db, **options)
    for options in (*asked.values(), {"order": order.NEWEST}):
        for after in (None, results.Place(ROWS // 2, 0.5)):
            plan = page_plan(db, **options, after=after)
            assert "TEMP B-TREE" not in plan
            assert "Seq Scan on results" not in plan


def test_metrics_read_nothing_that_has_ended(db, grown):
    """A scrape every few seconds comes by the small indexes of what is open, however many results there are."""
    ran = statements(db, lambda: db.read(gauges.look))
    assert not [s for s in ran if "results" in s[0]]
    plans = [explained(db, *s) for s in ran if "FROM images" in s[0]]
    assert len(plans) >= 2
    for text in plans:
        assert "ix_images_running" in text or "ix_images_queued" in text
        assert "Seq Scan on images" not in text
