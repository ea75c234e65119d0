"""The CIB: what was committed is there again, and nothing else."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from controller.cib import Cib
from controller.database import Database
from controller.intent import Intent
from controller.membership import new_deployment
from controller.model import IntentState
from controller.phases import Phase
from controller.plan import Plan, make_plan
from tests.unit.nco_kit import commit, intent, make_module, opened
from wire.manifest import load
from wire.messages import Hello

UID = uuid.UUID(int=7)


def add_hosts(cib: Cib) -> None:
    for name, address in (("h1", "10.10.0.1"), ("dns", "10.10.0.3")):
        host = cib.add_host(name)
        host.describe(
            Hello(host=name, boot_id="b", kernel="k", targets=["bpf"], addresses=[address])
        )
        host.generation, host.desired = 5, "x"
        cib.note_host(host)


def plan_for(cib: Cib, folder: Path, wanted: Intent) -> Plan:
    make_module(folder)
    manifest = load(folder / "idle" / "manifest.toml")
    return make_plan(wanted, manifest, {n: h.facts() for n, h in cib.hosts().items()}, UID)


def add_intent(cib: Cib, folder: Path, wanted: Intent) -> IntentState:
    plan = plan_for(cib, folder, wanted)
    state = IntentState(wanted.name, wanted, list(plan.mirrors))
    first = new_deployment(state, UID, "first")
    first.fill(plan.customizations)
    cib.add_intent(state)
    cib.add_deployment(state, first)
    return state


def test_everything_is_there_again(tmp_path: Path, database_url: str) -> None:
    wanted = Intent.model_validate(intent(middlebox={"host": "h1"}, parameters={}))
    with opened(database_url) as (cib, database):
        add_hosts(cib)
        state = add_intent(cib, tmp_path, wanted)
        commit(cib, database)
        (first,) = state.deployments
        first.phase = Phase.RECEIVE
        cib.note_deployment(first)
        state.left_out = {"h9": "gone"}
        cib.note_intent(state)
        cib.hosts()["h1"].generation = 2**62 + 1
        cib.note_number(cib.hosts()["h1"])
        cib.number_steering("something")
        commit(cib, database)
        assert cib.take_changes() is None
    with opened(database_url) as (cib, _):
        again = cib.intent("tag")
        assert again is not None
        assert (again.phase, again.intent, again.left_out) == (
            Phase.RECEIVE,
            wanted,
            {"h9": "gone"},
        )
        assert again.mirrors == state.mirrors
        (stored,) = again.deployments
        assert list(stored.planned()) == list(first.planned())
        assert stored.unbuilt == first.unbuilt
        generations = {name: host.generation for name, host in cib.hosts().items()}
        assert generations == {"h1": 2**62 + 1, "dns": 5}
        assert cib.hosts()["h1"].facts().addresses == ("10.10.0.1",)
        assert list(cib.hosts()["dns"].deployments.values()) == [stored]
        assert cib.steering().generation == 1


def test_what_changes_after_it_was_taken_is_not_in_a_commit(
    tmp_path: Path, database_url: str
) -> None:
    with opened(database_url) as (cib, database):
        add_hosts(cib)
        change = cib.take_changes()
        assert change is not None
        cib.hosts()["h1"].generation = 99
        database.submit(change).result()
    with opened(database_url) as (cib, _):
        assert cib.hosts()["h1"].generation == 5


def test_customizations_move_between_deployments(tmp_path: Path, database_url: str) -> None:
    with opened(database_url) as (cib, database):
        add_hosts(cib)
        state = add_intent(cib, tmp_path, Intent.model_validate(intent()))
        commit(cib, database)
        (first,) = state.deployments
        everything = {item.id for item in first.planned()}
        left = new_deployment(state, uuid.UUID(int=8), "left", first, Phase.REMOVE)
        left.fill(cib.take_items(first, everything))
        cib.add_deployment(state, left)
        cib.drop_deployment(state, first)
        commit(cib, database)
    with opened(database_url) as (cib, _):
        again = cib.intent("tag")
        assert again is not None
        assert [one.kind for one in again.deployments] == ["left"]
        assert {item.id for item in again.deployments[0].planned()} == everything
        assert set(cib.hosts()["h1"].deployments) == {uuid.UUID(int=8).hex}


def durability(database: Database) -> dict[str, object]:
    names = ("journal_mode", "synchronous", "foreign_keys")
    return database.read(
        lambda session: {
            name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in names
        }
    ).result()


def test_it_is_a_durable_database(tmp_path: Path) -> None:
    with opened(tmp_path / "nco.db") as (_, database):
        assert durability(database) == {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
        }


def test_an_intent_of_unknown_hosts_cannot_be_stored(tmp_path: Path, database_url: str) -> None:
    with opened(database_url) as (cib, database):
        add_hosts(cib)
        add_intent(cib, tmp_path, Intent.model_validate(intent()))
        for host in cib.hosts().values():
            host.stored = True
        change = cib.take_changes()
        assert change is not None
        with pytest.raises(IntegrityError):
            database.submit(change).result()
    with opened(database_url) as (cib, _):
        assert cib.intents() == []


def test_an_intent_that_is_not_over_cannot_be_replaced(tmp_path: Path, database_url: str) -> None:
    wanted = Intent.model_validate(intent())
    with opened(database_url) as (cib, database):
        add_hosts(cib)
        state = add_intent(cib, tmp_path, wanted)
        commit(cib, database)
        with pytest.raises(ValueError, match="phase building"):
            add_intent(cib, tmp_path, wanted)
        state.deployments[0].phase = Phase.FAILED
        add_intent(cib, tmp_path, wanted)
        commit(cib, database)
        assert len(cib.intents()) == 1
