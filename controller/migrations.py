"""What makes the tables of one version of the schema those of the next.

New tables are made anyway. Versions 1 and 2 were SQLite's alone.
"""

from __future__ import annotations

SCHEMA_VERSION = 2

MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE artifact ADD COLUMN kernel VARCHAR",
        "ALTER TABLE customization ADD COLUMN kernel VARCHAR",
        "ALTER TABLE customization ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE customization ADD COLUMN token BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE customization ADD COLUMN key BLOB NOT NULL DEFAULT x''",
    ),
}
