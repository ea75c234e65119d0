"""The CIB: what was committed is there again, and nothing else."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from controller.cib import Cib, HostRow
from controller.intent import Intent
from controller.phases import Phase
from controller.plan import Plan, make_plan
from tests.unit.nco_kit import intent, make_module, opened_cib
from wire.manifest import load
from wire.messages import Hello

UID = uuid.UUID(int=7)


def add_hosts(cib: Cib) -> None:
    with cib.writing() as session:
        for name, address in (("h1", "10.10.0.1"), ("dns", "10.10.0.3")):
            row = HostRow(name=name, generation=5, desired="x")
            row.describe(
                Hello(host=name, boot_id="b", kernel="k", targets=["bpf"], addresses=[address])
            )
            session.add(row)


def plan_for(cib: Cib, folder: Path, wanted: Intent) -> Plan:
    make_module(folder)
    manifest = load(folder / "idle" / "manifest.toml")
    return make_plan(wanted, manifest, {n: r.facts() for n, r in cib.hosts().items()}, UID)


def test_everything_is_there_again(tmp_path: Path) -> None:
    wanted = Intent.model_validate(intent(middlebox={"host": "h1"}, parameters={}))
    with opened_cib(tmp_path / "nco.db") as cib:
        add_hosts(cib)
        plan = plan_for(cib, tmp_path, wanted)
        cib.add_intent(wanted, plan, UID.hex)
        with cib.writing():
            row = cib.intent("tag")
            assert row is not None
            row.go(Phase.RECEIVE)
            cib.hosts()["h1"].generation = 6
            cib.steering().generation = 3
    with opened_cib(tmp_path / "nco.db") as cib:
        row = cib.intent("tag")
        assert row is not None
        assert row.phase == Phase.RECEIVE
        assert row.intent == wanted
        assert tuple(row.mirrors) == plan.mirrors
        stored = [customization.planned() for customization in row.customizations]
        assert tuple(stored) == plan.customizations
        assert {name: host.generation for name, host in cib.hosts().items()} == {"h1": 6, "dns": 5}
        assert cib.hosts()["h1"].facts().addresses == ("10.10.0.1",)
        assert cib.steering().generation == 3


def test_what_was_not_committed_is_not_there(tmp_path: Path) -> None:
    with opened_cib(tmp_path / "nco.db") as cib, cib.writing() as session:
        add_hosts(cib)
        cib.hosts()["h1"].generation = 99
        session.flush()
        with closing(sqlite3.connect(tmp_path / "nco.db")) as other:
            seen = other.execute("SELECT generation FROM host WHERE name = 'h1'").fetchone()
            assert seen == (5,)


def test_it_is_a_durable_database(tmp_path: Path) -> None:
    with opened_cib(tmp_path / "nco.db") as cib, cib.writing() as session:
        connection = session.connection()
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_an_intent_of_unknown_hosts_cannot_be_stored(tmp_path: Path) -> None:
    wanted = Intent.model_validate(intent())
    with opened_cib(tmp_path / "a.db") as cib:
        add_hosts(cib)
        plan = plan_for(cib, tmp_path, wanted)
    with opened_cib(tmp_path / "b.db") as empty:
        with pytest.raises(IntegrityError):
            empty.add_intent(wanted, plan, UID.hex)
        assert empty.intents() == []


def test_an_intent_that_is_not_over_cannot_be_replaced(tmp_path: Path) -> None:
    wanted = Intent.model_validate(intent())
    with opened_cib(tmp_path / "nco.db") as cib:
        add_hosts(cib)
        plan = plan_for(cib, tmp_path, wanted)
        cib.add_intent(wanted, plan, UID.hex)
        with pytest.raises(ValueError, match="phase building"):
            cib.add_intent(wanted, plan, UID.hex)
        with cib.writing():
            row = cib.intent("tag")
            assert row is not None
            row.go(Phase.GONE)
        cib.add_intent(wanted, plan, UID.hex)
        cib.forget_gone()
        assert len(cib.intents()) == 1
