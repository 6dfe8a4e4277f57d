import sqlalchemy as sa

from core.db.queries import environments
from tests.support import factories


def test_an_environment_is_kept_once_however_many_workers_are_alike(db):
    """Environments that differ in one property are two."""
    first, again, other = (
        factories.create_environment(db),
        factories.create_environment(db),
        factories.create_environment(db, device="NVIDIA H200"),
    )
    assert first == again != other
    rows = db.read(lambda c: c.execute(sa.select(*environments.COLUMNS)).all())
    assert {row.device for row in rows} == {"cpu: EPYC, AVX2", "NVIDIA H200"}
    assert len(rows) == 2
