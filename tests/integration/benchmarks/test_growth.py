"""Synthetic databases satisfy the product's invariants, and every list query is measured."""

from urllib import parse

import sqlalchemy as sa

from api.schemas import job_requests, result_requests
from benchmarks import growth, synthetic_rows
from core.db import tables
from core.db.queries import invariants


def test_a_filled_database_satisfies_the_invariants(database_url):
    """The doctor's checks pass, and jobs can be submitted, claimed and completed."""
    filled = growth.create_filled_database(database_url, 2_000)
    db = filled.db

    assert db.read(invariants.find_defects) == {}
    with db.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.Result)).scalar() == 2_000
    first = filled.get("", "/v1/results?limit=1").json["results"][0]
    assert first["image"] == "holiday/IMG_100002000.jpg"
    timings = growth.time_queue_operations(filled)
    assert set(timings) > {"submit 1 image", "claim 64", "finish 64", "a job by its id"}
    filled.close()


def test_the_deep_page_starts_at_the_right_row(tmp_path, monkeypatch):
    """The tenth page begins after nine pages of rows."""
    monkeypatch.setattr(growth, "DEEP_PAGE", 10)
    monkeypatch.setattr(growth, "STEP_PAGE_SIZE", 300)
    filled = growth.create_filled_database(f"sqlite:///{tmp_path}/growth.db", 1_500)

    deep = growth._find_deep_url(filled, "results", growth._query_url(filled, "results"))

    (first, *_), *_ = filled.get("results", deep).json.values()
    assert first["image"] == f"holiday/IMG_{100_000_000 + 1_500 - 900}.jpg"
    assert (
        growth._find_deep_url(filled, "results by name of none", growth._query_url(filled, "results by name of none"))
        == ""
    )
    filled.close()


def test_every_filter_of_every_list_is_measured():
    """A new filter must get a query."""
    query_models = {"/v1/results": result_requests.ResultListQuery, "/v1/jobs": job_requests.JobListQuery}
    for path, query_model in query_models.items():
        urls = [parse.urlsplit(url) for url in growth.QUERIES.values()]
        used_filters = {name for url in urls if url.path == path for name, _ in parse.parse_qsl(url.query)}
        assert used_filters >= set(query_model.model_fields) - {"limit", "cursor"}, path


def test_too_many_rows_for_the_disk_are_refused(tmp_path, capsys):
    """The size is estimated before anything is written."""
    args = growth.argparse.Namespace(rows=[10**9], databases=["sqlite"], runs=1, out=tmp_path)

    assert growth.main(args) == 2
    assert "too much" in capsys.readouterr().err


def test_unknown_columns_get_a_neutral_value():
    """A migration that adds a column does not break the benchmark."""
    dialect = synthetic_rows.DIALECT_SQL["sqlite"]

    assert synthetic_rows._default_value(sa.Column("a", sa.Integer, nullable=False), dialect) == "0"
    assert synthetic_rows._default_value(sa.Column("a", sa.String, nullable=False), dialect) == "''"
    assert synthetic_rows._default_value(sa.Column("a", sa.Integer), dialect) == "NULL"
