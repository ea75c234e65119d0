"""The agent from the NCO's side: real TLS, the real disk, a tap in memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controller.certificates import new_authority, pem
from host_agent import host
from host_agent.agent import OBSERVE_SECONDS, Agent
from host_agent.store import Store
from host_agent.tap import TapError
from host_agent.taps import Taps
from tests.unit.agent_kit import (
    MemoryTap,
    Network,
    ScriptedNco,
    Session,
    background,
    customization,
    desired,
    eventually,
    scripted,
    signed,
)
from tests.waiting import PATIENCE
from wire.messages import (
    ArtifactData,
    Desired,
    Heartbeat,
    Hello,
    Holds,
    Need,
    Renew,
    Renewed,
    RenewNow,
    Report,
)


class Bench:
    """One host: its network's credentials, its state folder, its tap."""

    def __init__(self, folder: Path) -> None:
        self.network = Network(folder)
        self.state = folder / "state"
        self.tap: MemoryTap | None = MemoryTap()
        self.tap_error: str | None = None

    async def run(self, nco: ScriptedNco) -> None:
        """Run one life of the agent."""
        store = Store(self.state)
        try:
            faults = {"bpf": self.tap_error} if self.tap_error else None
            taps = Taps([self.tap] if self.tap else [], faults)
            agent = Agent(nco.address, self.network.host, store, taps)
            await agent.run()
        finally:
            store.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def greeted(nco: ScriptedNco) -> tuple[Session, Hello]:
    """Return a session in which the agent and the NCO have greeted, and its snapshot came."""
    session = await nco.session()
    hello = await session.receive(Hello)
    session.greet()
    await session.receive(Report)
    return session, hello


async def supply(session: Session, want: Desired, *artifacts: ArtifactData) -> Report:
    """Send a set, then the artifacts that the agent must ask for; return its report."""
    session.send(want)
    need = await session.receive(Need)
    assert need.digests == [artifact.digest for artifact in artifacts]
    session.send(*artifacts)
    return await session.receive(Report)


def test_a_set_is_fetched_applied_reported_and_saved(bench: Bench) -> None:
    code = bench.network.artifact()
    want = desired(1, customization(code))

    async def play() -> None:
        async with scripted(bench.network.nco) as nco, background(bench.run(nco)):
            session, hello = await greeted(nco)
            assert (hello.host, hello.generation, hello.targets) == ("h1", 0, ["bpf"])
            assert hello.boot_id == host.boot_id()
            report = await supply(session, want, code)
            assert (report.generation, report.refused, report.error) == (1, None, None)
            assert [s.id for s in report.customizations] == [want.customizations[0].id]

    asyncio.run(play())
    assert bench.tap is not None
    assert bench.tap.sets == [want.customizations]
    store = Store(bench.state)
    saved = store.load(bench.network.host.signer_key())
    store.close()
    assert saved is not None
    assert (saved.desired, saved.artifacts) == (want, (code,))


def test_an_nco_that_was_killed_finds_the_agent_again_and_nothing_is_applied_twice(
    bench: Bench,
) -> None:
    code = bench.network.artifact()
    want = desired(1, customization(code))

    async def play() -> None:
        async with scripted(bench.network.nco) as nco, background(bench.run(nco)):
            session, _ = await greeted(nco)
            await supply(session, want, code)
            nco.kill()
            await session.ended()
            await nco.start()
            session, hello = await greeted(nco)
            assert hello.generation == 1
            session.send(want)
            assert (await session.receive(Report)).generation == 1

    asyncio.run(play())
    assert bench.tap is not None
    assert bench.tap.sets == [want.customizations]


def test_an_altered_artifact_is_refused_and_the_last_good_set_stays(bench: Bench) -> None:
    good, other = bench.network.artifact(), bench.network.artifact(data=b"other code")
    first = desired(1, customization(good))

    async def play() -> None:
        async with scripted(bench.network.nco) as nco, background(bench.run(nco)):
            session, _ = await greeted(nco)
            await supply(session, first, good)
            altered = other.model_copy(update={"data": b"evil code"})
            session.send(desired(2, customization(other)))
            await session.receive(Need)
            session.send(altered)
            report = await session.receive(Report)
            assert (report.generation, report.refused) == (1, 2)
            assert report.error is not None
            assert "does not have the digest" in report.error
            assert [s.digest for s in report.customizations] == [good.digest]

    asyncio.run(play())
    assert bench.tap is not None
    assert set(bench.tap.loaded) == {good.digest}
    assert bench.tap.sets == [first.customizations]


