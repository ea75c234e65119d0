"""The agent as a process on the real tap: real `dig`, real TLS, an NCO that the test plays."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mininet_topos.namespaces import inside
from tests.system.bpf.kit import SERVER, TIMEOUT, unique, veth_pair
from tests.unit.agent_kit import Network, ScriptedNco, Session, desired, scripted, signed
from wire.artifact import Artifact
from wire.match import Match
from wire.messages import ArtifactData, Customization, Hello, Need, Report

pytestmark = pytest.mark.system

DCA = str(Path(sys.executable).parent / "dca")
TAGGED = b"XTAGdig\0"

Life = subprocess.Popen[bytes]


class Site:
    """A client's namespace in which `dca` and `dig` run, and a wire to a name server's socket."""

    def __init__(self, folder: Path, run: Path, module: Artifact, server: socket.socket) -> None:
        self.network = Network(folder)
        self.code = module.message(module.sign(self.network.signer))
        self._folder = folder
        self._run = run
        self._server = server

    def tags(self, artifact: ArtifactData | None = None, number: int = 1) -> Customization:
        """Return the customization that tags what dig sends."""
        code = artifact or self.code
        return Customization(
            id=f"{number:032x}",
            intent="tag",
            module=code.name,
            digest=code.digest,
            target="bpf",
            match=Match(transport="udp", process="dig", remote_port=53),
            receive=False,
            send=True,
        )

    def dca(self, *arguments: str, code: int = 0) -> str:
        """Return what the command prints where it ends with `code`."""
        command = [DCA, *arguments, "--run-dir", self._run]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        assert done.returncode == code
        return done.stdout.strip()

    def query(self) -> bytes:
        """Let dig ask; return how its query begins on the wire."""
        dig = subprocess.Popen(["dig", "+time=1", "+tries=1", f"@{SERVER}", "example.org"])
        try:
            return self._server.recv(2048)[: len(TAGGED)]
        finally:
            dig.kill()
            dig.wait()

    def _start(self, nco: ScriptedNco) -> Life:
        return subprocess.Popen(
            [
                *(DCA, "run", "--nco", str(nco.address), "--run-dir", self._run),
                *("--credentials", self.network.host.folder, "--state", self._folder / "state"),
            ]
        )

    @asynccontextmanager
    async def agent(self, nco: ScriptedNco) -> AsyncIterator[tuple[Life, Session, Hello]]:
        """Run `dca run` until it has greeted, and as long as the caller wants."""
        process = self._start(nco)
        try:
            session = await nco.session()
            hello = await session.receive(Hello)
            session.greet()
            await session.receive(Report)
            yield process, session, hello
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def site(tmp_path: Path, tap_run: Path, artifacts: dict[str, Artifact]) -> Iterator[Site]:
    with veth_pair(unique("dcax"), offload=True) as (client, server):
        with inside(server):
            name_server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with name_server, inside(client):
            name_server.bind((SERVER, 53))
            name_server.settimeout(TIMEOUT)
            yield Site(tmp_path, tap_run, artifacts["dns_app_tag"], name_server)


async def supply(session: Session, *customizations: Customization, code: ArtifactData) -> Report:
    """Want these under generation 1 and give the code that the agent asks for."""
    session.send(desired(1, *customizations))
    await session.receive(Need)
    session.send(code)
    return await session.receive(Report)


def test_a_killed_agent_loses_no_customization_and_adopts_it_when_it_is_back(site: Site) -> None:
    async def play() -> None:
        async with scripted(site.network.nco) as nco:
            async with site.agent(nco) as (life, session, hello):
                assert (hello.tap, hello.generation) == ("bpf", 0)
                assert site.query() != TAGGED
                report = await supply(session, site.tags(), code=site.code)
                assert (report.generation, report.error) == (1, None)
                assert site.query() == TAGGED
                life.send_signal(signal.SIGKILL)
                life.wait()
                assert site.query() == TAGGED
            async with site.agent(nco) as (_, session, hello):
                assert hello.generation == 1
                assert site.query() == TAGGED
                report = await session.receive(Report)
                assert report.customizations[0].counters.sent >= 2
                session.send(desired(2))
                while (report := await session.receive(Report)).generation != 2:
                    pass
                assert report.customizations == []
                assert site.query() != TAGGED

    asyncio.run(play())


def test_code_that_the_kernel_refuses_leaves_the_last_good_set(site: Site) -> None:
    nonsense = signed(site.network.signer, "dns_app_tag", b"\x7fELF, or what looks like it")

    async def play() -> None:
        async with scripted(site.network.nco) as nco, site.agent(nco) as (_, session, _hello):
            await supply(session, site.tags(), code=site.code)
            session.send(desired(2, site.tags(), site.tags(nonsense, 2)))
            assert (await session.receive(Need)).digests == [nonsense.digest]
            session.send(nonsense)
            report = await session.receive(Report)
            assert (report.generation, report.refused) == (1, 2)
            assert "not a BPF object" in (report.error or "")
            assert site.query() == TAGGED

    asyncio.run(play())


def test_what_is_taken_away_beside_a_running_agent_is_put_back(site: Site) -> None:
    async def play() -> None:
        async with scripted(site.network.nco) as nco, site.agent(nco) as (_, session, _hello):
            await supply(session, site.tags(), code=site.code)
            site.dca("reset")
            assert (await session.receive(Report)).generation == 0
            assert (await session.receive(Report)).generation == 1
            assert site.query() == TAGGED

    asyncio.run(play())


def test_an_agent_that_is_asked_to_leave_leaves_its_customizations_until_reset(
    site: Site,
) -> None:
    async def play() -> None:
        async with scripted(site.network.nco) as nco, site.agent(nco) as (life, session, _hello):
            await supply(session, site.tags(), code=site.code)
            life.send_signal(signal.SIGTERM)
            assert life.wait() == 0

    asyncio.run(play())
    assert site.query() == TAGGED
    assert site.dca("reset") == "Customizations taken away from this network namespace: 1"
    assert site.query() != TAGGED


def test_a_tap_that_is_unloaded_beside_a_running_agent_is_told(site: Site) -> None:
    async def play() -> None:
        async with scripted(site.network.nco) as nco, site.agent(nco) as (_, session, _hello):
            await supply(session, site.tags(), code=site.code)
            assert site.dca("tap", "load", "--tap", "bpf") == "The bpf tap was loaded already."
            assert site.dca("tap", "unload").startswith("The bpf tap is unloaded")
            assert site.dca("tap", "status", code=1).startswith("No tap is loaded")
            while (report := await session.receive(Report)).refused is None:
                assert report.generation == 0
            assert "not installed" in (report.error or "")
            assert site.query() != TAGGED

    asyncio.run(play())
