"""Many rows of one table in one statement.

SQLAlchemy says what the statement is and how values become the driver's; it is done here for all
rows at once, because `Connection.execute` thinks about each of ten thousand anew, and takes four
times as long for that as the database does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Dialect, Insert, Table, Update, bindparam, insert, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler

Row = dict[str, Any]
"""Values by column; all rows of one call have the same columns."""


def insert_rows(session: Session, table: Table, rows: Sequence[Row]) -> None:
    """Store new rows, at least one."""
    _execute(session, _insertion, table, rows)


def update_rows(session: Session, table: Table, rows: Sequence[Row]) -> None:
    """Change what these rows, at least one, say beside their keys; who is not there is not made."""
    _execute(session, _change, table, rows)


def _insertion(table: Table, columns: Sequence[str]) -> Insert:
    return insert(table).values({name: bindparam(f"the_{name}") for name in columns})


def _change(table: Table, columns: Sequence[str]) -> Update:
    keys = {column.name for column in table.primary_key}
    same = [table.c[name] == bindparam(f"the_{name}") for name in columns if name in keys]
    new: Row = {name: bindparam(f"the_{name}") for name in columns if name not in keys}
    return update(table).where(*same).values(new)


Statement = Callable[[Table, Sequence[str]], Insert | Update]
"""Names each column's value `the_` and its name: no column's own, which SQLAlchemy keeps."""


@dataclass(frozen=True)
class _Prepared:
    """A statement as the driver takes it."""

    text: str
    columns: tuple[tuple[str, str, Callable[[Any], Any] | None], ...]
    """Of each value, in order: its name, its column, and what makes it the driver's."""
    by_position: bool

    def values(self, row: Row) -> Any:  # noqa: ANN401 - a tuple or a dict, as the driver wants it
        if self.by_position:
            return tuple([to(row[c]) if to else row[c] for _, c, to in self.columns])
        return {name: to(row[c]) if to else row[c] for name, c, to in self.columns}


@lru_cache(maxsize=256)
def _prepared(
    statement: Statement, table: Table, columns: tuple[str, ...], dialect: Dialect
) -> _Prepared:
    compiled = statement(table, columns).compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)  # noqa: S101 - of an INSERT and an UPDATE it is
    names = compiled.positiontup or list(compiled.binds)
    types = {name: compiled.binds[name].type.dialect_impl(dialect) for name in names}
    return _Prepared(
        text=str(compiled),
        columns=tuple((n, n.removeprefix("the_"), types[n].bind_processor(dialect)) for n in names),
        by_position=compiled.positional,
    )


def _execute(session: Session, statement: Statement, table: Table, rows: Sequence[Row]) -> None:
    connection = session.connection()
    prepared = _prepared(statement, table, tuple(rows[0]), connection.dialect)
    connection.exec_driver_sql(prepared.text, [prepared.values(row) for row in rows])
