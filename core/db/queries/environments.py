"""Environments: the device and the library versions that made results; each is stored once and referenced by id."""

from dataclasses import asdict, dataclass, fields

import sqlalchemy as sa

from core.db.expressions import ENVIRONMENTS, insert


@dataclass(frozen=True)
class Environment:
    """The device and library versions that a result may depend on."""

    device: str
    precision: str
    torch: str
    decoder: str
    sortbelt: str


FIELD_NAMES = tuple(field.name for field in fields(Environment))
COLUMNS = tuple(ENVIRONMENTS.c[name] for name in FIELD_NAMES)


def get_or_create_id(conn: sa.Connection, environment: Environment) -> int:
    """Return the id of an environment: the same for all workers that are alike."""
    values = asdict(environment)
    conn.execute(insert(conn.dialect.name, ENVIRONMENTS).values(values).on_conflict_do_nothing())
    is_equal = [ENVIRONMENTS.c[name] == value for name, value in values.items()]
    return int(conn.execute(sa.select(ENVIRONMENTS.c.id).where(*is_equal)).scalar_one())
