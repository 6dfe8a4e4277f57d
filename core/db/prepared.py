"""Prepared statements: compiled to text once for each dialect, and run by a cursor of the driver.

SQLAlchemy takes several times as long as SQLite for each of the small statements of a claim or a commit.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

Parameters = Mapping[str, Any]
Processor = Callable[[Any], Any] | None
INSERTED_ROW = re.compile(r" VALUES (\(.*?\))(?= ON CONFLICT | RETURNING |$)", re.DOTALL)
NAMED_PARAMETER = re.compile(r"%\(([^)]+)\)s")


@dataclass(frozen=True)
class _Text:
    """A statement in one dialect."""

    sql: str
    row_sql: str
    """The part in `sql` that is repeated for each row of an INSERT."""
    order: Sequence[str]
    """The names of the parameters in their order."""
    defaults: Parameters
    """The values that the statement has itself, as the driver takes them."""
    encoders: Mapping[str, Callable[[Any], Any]]
    decoders: Sequence[Processor]

    def bind(self, parameters: Parameters) -> tuple[Any, ...]:
        """Return the parameters as the driver takes them."""
        encoders = self.encoders
        given = {name: encoders[name](value) if name in encoders else value for name, value in parameters.items()}
        values = {**self.defaults, **given}
        return tuple([values[name] for name in self.order])

    def decode(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """Return a row as SQLAlchemy would."""
        return tuple(
            [
                value if decoder is None or value is None else decoder(value)
                for value, decoder in zip(row, self.decoders, strict=True)
            ]
        )


class Prepared:
    """A statement that is run often; its parameters are values, or lists in `any_of`.

    Args:
        statement: the statement.
        returns: the columns of its rows, if it returns any.
        sets: the columns that an INSERT sets.
    """

    def __init__(
        self, statement: Any, returns: Iterable[sa.ColumnElement[Any]] = (), sets: Sequence[str] | None = None
    ) -> None:
        self._statement = statement
        self._types = [column.type for column in returns]
        self._sets = sets
        self._texts: dict[str, _Text] = {}

    def execute(self, conn: sa.Connection, parameters: Parameters) -> list[tuple[Any, ...]]:
        """Run the statement in the transaction of a connection; return its rows.

        Raises:
            exc.DBAPIError: as SQLAlchemy raises it.
        """
        text = self._texts.get(conn.dialect.name) or self._compile(conn.dialect)
        rows = _run(conn, text.sql, text.bind(parameters), has_rows=bool(self._types))
        return [text.decode(row) for row in rows]

    def insert_rows(self, conn: sa.Connection, rows: Sequence[Parameters]) -> list[tuple[Any, ...]]:
        """Run an INSERT of one row as one of several, at least one; return what it returns for all. See `execute`."""
        text = self._texts.get(conn.dialect.name) or self._compile(conn.dialect)
        sql = text.sql.replace(text.row_sql, ", ".join([text.row_sql] * len(rows)))
        values = tuple(itertools.chain.from_iterable(map(text.bind, rows)))
        return [text.decode(row) for row in _run(conn, sql, values, has_rows=bool(self._types))]

    def execute_many(self, conn: sa.Connection, parameters: Iterable[Parameters]) -> None:
        """Run the statement for each of these parameters; see `execute`."""
        text = self._texts.get(conn.dialect.name) or self._compile(conn.dialect)
        _run(conn, text.sql, [text.bind(each) for each in parameters], has_rows=False)

    def _compile(self, dialect: sa.Dialect) -> _Text:
        compiled: Any = self._statement.compile(dialect=dialect, column_keys=self._sets)
        if compiled.post_compile_params:
            raise TypeError("A prepared statement takes lists in `any_of` only.")
        encoders: dict[str, Callable[[Any], Any]] = {}
        for bind, name in compiled.bind_names.items():
            encoder = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if encoder is not None:
                encoders[name] = encoder
        defaults = {
            name: encoders[name](value) if name in encoders else value
            for name, value in compiled.params.items()
            if not compiled.binds[name].required
        }
        decoders = [
            None if isinstance(type_, sa.Float) else type_.dialect_impl(dialect).result_processor(dialect, None)
            for type_ in self._types  # drivers return floats
        ]
        sql, order = str(compiled), compiled.positiontup
        if order is None:  # the driver takes parameters by name, or in their order
            sql, order = NAMED_PARAMETER.sub("%s", sql), NAMED_PARAMETER.findall(sql)
        row = INSERTED_ROW.search(sql)
        text = self._texts[dialect.name] = _Text(sql, row[1] if row else "", order, defaults, encoders, decoders)
        return text


def _run(conn: sa.Connection, sql: str, values: Any, *, has_rows: bool) -> Sequence[Sequence[Any]]:
    if conn.engine.dispatch.before_cursor_execute:  # a listener observes the statements
        result = conn.exec_driver_sql(sql, values)
        return result.all() if has_rows else ()
    driver: Any = conn.dialect.dbapi
    cursor = conn.connection.cursor()
    try:
        (cursor.executemany if isinstance(values, list) else cursor.execute)(sql, values)
        return cursor.fetchall() if has_rows else ()
    except driver.Error as error:
        raise exc.DBAPIError.instance(sql, None, error, driver.Error, dialect=conn.dialect) from error
    finally:
        cursor.close()
