"""Many rows of one table in one statement: SQLAlchemy's core, whose objects cost less than rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table, bindparam, insert, update
from sqlalchemy.orm import Session

Row = dict[str, Any]
"""Values by column; all rows of one call have the same columns."""


def insert_rows(session: Session, table: Table, rows: Sequence[Row]) -> None:
    """Store new rows, at least one."""
    session.connection().execute(insert(table), rows)


def update_rows(session: Session, table: Table, rows: Sequence[Row]) -> None:
    """Change what these rows, at least one, say beside their keys; who is not there is not made."""
    keys = {column.name for column in table.primary_key}
    same = [table.c[name] == bindparam(f"key_{name}") for name in sorted(keys)]
    new: Row = {name: bindparam(f"new_{name}") for name in rows[0].keys() - keys}
    renamed = [
        {f"{'key' if name in keys else 'new'}_{name}": value for name, value in row.items()}
        for row in rows
    ]
    session.connection().execute(update(table).where(*same).values(new), renamed)
