import sqlalchemy as sa

from jobs.store import environments
from tests.jobs import making


def test_an_environment_is_kept_once_however_many_workers_are_alike(db):
    """What differs in one thing is another."""
    first, again, other = making.environment(db), making.environment(db), making.environment(db, device="NVIDIA H200")
    assert first == again != other
    rows = db.read(lambda c: c.execute(sa.select(*environments.SHOWN)).all())
    assert {row.device for row in rows} == {"cpu: EPYC, AVX2", "NVIDIA H200"}
    assert len(rows) == 2
