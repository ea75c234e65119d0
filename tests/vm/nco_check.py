"""An NCO and two hosts in one guest: what checks/nco.sh runs, and by_hand/nco_clocks.sh.

The service, two agents in network namespaces on one wire, `nco apply`, an application on each
host, its bytes on the wire, a challenge, a rotation, `nco deprecate`, `nco revoke`; and one
connection that lives through the changes; with `--clocks` a clock that jumps instead. A build in a
guest takes minutes: the artifact in /run/vm, made of the same sources and stripped as the NCO does
it, is put where the service finds what it has built before.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import httpx

from controller import ca
from controller.artifacts import ArtifactStore
from controller.build import STRIP, Builder
from controller.cib import Cib
from controller.cli_client import local
from controller.config import KERNEL_TAP, NcoConfig, StateFolder
from controller.database import Database
from controller.plan import Platform
from tests.vm.clocks import jumping
from wire.artifact import Artifact

BUILT = Path("/run/vm")
ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"
RELEASE = os.uname().release
HOSTS = {"alpha": "10.45.0.1", "beta": "10.45.0.2"}
NCO = HOSTS["alpha"]
PORT = 8045
PATIENCE = 240.0
SIZE = 1_000_000
FIRST, SECOND = 0x1122334455667788, 0x99AABBCCDDEEFF00
PART = 100_000
LISTEN = ["socat", "-u", f"TCP-LISTEN:{PORT},bind={HOSTS['beta']},reuseaddr"]
CONNECT = f"TCP:{HOSTS['beta']}:{PORT},retry=50,interval=0.1"
PLAIN: set[int] = set()
"""What has no tags."""


def main() -> None:
    with TemporaryDirectory(prefix="l45-nco-") as name, ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(two_hosts())
        state = initialised(folder)
        stack.enter_context(running(service(state), folder / "service.log"))
        agents = {
            host: stack.enter_context(running(agent(state, folder, host), folder / f"{host}.log"))
            for host in HOSTS
        }
        with local(state, PATIENCE) as api:
            deploy(api, state, folder)
            if "--clocks" in sys.argv[1:]:
                jump_about(api, state, folder, agents["beta"])
            else:
                live(api, folder)


def deploy(api: httpx.Client, state: StateFolder, folder: Path) -> None:
    eventually("both hosts with the kernel tap", lambda: taps(api) == ["kmod", "kmod"])
    assert tags(folder) == PLAIN, "nothing is customized yet"
    apply(state)
    assert intent(api)["phase"] == "active", intent(api)
    assert tags(folder) == {FIRST}
    eventually("counters in the NCO", lambda: counted(api) == {"alpha": SIZE, "beta": 0})
    for one in customizations(api).values():
        assert (one["target"], one["kernel"]) == ("kmod", RELEASE), one
        assert "key" not in one, one
    challenge(api)


def live(api: httpx.Client, folder: Path) -> None:
    with lasting(folder / "lasting") as connection:
        for step in (rotate, deprecate, revoke):
            connection.write()
            step(api, folder)
            print("passed:", step.__name__, flush=True)
    loaded = Path("/proc/modules")
    eventually("its code is gone too", lambda: "l45_stream_tag" not in loaded.read_text())


def jump_about(
    api: httpx.Client, state: StateFolder, folder: Path, beta: subprocess.Popen[bytes]
) -> None:
    """Let the clock jump a day ahead and two back, and kill an agent meanwhile: nothing goes.

    Certificates are good for an hour; the agent's successor is let in once the clock is right.
    """
    own, log = state.credentials.certificate, folder / "beta-again.log"
    before = own.read_bytes()
    with jumping() as jump:
        jump(1)
        eventually("the NCO has a new certificate", lambda: own.read_bytes() != before)
        assert taps(api) == ["kmod", "kmod"], "expired certificates end no session for now"
        jump(-1)
        beta.kill()
        beta.wait()
        with running(agent(state, folder, "beta"), log):
            words = "not good by this host's clock"
            eventually("who comes now is told why not", lambda: words in log.read_text())
            assert tags(folder) == {FIRST}, "kernels know no clock"
            assert intent(api)["phase"] == "active", intent(api)
            jump(0)
            eventually("it is there when the clock is right", lambda: len(taps(api)) == 2)
            assert intent(api)["phase"] == "active", intent(api)
            revoke(api, folder)


def apply(state: StateFolder) -> None:
    wanted = ("--name", "tag", "--client", "alpha:socat", "--server", "beta:socat")
    given = ("--port", str(PORT), "--param", f"tag={FIRST:#x}")
    command = [str(BIN / "nco"), "apply", "stream_tag", *wanted, *given]
    subprocess.run(command, env={**os.environ, "L45_STATE": str(state.path)}, check=True)


def challenge(api: httpx.Client) -> None:
    """Both kernels prove what they run."""
    answers = api.post("/challenges", json={"name": "tag"}).raise_for_status().json()
    said = {one["host"]: (one["verdict"], one["strength"]) for one in answers}
    assert said == dict.fromkeys(HOSTS, ("passed", "kernel")), answers
    print("passed: challenge", flush=True)


def rotate(api: httpx.Client, folder: Path) -> None:
    """Connections are right while another tag takes the place of the first, and then have it."""
    wanted = {"parameters": {"tag": SECOND}}
    api.post("/intents/tag/rotate", json=wanted).raise_for_status()
    # One that is open while the sender switches has both.
    assert tags(folder) in ({FIRST}, {SECOND}, {FIRST, SECOND})
    eventually("the rotation is done", lambda: is_rotated(intent(api)))
    assert tags(folder) == {SECOND}


def is_rotated(said: dict[str, Any]) -> bool:
    phases = [(one["succession"], one["phase"]) for one in said["deployments"]]
    assert said["error"] is None, said
    return phases == [(2, "active")]


def deprecate(api: httpx.Client, folder: Path) -> None:
    """New connections do without it."""
    api.post("/intents/tag/deprecate", json={"on": True}).raise_for_status()
    eventually("the hosts have confirmed", lambda: is_confirmed(intent(api)))
    assert tags(folder) == PLAIN
    assert intent(api)["phase"] == "active", intent(api)


def is_confirmed(said: dict[str, Any]) -> bool:
    return all(host["generation_confirmed"] == host["generation_wanted"] for host in said["hosts"])


def revoke(api: httpx.Client, folder: Path) -> None:
    api.delete("/intents/tag").raise_for_status()
    eventually("the intent is gone", lambda: not api.get("/intents").json())
    assert tags(folder) == PLAIN


def initialised(folder: Path) -> StateFolder:
    state = StateFolder(folder / "state")
    ca.initialise(state, NcoConfig(control=f"{NCO}:4545", listen=f"{NCO}:4545"))
    with state.config.open("a") as file:
        file.write(f"certificate_lifetime = 3600\nchallenge_window = {PATIENCE / 2}\n")
    for host in HOSTS:
        ca.issue_host(state, host, folder / host, timedelta(hours=1))
    builder = Builder(KERNEL_TAP / "modules", KERNEL_TAP, PATIENCE)
    key = asyncio.run(builder.key("stream_tag", Platform("kmod", RELEASE)))
    stripped = folder / "l45_stream_tag.ko"
    subprocess.run([*STRIP, str(BUILT / stripped.name), "-o", str(stripped)], check=True)
    code = stripped.read_bytes()
    version = builder.manifest("stream_tag").version
    artifact = Artifact("stream_tag", version, "kmod", code, RELEASE)
    with closing(Database(f"sqlite:///{state.database}")) as database:
        store = ArtifactStore(Cib(), database, state.artifacts, ca.load_signer(state))
        asyncio.run(store.put(key, artifact))
    return state


@contextmanager
def two_hosts() -> Iterator[None]:
    """Two network namespaces on one wire."""
    ip("link", "add", "l45-alpha", "type", "veth", "peer", "name", "l45-beta")
    try:
        for host, address in HOSTS.items():
            ip("netns", "add", host)
            ip("link", "set", f"l45-{host}", "netns", host)
            ip("-n", host, "address", "add", f"{address}/24", "dev", f"l45-{host}")
            ip("-n", host, "link", "set", f"l45-{host}", "up")
            ip("-n", host, "link", "set", "lo", "up")
        yield
    finally:
        for host in HOSTS:
            ip("netns", "delete", host)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def service(state: StateFolder) -> list[str]:
    command = [sys.executable, "-m", "controller.service", "--state", str(state.path)]
    return [*inside("alpha"), *command, "--grace", "0"]


def agent(state: StateFolder, folder: Path, host: str) -> list[str]:
    assert state.path.exists()
    return [
        *inside(host),
        *(str(BIN / "dca"), "run", "--nco", NCO, "--credentials", str(folder / host)),
        *("--state", str(folder / f"{host}-state")),
        *("--tap", "kmod", "--kmod", str(BUILT / "l45.ko")),
    ]


def inside(host: str) -> list[str]:
    return ["ip", "netns", "exec", host]


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process; it ends with us, and what it logged is shown if something failed."""
    with log.open("wb") as file, subprocess.Popen(command, stderr=file, cwd=ROOT) as process:
        try:
            yield process
        except BaseException:
            print(f"--- {log.name}\n{log.read_text()}")
            raise
        finally:
            process.terminate()
            process.wait()