def test_an_artifact_of_another_signer_is_refused(bench: Bench) -> None:
    forged = signed(Ed25519PrivateKey.generate(), "dns_app_tag", b"code")

    async def play() -> None:
        async with scripted(bench.network.nco) as nco, background(bench.run(nco)):
            session, _ = await greeted(nco)
            report = await supply(session, desired(1, customization(forged)), forged)
            assert (report.generation, report.refused) == (0, 1)
            assert report.error == "artifact dns_app_tag: not signed by this NCO"

    asyncio.run(play())
    assert bench.tap is not None
    assert bench.tap.loaded == {}


@pytest.mark.parametrize(
    ("fault", "words"),
    [(TapError("verifier: no"), "verifier: no"), (KeyError("x"), "the tap driver failed")],
)
def test_what_the_tap_cannot_do_is_refused_and_can_be_had_later(
    bench: Bench, fault: Exception, words: str
) -> None:
    code = bench.network.artifact()
    first, second = (
        desired(1, customization(code)),
        desired(2, customization(code), customization(code, 2)),
    )
    tap = bench.tap
    assert tap is not None

    async def play() -> None:
        async with scripted(bench.network.nco) as nco, background(bench.run(nco)):
            session, _ = await greeted(nco)
            await supply(session, first, code)
            tap.fault = fault
            session.send(second)
            report = await session.receive(Report)
            assert (report.generation, report.refused) == (1, 2)
            assert words in (report.error or "")
            tap.fault = None
            session.send(second)
            report = await session.receive(Report)
            assert (report.generation, report.refused, report.error) == (2, None, None)

    asyncio.run(play())
    assert tap.sets == [first.customizations, second.customizations]


def test_without_a_tap_the_agent_connects_and_says_why(bench: Bench) -> None:
    bench.tap, bench.tap_error = None, "no BTF in this kernel"

    async def play() -> None:
        async with scripted(bench.network.nco) as nco, background(bench.run(nco)):
            session, hello = await greeted(nco)
            assert (hello.tap, hello.tap_error) == (None, "bpf: no BTF in this kernel")
            assert hello.targets == []
            session.send(desired(1))
            assert (await session.receive(Report)).generation == 1
            session.send(desired(2, customization(bench.network.artifact())))
            report = await session.receive(Report)
            assert (report.generation, report.refused) == (1, 2)
            assert report.error == "no tap works on this host: bpf: no BTF in this kernel"

    asyncio.run(play())


def test_an_agent_that_starts_again_adopts_what_runs(bench: Bench) -> None:
    code = bench.network.artifact()
    want = desired(4, customization(code))

    async def play() -> None:
        async with scripted(bench.network.nco) as nco:
            async with background(bench.run(nco)):
                session, _ = await greeted(nco)
                await supply(session, want, code)
            async with background(bench.run(nco)):
                session = await nco.session()
                assert (await session.receive(Hello)).generation == 4
                session.greet()
                report = await session.receive(Report)
                assert [s.id for s in report.customizations] == [want.customizations[0].id]

    asyncio.run(play())
    assert bench.tap is not None
    assert bench.tap.sets == [want.customizations]


def test_an_agent_that_starts_beside_an_unknown_set_claims_no_generation(bench: Bench) -> None:
    code = bench.network.artifact()
    tap = bench.tap
    assert tap is not None
    tap.sets.append([customization(code, 9)])

    async def play() -> None:
        async with scripted(bench.network.nco) as nco, background(bench.run(nco)):
            session = await nco.session()
            assert (await session.receive(Hello)).generation == 0
            session.greet()
            assert [s.id for s in (await session.receive(Report)).customizations] == [f"{9:032x}"]

    asyncio.run(play())
    assert len(tap.sets) == 1


