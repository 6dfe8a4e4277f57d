"""The installation: the id of this database, which marks its blob store, and signs links and notices."""

import sqlalchemy as sa
from uuid_utils import compat as uuids

from core.db.expressions import INSTALLATIONS


def get_or_create_id(conn: sa.Connection) -> str:
    """Return the id of this database; create it if the row was lost."""
    id_ = conn.execute(sa.select(INSTALLATIONS.c.id).order_by(INSTALLATIONS.c.id).limit(1)).scalar()
    if id_ is None:
        id_ = str(uuids.uuid7())
        conn.execute(sa.insert(INSTALLATIONS).values(id=id_))
    return str(id_)
