"""The orchestrator over a real CIB with scripted hosts, in a time of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controller.artifacts import ArtifactStore
from controller.cib import Cib, read_all
from controller.database import Database
from controller.history import History
from controller.intent import Intent
from controller.model import IntentState
from controller.modules import ModuleLibrary
from controller.orchestrator import Orchestrator
from controller.phases import Phase
from tests.unit.agent_kit import status
from tests.unit.nco_kit import intent, make_module
from wire.artifact import Artifact
from wire.messages import Customization, Desired, Hello, NcoMessage, Report, Target

LINGER = 10.0
ROUNDS = 200
"""After which whatever goes on should have come to its end."""
HOSTS = {"h1": "10.10.0.1", "h2": "10.10.0.2", "dns": "10.10.0.3"}
INTENTS = {
    "one": Intent.model_validate(intent("one", client=[{"host": "h1"}, {"host": "h2"}])),
    "two": Intent.model_validate(intent("two", port=5353, priority=7)),
}


@dataclass(eq=False)
class Host:
    """A host: what its kernel has, and its agent's connection."""

    name: str
    generation: int = 0
    applied: dict[str, Customization] = field(default_factory=dict)
    inbox: list[Desired] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    connected: bool = False
    address: str = ""
    addresses: list[str] = field(default_factory=list)
    """Those that it says now, if they are others than at first."""
    gone: bool = False
    """Whether its agent never comes by itself."""
    kernel: str = "6.1.0"
    targets: list[Target] = field(default_factory=lambda: ["bpf"])

    def send(self, message: NcoMessage) -> None:
        assert isinstance(message, Desired)
        self.inbox.append(message)
        self.seen.append(message.generation)

    def refuse(self, reason: str) -> None:
        raise AssertionError(f"{self.name} closed: {reason}")

    def hello(self) -> Hello:
        return Hello(
            host=self.name,
            boot_id="b",
            kernel=self.kernel,
            tap="bpf",
            targets=self.targets,
            addresses=self.addresses or [self.address or HOSTS[self.name]],
            generation=self.generation,
        )

    def report(self, refused: int | None = None) -> Report:
        return Report(
            generation=self.generation,
            refused=refused,
            error="it does not fit" if refused is not None else None,
            customizations=[status(c) for c in self.applied.values()],
        )


def each(what: str, arguments: Iterable[str]) -> list[tuple[str, str]]:
    """Return what can happen to each of these."""
    return [(what, argument) for argument in arguments]


def the(world: World, name: str = "one") -> IntentState:
    """Return an intent that is there."""
    state = world.cib.intent(name)
    assert state is not None
    return state


class Checked(Protocol):
    """What must be so at every moment."""

    def check(self) -> None: ...


