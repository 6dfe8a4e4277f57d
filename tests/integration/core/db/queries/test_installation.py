import sqlalchemy as sa

from core.db.expressions import INSTALLATIONS
from core.db.queries import installation


def test_a_database_keeps_its_id_and_gets_another_if_it_was_lost(db):
    first = db.write(installation.get_or_create_id)
    assert db.read(installation.get_or_create_id) == first
    db.write(lambda conn: conn.execute(sa.delete(INSTALLATIONS)))
    assert db.write(installation.get_or_create_id) != first
