"""An NCO and two hosts in one guest: what checks/nco.sh runs.

The service, two agents in network namespaces on one wire, `nco apply`, an application on each
host, its bytes on the wire, `nco revoke`. A build in a guest takes minutes: the artifact in
/run/vm, made of the same sources, is put where the service finds what it has built before.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from controller import ca
from controller.artifacts import ArtifactStore
from controller.build import Builder
from controller.cib import Cib
from controller.config import KERNEL_TAP, NcoConfig, StateFolder
from controller.database import Database
from controller.plan import Platform
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
TAG = b"STAG" + (0x1122334455667788).to_bytes(8, "big") + b"socat\0"


def main() -> None:
    with TemporaryDirectory(prefix="l45-nco-") as name, ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(two_hosts())
        state = initialised(folder)
        stack.enter_context(running(service(state), folder / "service.log"))
        for host in HOSTS:
            stack.enter_context(running(agent(state, folder, host), folder / f"{host}.log"))
        api = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(state.rest_socket)), base_url="http://nco"
        )
        with api:
            play(api, state, folder)


def play(api: httpx.Client, state: StateFolder, folder: Path) -> None:
    eventually("both hosts with the kernel tap", lambda: taps(api) == ["kmod", "kmod"])
    assert not is_tagged(folder), "nothing is customized yet"
    wanted = ("--name", "tag", "--client", "alpha:socat", "--server", "beta:socat")
    given = ("--port", str(PORT), "--param", "tag=0x1122334455667788")
    command = [str(BIN / "nco"), "apply", "stream_tag", *wanted, *given]
    subprocess.run(command, env={**os.environ, "L45_STATE": str(state.path)}, check=True)
    assert intent(api)["phase"] == "active", intent(api)
    assert is_tagged(folder)
    eventually("counters in the NCO", lambda: counted(api) == {"alpha": SIZE, "beta": 0})
    for one in customizations(api).values():
        assert (one["target"], one["kernel"]) == ("kmod", RELEASE), one
        assert "key" not in one, one
    api.delete("/intents/tag").raise_for_status()
    eventually("the intent is gone", lambda: not api.get("/intents").json())
    assert not is_tagged(folder)
    assert "l45_stream_tag" not in Path("/proc/modules").read_text(), "its code is gone too"


def initialised(folder: Path) -> StateFolder:
    state = StateFolder(folder / "state")
    ca.initialise(state, NcoConfig(control=f"{NCO}:4545", listen=f"{NCO}:4545"))
    for host in HOSTS:
        ca.issue_host(state, host, folder / host)
    builder = Builder(KERNEL_TAP / "modules", KERNEL_TAP, PATIENCE)
    key = asyncio.run(builder.key("stream_tag", Platform("kmod", RELEASE)))
    code = (BUILT / "l45_stream_tag.ko").read_bytes()
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
def running(command: list[str], log: Path) -> Iterator[None]:
    """Run a process; it ends with us, and what it logged is shown if something failed."""
    with log.open("wb") as file, subprocess.Popen(command, stderr=file, cwd=ROOT) as process:
        try:
            yield
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


def is_tagged(folder: Path) -> bool:
    """Have alpha send to beta, which must read just that; return whether the wire had tags."""
    sent, received, capture = folder / "sent", folder / "received", folder / "capture"
    sent.write_bytes(os.urandom(SIZE))
    received.unlink(missing_ok=True)
    dump = ["tcpdump", "-i", "l45-beta", "-w", str(capture), "-U", f"tcp port {PORT}"]
    sniffer = subprocess.Popen([*inside("beta"), *dump], stderr=subprocess.PIPE)
    assert sniffer.stderr is not None
    sniffer.stderr.readline()  # it listens
    listen = f"TCP-LISTEN:{PORT},bind={HOSTS['beta']},reuseaddr"
    server = subprocess.Popen([*inside("beta"), "socat", "-u", listen, f"CREATE:{received}"])
    connect = f"TCP:{HOSTS['beta']}:{PORT},retry=50,interval=0.1"
    subprocess.run([*inside("alpha"), "socat", "-u", f"FILE:{sent}", connect], check=True)
    assert server.wait() == 0
    sniffer.terminate()
    sniffer.communicate()
    assert received.read_bytes() == sent.read_bytes()
    return TAG in capture.read_bytes()


if __name__ == "__main__":
    main()