def test_after_a_reboot_the_set_is_restored_without_sending_until_the_nco_confirms(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = bench.network.artifact()
    want = desired(7, customization(code))

    async def play() -> None:
        async with scripted(bench.network.nco) as nco:
            async with background(bench.run(nco)):
                session, _ = await greeted(nco)
                await supply(session, want, code)
            rebooted = bench.tap = MemoryTap()
            monkeypatch.setattr(host, "boot_id", lambda: "another boot")
            async with background(bench.run(nco)):
                session = await nco.session()
                await eventually(lambda: rebooted.sets)
                quiet = [c.model_copy(update={"send": False}) for c in want.customizations]
                assert rebooted.sets == [quiet]
                assert (await session.receive(Hello)).generation == 0
                session.greet()
                session.send(want)
                while (report := await session.receive(Report)).generation == 0:
                    assert [s.send for s in report.customizations] == [False]
                assert (report.generation, [s.send for s in report.customizations]) == (7, [True])
            assert rebooted.sets == [quiet, want.customizations]

    asyncio.run(play())


@pytest.mark.parametrize("heartbeat", [0.2, 10 * PATIENCE])
def test_changed_counters_are_reported_however_long_the_heartbeat_is(
    bench: Bench, heartbeat: float
) -> None:
    code = bench.network.artifact()
    tap = bench.tap
    assert tap is not None

    async def play() -> None:
        async with scripted(bench.network.nco) as nco, background(bench.run(nco)):
            session = await nco.session()
            await session.receive(Hello)
            session.greet(heartbeat)
            await supply_after_snapshot(session)
            if heartbeat < OBSERVE_SECONDS:  # and silence is filled
                assert (await session.receive(Heartbeat)).generation == 1
            tap.sent = 42
            report = await session.receive(Report)
            assert (report.generation, report.customizations[0].counters.sent) == (1, 42)

    async def supply_after_snapshot(session: Session) -> None:
        await session.receive(Report)
        await supply(session, desired(1, customization(code)), code)

    asyncio.run(play())


def test_customizations_that_someone_else_takes_away_are_told_and_put_back(
    bench: Bench,
) -> None:
    code = bench.network.artifact()
    tap = bench.tap
    assert tap is not None

    async def play() -> None:
        async with scripted(bench.network.nco) as nco, background(bench.run(nco)):
            session, _ = await greeted(nco)
            await supply(session, desired(1, customization(code)), code)
            tap.stop()
            report = await session.receive(Report)
            assert (report.generation, report.customizations) == (0, [])
            assert report.error == "someone else changed the customizations of generation 1"
            report = await session.receive(Report)
            assert (report.generation, report.error) == (1, None)

    asyncio.run(play())
    assert tap.running == [customization(code)]


def test_a_tap_that_cannot_be_read_any_more_is_told(bench: Bench) -> None:
    code = bench.network.artifact()
    tap = bench.tap
    assert tap is not None

    async def play() -> None:
        async with scripted(bench.network.nco) as nco, background(bench.run(nco)):
            session, _ = await greeted(nco)
            await supply(session, desired(1, customization(code)), code)
            tap.gone = TapError("the tap is not installed")
            while (report := await session.receive(Report)).refused is None:
                assert report.generation == 0
            assert (report.refused, report.error) == (1, "the tap is not installed")

    asyncio.run(play())


def test_an_agent_renews_when_it_is_asked_to_and_says_what_it_has(bench: Bench) -> None:
    """It gets another CA besides, and the session goes on."""
    here = bench.network.host
    both = here.ca.read_bytes() + pem(new_authority(datetime.now(UTC)).certificate)

    async def play() -> None:
        async with scripted(bench.network.nco) as nco, background(bench.run(nco)):
            session = await nco.session()
            await session.receive(Hello)
            session.greet()
            before = await session.receive(Holds)
            assert before.authorities == [before.issuer]
            session.send(RenewNow())
            asked = await session.receive(Renew)
            session.send(Renewed(certificate=bench.network.certificate(asked.request), ca=both))
            after = await session.receive(Holds)
            assert len(after.authorities) == 2
            assert after.issuer == before.issuer
            assert here.ca.read_bytes() == both
            nco.kill()
            await nco.start()
            session = await nco.session()
            await session.receive(Hello)
            session.greet()
            assert await session.receive(Holds) == after

    asyncio.run(play())