def eventually(what: str, is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            if is_so():
                break
        except httpx.TransportError:  # the service has not begun
            pass
        assert time.monotonic() < until, f"it did not come: {what}"
        time.sleep(0.5)
    print("passed:", what, flush=True)


def taps(api: httpx.Client) -> list[str]:
    return [host["tap"] for host in api.get("/hosts").json() if host["connected"]]


def intent(api: httpx.Client) -> dict[str, Any]:
    said: dict[str, Any] = api.get("/intents/tag").json()
    return said


def customizations(api: httpx.Client) -> dict[str, dict[str, Any]]:
    return {host["name"]: host["customizations"][0] for host in intent(api)["hosts"]}


def counted(api: httpx.Client) -> dict[str, int]:
    """Return how many bytes each host has sent customized."""
    each = customizations(api).items()
    return {name: (one["counters"] or {}).get("sent_bytes", 0) for name, one in each}


def tags(folder: Path) -> set[int]:
    """Have alpha send to beta, which must read just that; return the tags that the wire had."""
    sent, received, capture = folder / "sent", folder / "received", folder / "capture"
    sent.write_bytes(os.urandom(SIZE))
    received.unlink(missing_ok=True)
    dump = ["tcpdump", "-i", "l45-beta", "-w", str(capture), "-U", f"tcp port {PORT}"]
    sniffer = subprocess.Popen([*inside("beta"), *dump], stderr=subprocess.PIPE)
    assert sniffer.stderr is not None
    sniffer.stderr.readline()  # it listens
    server = subprocess.Popen([*inside("beta"), *LISTEN, f"CREATE:{received}"])
    subprocess.run([*inside("alpha"), "socat", "-u", f"FILE:{sent}", CONNECT], check=True)
    assert server.wait() == 0
    sniffer.terminate()
    sniffer.communicate()
    assert received.read_bytes() == sent.read_bytes()
    found = re.findall(rb"STAG(.{8})socat\0", capture.read_bytes(), re.DOTALL)
    return {int.from_bytes(tag, "big") for tag in found}


class Lasting:
    """A connection from alpha to beta, and what went by it."""

    def __init__(self, source: IO[bytes], received: Path) -> None:
        self._source, self._received = source, received
        self._sent = b""

    def write(self) -> None:
        """Send some more, and wait until it is there as it was sent."""
        self._sent += (more := os.urandom(PART))
        self._source.write(more)
        self._source.flush()
        eventually("the connection that lasts goes on", self._is_there)
        assert self._received.read_bytes() == self._sent

    def _is_there(self) -> bool:
        return self._received.exists() and self._received.stat().st_size >= len(self._sent)


@contextmanager
def lasting(received: Path) -> Iterator[Lasting]:
    server = subprocess.Popen([*inside("beta"), *LISTEN, f"CREATE:{received}"])
    command = [*inside("alpha"), "socat", "-u", "STDIN", CONNECT]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
        assert client.stdin is not None
        connection = Lasting(client.stdin, received)
        yield connection
        connection.write()
    assert (client.returncode, server.wait()) == (0, 0)


if __name__ == "__main__":
    main()
