"""Environments: on what, and by which libraries, results are made; each is kept once, however many results name it."""

from dataclasses import asdict, dataclass, fields

import sqlalchemy as sa

from jobs.store.sql import ENVIRONMENTS, insert


@dataclass(frozen=True)
class Environment:
    """What an answer may depend on besides its picture, its model and its batch."""

    device: str
    precision: str
    torch: str
    decoder: str
    sortbelt: str


NAMES = tuple(field.name for field in fields(Environment))
SHOWN = tuple(ENVIRONMENTS.c[name] for name in NAMES)


def enter(c: sa.Connection, environment: Environment) -> int:
    """Its number, by which results name it: the same for all workers that are alike."""
    values = asdict(environment)
    c.execute(insert(c.dialect.name, ENVIRONMENTS).values(values).on_conflict_do_nothing())
    alike = [ENVIRONMENTS.c[name] == value for name, value in values.items()]
    return int(c.execute(sa.select(ENVIRONMENTS.c.id).where(*alike)).scalar_one())