class World:
    """Hosts, a clock, and an orchestrator that can be killed and started again."""

    def __init__(self, folder: Path, database_url: str | None = None) -> None:
        self.folder = folder
        self._database_url = database_url or f"sqlite:///{folder}/nco.db"
        self.now = 0.0
        self.set_forward = 0.0
        """What somebody did to the clock on the wall."""
        self.hosts = {name: Host(name) for name in HOSTS}
        make_module(folder / "modules")
        (folder / "artifacts").mkdir()
        self.start()

    def start(self) -> None:
        self.database = Database(self._database_url)
        self.cib = Cib(self.database.read(read_all).result())
        signer = Ed25519PrivateKey.generate()
        self.artifacts = ArtifactStore(self.cib, self.database, self.folder / "artifacts", signer)
        self.nco = Orchestrator(
            self.cib,
            ModuleLibrary(self.folder / "modules"),
            self.artifacts,
            History(lambda: self.now),
            control=("10.10.0.5", 4545),
            linger=LINGER,
            clock=lambda: self.now,
            wall=lambda: self.now + self.set_forward,
            changed=lambda: None,
        )

    def kill(self) -> None:
        """Lose everything that was not committed, and all connections."""
        self.close()
        for host in self.hosts.values():
            host.connected = False
            host.inbox.clear()
        self.start()

    def close(self) -> None:
        self.database.close()

    def add_host(self, name: str, address: str) -> None:
        self.hosts[name] = Host(name, address=address)

    def connect(self, name: str) -> None:
        host = self.hosts[name]
        host.connected = True
        self.nco.connected(host, host.hello())

    def disconnect(self, name: str) -> None:
        host = self.hosts[name]
        host.connected = False
        host.inbox.clear()
        self.nco.disconnected(name, host)

    def answer(self, name: str, *, refuse: bool = False) -> None:
        """Let a host handle the oldest desired state it was sent."""
        host = self.hosts[name]
        desired = host.inbox.pop(0)
        if refuse:
            self.nco.reported(name, host, host.report(refused=desired.generation))
            return
        host.applied = {c.id: c for c in desired.customizations}
        host.generation = desired.generation
        self.nco.reported(name, host, host.report())

    def build(self) -> None:
        for order in self.nco.to_build():
            digests = {}
            for platform in order.platforms:
                code = f"code for {platform}".encode()
                artifact = Artifact(order.module, "1.0.0", platform.target, code, platform.kernel)
                key = f"key of {order.module} for {platform}"
                digests[platform] = asyncio.run(self.artifacts.put(key, artifact))
            self.nco.built(order, digests)

    def settle(self) -> None:
        settled = self.nco.settle()
        if settled.store is not None:
            self.database.submit(settled.store).result()
        self.nco.committed()

    def saver(self) -> asyncio.Future[None]:
        """Return what a caller waits for who changed something."""
        loop = asyncio.new_event_loop()
        saver: asyncio.Future[None] = loop.create_future()
        self.nco._savers.append(saver)
        loop.close()
        return saver

    def happen(self, what: str, argument: str) -> None:
        """Let one thing happen, to the host `argument` where there is one, else to the NCO."""
        host = self.hosts.get(argument)
        if host is not None and what == "come or go":
            (self.disconnect if host.connected else self.connect)(argument)
        elif host is not None and what in ("answer", "refuse"):
            if host.inbox:
                self.answer(argument, refuse=what == "refuse")
        elif what == "build":
            self.build()
        elif what == "build fails":
            for order in self.nco.to_build():
                self.nco.build_failed(order, "no")
        elif what == "wait":
            self.now += float(argument)
        elif what == "kill the service":
            self.kill()
        elif what == "lose the commit":
            self.nco.settle()
            self.restore("lost")
        else:
            raise ValueError(f"{what} {argument}")

    def restore(self, reason: str) -> None:
        """Do what is done after a commit that failed."""
        self.nco.restore(self.database.read(read_all).result(), reason)

    def run_down(self, safety: Checked | None = None) -> None:
        """Let everyone be well and wait, until nothing happens any more; fail if it never does."""
        quiet = 0
        for _ in range(ROUNDS):
            before = self._picture()
            self.build()
            self.settle()
            for name, host in self.hosts.items():
                if not host.connected and not host.gone:
                    self.connect(name)
                while host.inbox:
                    self.answer(name)
                    if safety:
                        safety.check()
            self.now += LINGER
            quiet = quiet + 1 if self._picture() == before else 0
            if quiet == 2:
                return
        raise AssertionError(f"there is no end to it: {self._picture()}")

    def _picture(self) -> object:
        """Return all that changes while anything happens; a drain or a refusal takes a round."""
        phases = [(one.uid, one.phase) for state in self.cib.intents() for one in state.deployments]
        return phases, [(host.connected, host.generation) for host in self.hosts.values()]

    def phase(self, name: str) -> Phase | None:
        row = self.cib.intent(name)
        return row.phase if row else None


class Safety:
    """Checks the promise of the phases on what the hosts really have."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last_sent: dict[str, float] = {}

    def check(self) -> None:
        hosts = self._world.hosts.values()
        received = {c.intent for c in self._world.hosts["dns"].applied.values() if c.receive}
        for intent_name in {c.intent for host in hosts for c in host.applied.values() if c.send}:
            assert intent_name in received, f"{intent_name} is sent and not understood"
            self._last_sent[intent_name] = self._world.now
        for intent_name, last_sent in self._last_sent.items():
            lingered = self._world.now >= last_sent + LINGER
            assert intent_name in received or lingered, f"{intent_name} was cut in the linger time"
        for host in hosts:
            assert host.seen == sorted(host.seen), "generations went back"
