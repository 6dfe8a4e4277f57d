"""Filled databases are as the product would have made them, and every list is asked for."""

from urllib import parse

import sqlalchemy as sa

from api import asked
from bench import filling, growth
from jobs import tables
from jobs.store import invariants


def test_a_filled_database_holds_what_always_holds(database_url):
    """As the doctor has it; and it can be worked with."""
    some = growth.filled(database_url, 2_000)
    db = some.db

    for broken in (invariants.ended_without_result, invariants.results_of_open_images, invariants.miscounted_jobs):
        assert db.read(broken) == 0, broken.__name__
    with db.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.Result)).scalar() == 2_000
    first = some.get("", "/v1/results?limit=1").json["results"][0]
    assert first["image"] == "holiday/IMG_100002000.jpg"
    took = growth.store_questions(some)
    assert set(took) > {"submit 1 image", "claim 64", "finish 64", "a job by its id"}
    some.close()


def test_the_deep_page_is_where_it_should_be(tmp_path, monkeypatch):
    """The tenth page begins after nine pages of rows."""
    monkeypatch.setattr(growth, "DEEP", 10)
    monkeypatch.setattr(growth, "STEPS", 300)
    some = growth.filled(f"sqlite:///{tmp_path}/growth.db", 1_500)

    deep = growth._deep(some, "results", growth._url(some, "results"))

    (first, *_), *_ = some.get("results", deep).json.values()
    assert first["image"] == f"holiday/IMG_{100_000_000 + 1_500 - 900}.jpg"
    assert growth._deep(some, "results by name of none", growth._url(some, "results by name of none")) == ""
    some.close()


def test_every_filter_of_every_list_is_asked_for():
    """A new one must be measured too."""
    wanted = {"/v1/results": asked.Results, "/v1/jobs": asked.Jobs}
    for path, filters in wanted.items():
        urls = [parse.urlsplit(url) for url in growth.QUERIES.values()]
        tried = {name for url in urls if url.path == path for name, _ in parse.parse_qsl(url.query)}
        assert tried >= set(filters.model_fields) - {"limit", "cursor"}, path


def test_the_disk_is_asked_first(tmp_path, capsys):
    """More than there is room for is refused with a sentence."""
    monster = growth.argparse.Namespace(rows=[10**9], databases=["sqlite"], runs=1, out=tmp_path)

    assert growth.main(monster) == 2
    assert "too much" in capsys.readouterr().err


def test_columns_that_nobody_told_the_filling_of_get_something():
    """A migration that adds one does not stop it."""
    words = filling.WORDS["sqlite"]

    assert filling._plain(sa.Column("a", sa.Integer, nullable=False), words) == "0"
    assert filling._plain(sa.Column("a", sa.String, nullable=False), words) == "''"
    assert filling._plain(sa.Column("a", sa.Integer), words) == "NULL"
