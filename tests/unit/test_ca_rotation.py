"""No host loses its way back while the CA is replaced: whatever is lost, whoever dies, whenever."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller import authorities, ca_rotation
from controller.authorities import Authorities, Phase
from controller.errors import Conflict
from controller.holders import Held
from tests.unit.ca_kit import (
    WRITES,
    Host,
    KilledError,
    Nco,
    come,
    dying,
    enrolled,
    fresh,
    install,
    made,
    play,
    renewed,
    turned_back,
)

LOST = st.lists(
    st.sampled_from(["nothing", "nothing", "nothing", "nothing", "answer", "telling"]),
    min_size=4,
    max_size=4,
)


AWAY = st.sampled_from([set(), set(), {0}, {1}])


class Rotations(RuleBasedStateMachine):
    """Operators, hosts, lost messages and `kill -9`, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(ca_rotation, "ASK_AGAIN", 0.0)
        self.nco = Nco(made(Path(self.folder.name)))
        self.hosts: list[Host] = []

    def teardown(self) -> None:
        try:
            self.everybody_is_well()
        finally:
            self.patch.undo()
            self.nco.close()
            self.folder.cleanup()

    @initialize()
    def some_hosts(self) -> None:
        self.hosts = [enrolled(self.nco, name) for name in ("h0", "h1")]

    @precondition(lambda self: len(self.hosts) < 4)
    @rule()
    def enrol(self) -> None:
        self.hosts.append(enrolled(self.nco, f"h{len(self.hosts)}"))

    @rule(rounds=st.lists(st.tuples(AWAY, LOST), min_size=1, max_size=4))
    def time_goes_by(self, rounds: list[tuple[set[int], list[str]]]) -> None:
        for away, lost in rounds:
            self.round(away, lost)
            self.all_can_come_back()

    def round(self, away: set[int], lost: list[str]) -> None:
        """Nearly all hosts come; who is asked renews, and something may be lost of that."""
        for number, host in enumerate(self.hosts):
            if number not in away and not host.online and not host.revoked:
                come(self.nco, host)
        asyncio.run(self.nco.rotation.look())
        for host, what in zip(self.hosts, lost, strict=False):
            if host.online and host.asked:
                self.renew(host, what)

    def renew(self, host: Host, lost: str) -> None:
        host.asked.clear()
        answer = renewed(self.nco, host)
        if answer.certificate and lost != "answer":
            install(self.nco, host, answer)
        if lost == "nothing":
            asyncio.run(self.nco.rotation.told(host.name, host, host.holds()))
        else:
            self.leave(host)

    @precondition(lambda self: len(self.hosts) > 2)
    @rule()
    def revoke(self) -> None:
        host = self.hosts[-1]
        asyncio.run(self.nco.identities.revoke(host.name))
        host.revoked = True
        self.leave(host)

    @precondition(lambda self: self.nco.now.rotation is None)
    @rule()
    def begin(self) -> None:
        asyncio.run(self.nco.rotation.begin())

    @precondition(lambda self: self.nco.now.rotation is not None)
    @rule(sure=st.sampled_from([False, False, True]))
    def turn_back(self, sure: bool) -> None:
        if sure:
            asyncio.run(turned_back(self.nco))

    @rule(
        at=st.integers(1, WRITES),
        after=st.booleans(),
        what=st.sampled_from(["look", "look", "ask"]),
    )
    def die(self, at: int, after: bool, what: str) -> None:
        """Die within a step, if there is one to take now."""
        rotation = self.nco.rotation
        jobs: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "look": rotation.look,
            "ask": rotation.begin
            if self.nco.now.rotation is None
            else lambda: turned_back(self.nco),
        }
        with dying(self.patch, at, after=after), contextlib.suppress(KilledError):
            asyncio.run(jobs[what]())
        self.kill()

    @rule()
    def kill(self) -> None:
        state = self.nco.state
        self.nco.close()
        for host in self.hosts:
            host.online = False
            host.asked.clear()
        self.nco = Nco(state)

    def leave(self, host: Host) -> None:
        host.online = False
        host.asked.clear()
        self.nco.rotation.left(host.name, host)

    @invariant()
    def all_can_come_back(self) -> None:
        state = self.nco.state
        for now in (self.nco.now, authorities.load(state, state.load_config())):
            for host in self.hosts:
                if not host.revoked:
                    assert now.signing.id in host.trusts, f"{host.name} does not believe the NCO"
                    assert host.issuer in now.ids, f"{host.name} is not let in"

    def everybody_is_well(self) -> None:
        """Let all be there and answer: it comes to its end."""
        for _ in range(12):
            for host in self.hosts:
                if not host.online and not host.revoked:
                    come(self.nco, host)
            asyncio.run(self.nco.rotation.look())
            for host in self.hosts:
                if host.asked:
                    host.asked.clear()
                    install(self.nco, host, renewed(self.nco, host))
                    asyncio.run(self.nco.rotation.told(host.name, host, host.holds()))
            self.all_can_come_back()
        assert self.nco.now.rotation is None
        assert not self.nco.state.ca_rotation.exists()
        alone = Authorities(self.nco.now.signing)
        for host in self.hosts:
            if not host.revoked:
                assert Held(host.trusts, host.issuer).is_up_to_date(alone)


