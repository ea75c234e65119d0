"""Many rows at once: what is stored is what SQLAlchemy's own objects read, on every database."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from controller.bulk import insert_rows, update_rows
from controller.cib_tables import CustomizationRow, DeploymentRow, HostRow, IntentRow
from controller.database import Base, Database
from controller.phases import Phase

HOST = {
    "name": "h1",
    "addresses": ["10.0.0.1", "fd00::1"],
    "kernel": "6.1 %s %(name)s :name ?",
    "boot_id": "b'\"\\",
    "tap": None,
    "tap_error": None,
    "targets": [],
    "labels": ["site=é"],
    "generation": 2**62,
    "desired": "",
}
INTENT = {
    "name": "tag",
    "spec": {"nested": {"list": [1, None, True, 0.5]}},
    "mirrors": [],
    "priority": 100,
    "error": None,
    "revoked": False,
    "active": True,
    "deprecated": False,
    "succession": 1,
    "rotated_at": 1_700_000_000.25,
    "left_out": {},
}
DEPLOYMENT = {
    "uid": "u",
    "intent": "tag",
    "number": 1,
    "succession": 1,
    "kind": "first",
    "module": "idle",
    "parameters": {"every": 1},
    "phase": Phase.BUILDING,
    "error": None,
    "proven": False,
    "ends": False,
}
CUSTOMIZATION = {
    "id": "c",
    "deployment": "u",
    "position": 0,
    "host": "h1",
    "side": "client",
    "module": "idle",
    "target": "bpf",
    "kernel": None,
    "match": {"transport": "udp"},
    "priority": 100,
    "parameters": b"",
    "receives": True,
    "sends": False,
    "epoch": 0,
    "token": b"",
    "key": bytes(range(32)),
    "digest": None,
}


def rows(session: Session, kind: type[Base]) -> list[dict[str, Any]]:
    names = [column.name for column in kind.__table__.columns]
    found = session.scalars(select(kind).order_by(*kind.__table__.primary_key))
    return [{name: getattr(row, name) for name in names} for row in found]


def table(kind: type[Base]) -> Any:  # noqa: ANN401
    return kind.__table__


def test_values_of_every_kind_come_back_as_they_were(database_url: str) -> None:
    everything = [
        (HostRow, [HOST, {**HOST, "name": "h2", "tap": "bpf"}]),
        (IntentRow, [INTENT]),
        (DeploymentRow, [DEPLOYMENT, {**DEPLOYMENT, "uid": "v", "phase": Phase.STOP_SEND}]),
        (CustomizationRow, [CUSTOMIZATION]),
    ]

    def store(session: Session) -> None:
        for kind, values in everything:
            insert_rows(session, table(kind), values)

    with closing(Database(database_url)) as database:
        database.submit(store).result()
        for kind, values in everything:
            assert database.read(lambda s, k=kind: rows(s, k)).result() == values


def test_a_change_is_of_the_rows_with_these_keys_and_of_these_columns(database_url: str) -> None:
    hosts = [{**HOST, "name": name} for name in ("h1", "h2", "h3")]
    changes = [
        {"name": "h1", "generation": 7, "desired": "x", "tap": "kmod"},
        {"desired": "y", "tap": None, "name": "h3", "generation": 8},  # in any order
        {"name": "nobody", "generation": 9, "desired": "z", "tap": None},
    ]

    def store(session: Session) -> None:
        insert_rows(session, table(HostRow), hosts)
        update_rows(session, table(HostRow), changes)

    with closing(Database(database_url)) as database:
        database.submit(store).result()
        found = database.read(lambda s: rows(s, HostRow)).result()
    assert found == [{**hosts[0], **changes[0]}, hosts[1], {**hosts[2], **changes[1]}]


def test_an_error_names_no_secret(database_url: str) -> None:
    hosts = [{**HOST, "kernel": "a secret"}] * 2
    with closing(Database(database_url)) as database, pytest.raises(IntegrityError) as error:
        database.submit(lambda session: insert_rows(session, table(HostRow), hosts)).result()
    assert "a secret" not in str(error.value)
