"""What the tests of the NCO share: a state folder, a real service process, a scripted agent."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from controller import ca
from controller.cib import Cib, read_all
from controller.cli_client import local
from controller.config import NcoConfig, StateFolder
from controller.database import Database
from tests.unit.agent_kit import status
from tests.waiting import PATIENCE
from wire import challenge
from wire.artifact import verified
from wire.frames import FrameReader, encode
from wire.identity import NCO_NAME, Credentials
from wire.messages import (
    FROM_NCO,
    ArtifactData,
    Challenge,
    ChallengeAnswer,
    Customization,
    Desired,
    Hello,
    Need,
    Refused,
    RenewNow,
    Report,
    Welcome,
    dump,
    parse,
)

MANIFEST = """
name = "{name}"
version = "1.0.0"
summary = "For tests: does nothing"
transport = "udp"
targets = ["user", "bpf"]
growth = 20

[client]
send = true

[server]
receive = true

[match]
server_port = 53

[wire]
summary = "A flag"
direction = "client-to-server"
payload = "dns"

[[wire.field]]
name = "flag"
label = "Flag"
type = "u32"
value = 0x58544147
"""

ADDRESSES = {"h1": "10.10.0.1", "dns": "10.10.0.3", "mb": "10.10.0.6"}


def eventually(what: Callable[[], Any], about: str = "condition") -> Any:  # noqa: ANN401
    """Return the first true value of `what`; fail when none came in time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.02)
    raise AssertionError(f"{about} did not come true within {PATIENCE} s")


def make_module(
    modules: Path, name: str = "idle", source: str = "int idle;\n", extra: str = ""
) -> None:
    folder = modules / name
    folder.mkdir(parents=True, exist_ok=True)
    text = MANIFEST.format(name=name)
    (folder / "manifest.toml").write_text(text.replace("[client]", extra + "\n[client]", 1))
    (folder / "module.c").write_text(source)


def make_state(folder: Path) -> StateFolder:
    """Write a state folder whose service listens on a free port of the loopback interface."""
    state = StateFolder(folder / "state")
    ca.initialise(state, NcoConfig(control="127.0.0.1:4545", listen="127.0.0.1:0"))
    make_module(folder / "modules")
    with state.config.open("a") as file:
        file.write(f'linger = 0.2\nmodules = "{folder}/modules"\n')
    return state


def credentials(state: StateFolder, name: str) -> Credentials:
    folder = state.path.parent / "hosts" / name
    if not folder.exists():
        ca.issue_host(state, name, folder)
    return Credentials(folder)


class Service:
    """A real `python -m controller.service` process."""

    def __init__(self, state: StateFolder, *arguments: str) -> None:
        self.state = state
        self.arguments = arguments or ("--grace", "0")
        self.log = state.path.parent / "service.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "controller.service", "--state", str(self.state.path)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*command, *self.arguments], stderr=log)
        eventually(self._answers, "the service answers")

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def restart_after_kill(self) -> None:
        self.stop(signal.SIGKILL)
        self.start()

    def client(self) -> httpx.Client:
        return local(self.state, PATIENCE)

    def get(self, path: str) -> Any:  # noqa: ANN401
        with self.client() as client:
            return client.get(path).raise_for_status().json()

    @property
    def port(self) -> int:
        return int(self.get("/status")["listen"].rpartition(":")[2])

    @property
    def intents(self) -> set[str]:
        """Names of those that there are."""
        return {one["name"] for one in self.get("/intents")}

    @property
    def sessions(self) -> int:
        """How many times an agent has introduced itself so far."""
        return self.log.read_text().count(" connected kernel=")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.HTTPError):
            return bool(self.get("/status")["pid"] == self.process.pid)
        return False


@contextlib.contextmanager
def running(state: StateFolder, *arguments: str) -> Iterator[Service]:
    """Run a service; end it whatever happens."""
    service = Service(state, *arguments)
    try:
        service.start()
        yield service
    finally:
        if service.process is not None and service.process.poll() is None:
            service.stop(signal.SIGKILL)


