"""What makes the tables of one version of the schema those of the next.

New tables are made anyway. Versions 1 and 2 were SQLite's alone: PostgreSQL came with version 3, in
which what may exceed 32 bits (generations) is a BIGINT from the first program that others had.
"""

from __future__ import annotations

SCHEMA_VERSION = 3

MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE artifact ADD COLUMN kernel VARCHAR",
        "ALTER TABLE customization ADD COLUMN kernel VARCHAR",
        "ALTER TABLE customization ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE customization ADD COLUMN token BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE customization ADD COLUMN key BLOB NOT NULL DEFAULT x''",
    ),
    2: (
        """CREATE TABLE deployment (
            uid VARCHAR NOT NULL PRIMARY KEY, intent VARCHAR NOT NULL REFERENCES intent (name),
            number INTEGER NOT NULL, succession INTEGER NOT NULL, kind VARCHAR NOT NULL,
            module VARCHAR NOT NULL, parameters JSON NOT NULL, phase VARCHAR(16) NOT NULL,
            error VARCHAR, proven BOOLEAN NOT NULL, ends BOOLEAN NOT NULL)""",
        "CREATE INDEX ix_deployment_intent ON deployment (intent)",
        "DELETE FROM customization WHERE intent IN (SELECT name FROM intent WHERE phase = 'gone')",
        "DELETE FROM intent WHERE phase = 'gone'",
        """INSERT INTO deployment SELECT uid, name, 1, 1, 'first', spec ->> '$.module',
            coalesce(spec -> '$.parameters', '{}'), phase, error,
            phase = 'active', phase IN ('stop_send', 'drain', 'remove', 'failed') FROM intent""",
        """CREATE TABLE intent_3 (
            name VARCHAR NOT NULL PRIMARY KEY, spec JSON NOT NULL, mirrors JSON NOT NULL,
            priority INTEGER NOT NULL, error VARCHAR, revoked BOOLEAN NOT NULL,
            active BOOLEAN NOT NULL, deprecated BOOLEAN NOT NULL, succession INTEGER NOT NULL,
            rotated_at FLOAT NOT NULL, left_out JSON NOT NULL)""",
        """INSERT INTO intent_3 SELECT name, spec, mirrors_spec,
            coalesce(spec ->> '$.priority', 100), error,
            phase IN ('stop_send', 'drain', 'remove') AND error IS NULL, 1, 0, 1, 0, '{}'
            FROM intent""",
        """CREATE TABLE customization_3 (
            id VARCHAR NOT NULL PRIMARY KEY,
            deployment VARCHAR NOT NULL REFERENCES deployment (uid), position INTEGER NOT NULL,
            host VARCHAR NOT NULL REFERENCES host (name), side VARCHAR(6) NOT NULL,
            module VARCHAR NOT NULL, target VARCHAR(4) NOT NULL, kernel VARCHAR,
            match JSON NOT NULL, priority INTEGER NOT NULL, parameters BLOB NOT NULL,
            receives BOOLEAN NOT NULL, sends BOOLEAN NOT NULL, epoch INTEGER NOT NULL,
            token BLOB NOT NULL, key BLOB NOT NULL,
            digest VARCHAR REFERENCES artifact (digest))""",
        """INSERT INTO customization_3 SELECT c.id, i.uid, c.position, c.host, c.side, c.module,
            c.target, c.kernel, c.match, c.priority, c.parameters, c.receives, c.sends, c.epoch,
            c.token, c.key, c.digest
            FROM customization c JOIN intent i ON c.intent = i.name""",
        "DROP TABLE customization",
        "DROP TABLE intent",
        "ALTER TABLE intent_3 RENAME TO intent",
        "ALTER TABLE customization_3 RENAME TO customization",
        "CREATE INDEX ix_customization_deployment ON customization (deployment)",
        "CREATE INDEX ix_customization_host ON customization (host)",
        "ALTER TABLE host ADD COLUMN labels JSON NOT NULL DEFAULT '[]'",
    ),
}