TestRotations = Rotations.TestCase
TestRotations.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


nco = pytest.fixture(fresh)


def test_the_old_ca_stays_while_a_host_may_have_a_certificate_of_it(nco: Nco) -> None:
    hosts = [enrolled(nco, "h0"), enrolled(nco, "h1")]
    old = nco.now.signing.id
    asyncio.run(nco.rotation.begin())
    play(nco, hosts, "nothing", "nothing")
    assert nco.rotation.missing() == []
    play(nco, hosts, "nothing", "answer")
    assert nco.now.signing.id != old
    asyncio.run(nco.rotation.look())
    assert [one.host for one in nco.rotation.missing()] == ["h1"]
    assert hosts[1].issuer == old
    assert old in nco.now.ids
    play(nco, hosts, "nothing", "nothing")
    asyncio.run(nco.rotation.look())
    assert nco.now.ids == {hosts[1].issuer}


def test_going_back_waits_for_a_host_that_may_have_a_certificate_of_the_new_ca(nco: Nco) -> None:
    """It got one, and nobody knows."""
    hosts = [enrolled(nco, "h0"), enrolled(nco, "h1")]
    old = nco.now.signing.id
    asyncio.run(nco.rotation.begin())
    play(nco, hosts, "nothing", "nothing")
    play(nco, hosts, "nothing", "telling")
    new = nco.now.signing.id
    assert hosts[1].issuer == new != old
    asyncio.run(turned_back(nco))
    asyncio.run(nco.rotation.look())
    assert nco.now.signing.id == old, "all trust it"
    asyncio.run(nco.rotation.look())
    assert new in nco.now.ids
    assert "h1" in {one.host for one in nco.rotation.missing()}
    play(nco, hosts, "nothing", "nothing")
    asyncio.run(nco.rotation.look())
    assert nco.now.ids == {old}
    assert hosts[1].issuer == old


def test_a_step_is_not_taken_from_where_who_asks_did_not_see_it(nco: Nco) -> None:
    """It went on by itself meanwhile, or the answer to the first time was lost."""
    hosts = [enrolled(nco, "h0"), enrolled(nco, "h1")]
    asyncio.run(nco.rotation.begin())
    play(nco, hosts, "nothing", "nothing")
    assert nco.now.rotation is not None
    before = nco.now.rotation.stage
    asyncio.run(nco.rotation.look())
    retire = nco.now
    assert retire.rotation is not None
    assert retire.rotation.phase == Phase.RETIRE
    for ask in (nco.rotation.finish, nco.rotation.abort):
        for seen in (before, None):
            with pytest.raises(Conflict, match="nco ca show"):
                asyncio.run(ask(seen))
        assert nco.now is retire
    asyncio.run(nco.rotation.abort(retire.rotation.stage))
    assert nco.now.rotation is not None
    with pytest.raises(Conflict, match="going back"):
        asyncio.run(nco.rotation.finish(before))
    assert [one.host for one in asyncio.run(nco.rotation.finish(nco.now.rotation.stage))] == []