def connect(credentials: Credentials, port: int) -> ssl.SSLSocket:
    """Open a TLS connection as an agent does."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    return credentials.client_context().wrap_socket(raw, server_hostname=NCO_NAME)


class Agent:
    """A host's agent with a tap in memory; reconnects until it is stopped.

    `holds` delays answers to desired states, `refusal` refuses those that are not empty.
    """

    def __init__(self, service: Service, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.refusal: str | None = None
        self.evidence: bytes | None = b"sendtag.recvtag."
        """What it says that it runs; None: it does not answer challenges."""
        self.holds = threading.Event()
        self.seen: list[Desired] = []
        self.applied: dict[str, Customization] = {}
        self.artifacts: dict[str, ArtifactData] = {}
        self.generation = 0
        self._service = service
        self._credentials = credentials(service.state, name)
        self._stop = threading.Event()
        self._socket: ssl.SSLSocket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)

    @property
    def sends(self) -> bool:
        return any(customization.send for customization in self.applied.values())

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError, httpx.HTTPError):
                self._connection()
            self._stop.wait(0.05)

    def _connection(self) -> None:
        with connect(self._credentials, self._service.port) as sock:
            sock.settimeout(0.05)
            self._socket = sock
            self._send(
                Hello(
                    host=self.name,
                    boot_id="boot",
                    kernel="6.18",
                    tap="bpf",
                    targets=["bpf"],
                    addresses=[self.address],
                    generation=self.generation,
                )
            )
            self._serve(sock)

    def _serve(self, sock: ssl.SSLSocket) -> None:
        reader = FrameReader()
        due: Desired | None = None
        beat = time.monotonic()
        while not self._stop.is_set():
            if time.monotonic() > beat + 0.3:
                beat = time.monotonic()
                self._send_raw({"type": "heartbeat", "generation": self.generation})
            with contextlib.suppress(TimeoutError):
                data = sock.recv(65536)
                if not data:
                    return
                for value in reader.feed(data):
                    due = self._take(parse(FROM_NCO, value)) or due
            if due is not None and not self.holds.is_set() and self._have_all(due):
                self._answer(due)
                due = None

    def _take(self, message: Any) -> Desired | None:  # noqa: ANN401
        if isinstance(message, ArtifactData):
            verified(message, self._credentials.signer_key())
            self.artifacts[message.digest] = message
        elif isinstance(message, Desired):
            self.seen.append(message)
            if missing := self._missing(message):
                self._send(Need(digests=missing))
            return message
        elif isinstance(message, Challenge):
            self._prove(message)
        else:
            assert isinstance(message, Welcome | Refused | RenewNow)  # the last it does not know
        return None

    def _prove(self, asked: Challenge) -> None:
        one = self.applied.get(asked.customization)
        if self.evidence is None or one is None:
            return
        proof = challenge.Challenge(one.key, asked.nonce, one.id, self.evidence)
        self._send(
            ChallengeAnswer(
                customization=one.id,
                nonce=asked.nonce,
                answer=proof.answer(),
                evidence=self.evidence,
            )
        )

    def _missing(self, desired: Desired) -> list[str]:
        return sorted({c.digest for c in desired.customizations} - set(self.artifacts))

    def _have_all(self, desired: Desired) -> bool:
        return not self._missing(desired)

    def _answer(self, desired: Desired) -> None:
        refused = self.refusal is not None and bool(desired.customizations)
        if not refused:
            self.generation = desired.generation
            self.applied = {c.id: c for c in desired.customizations}
        self._send(
            Report(
                generation=self.generation,
                refused=desired.generation if refused else None,
                error=self.refusal if refused else None,
                customizations=[status(c, sent=3) for c in self.applied.values()],
            )
        )

    def _send(self, message: Any) -> None:  # noqa: ANN401
        self._send_raw(dump(message))

    def _send_raw(self, value: Any) -> None:  # noqa: ANN401
        assert self._socket is not None
        self._socket.sendall(encode(value))


@dataclass(frozen=True)
class Network:
    """A service and agents that are connected to it; tests may share one."""

    service: Service
    agents: dict[str, Agent]

    def is_settled(self) -> bool:
        """Whether all intents are active, and agents have what is theirs and nothing else."""
        intents = self.service.get("/intents")
        wanted = {
            (host["name"], one["id"])
            for view in intents
            for host in view["hosts"]
            for one in host["customizations"]
        }
        found = {(name, id_) for name, agent in self.agents.items() for id_ in agent.applied}
        return all(view["phase"] == "active" for view in intents) and wanted == found

    def reset(self) -> None:
        """Have everyone be well and nothing deployed, as in the beginning."""
        for agent in self.agents.values():
            agent.refusal = None
            agent.holds.clear()
        with self.service.client() as client:
            for view in self.service.get("/intents"):
                client.delete(f"/intents/{view['name']}").raise_for_status()
        eventually(lambda: self.service.get("/intents") == [], "all intents gone")
        for agent in self.agents.values():
            agent.seen.clear()


@contextlib.contextmanager
def network(folder: Path, *names: str, settings: str = "") -> Iterator[Network]:
    """Run a service and an agent for each of these names of `ADDRESSES`."""
    state = make_state(folder)
    with state.config.open("a") as file:
        file.write(settings)
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(running(state))
        agents = {
            name: stack.enter_context(Agent(service, name, ADDRESSES[name])) for name in names
        }
        eventually(lambda: len(service.get("/hosts")) == len(names), "all agents connected")
        yield Network(service, agents)


@contextlib.contextmanager
def opened(where: Path | str) -> Iterator[tuple[Cib, Database]]:
    """Open the database in a file or at a URL, and load the CIB from it."""
    url = where if isinstance(where, str) else f"sqlite:///{where}"
    with contextlib.closing(Database(url)) as database:
        yield Cib(database.read(read_all).result()), database


def commit(cib: Cib, database: Database) -> None:
    """Have what was changed stored."""
    if (change := cib.take_changes()) is not None:
        database.submit(change).result()


def intent(name: str = "tag", **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return an intent between `h1` and `dns`, as JSON."""
    return {
        "name": name,
        "module": "idle",
        "client": [{"host": "h1", "process": "dig"}],
        "server": [{"host": "dns", "process": "dnsmasq"}],
        **changes,
    }
