"""l45-peer forward: programs that speak plain TCP, customized in between, with sanitizers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mininet_topos.ports import free_port
from tests.peer_kit import LONGEST, Peer, Relay, World, payload, tag, until, xor
from tests.peer_wire import kinds, read_wire, restore
from tests.stream_frames import data, frame, mark
from tests.stream_frames import tag as tag_head

curl_only = pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")


class Chain:
    """A plain client's port; from there customized to in front of the plain server."""

    def __init__(self, world: World, server_port: int, *options: str) -> None:
        self.near = forwarder(world, server_port, "near", *options)
        self.relay: Relay = world.relay(self.near.port)
        self.far = forwarder(world, self.relay.port, "far", *options)
        self.port = self.far.port


def forwarder(world: World, to: int, side: str, *options: str | int) -> Peer:
    where = ["--to", f"127.0.0.1:{to}", "--customize", side]
    return world.start("forward", *options, *where, "127.0.0.1", 0, stdin=b"")


# -- HTTP and TLS


class Pages(BaseHTTPRequestHandler):
    """GET /SIZE is so many bytes; POST answers what was posted."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(payload(int(self.path[1:])))

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return certificate and key of `localhost`."""
    folder = tmp_path_factory.mktemp("certificate")
    files = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    command += ["-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    return files


@pytest.fixture(params=["http", "https"])
def pages(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Iterator[str]:
    """Serve `Pages`; the URL has the server's own port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.daemon_threads = True
    if request.param == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    yield f"{request.param}://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def curl(*arguments: str) -> None:
    limits = ["--silent", "--show-error", "--fail", "--max-time", str(LONGEST)]
    result = subprocess.run(
        ["curl", *limits, "--noproxy", "*", *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@curl_only
@pytest.mark.parametrize("options", [tag(), xor()])
def test_curl(
    world: World,
    tmp_path: Path,
    pages: str,
    certificate: tuple[Path, Path],
    options: list[str],
) -> None:
    """Eight downloads at once, each over a connection of its own, and an upload."""
    scheme, port = pages.split("://localhost:")
    chain = Chain(world, int(port), *options)
    url = f"{scheme}://localhost:{chain.port}"
    trust = ["--cacert", str(certificate[0])]
    sizes = [0, 1, 1000, 5000, 17_000, 65_536, 100_000, 200_000]
    urls = [f"{url}/{size}" for size in sizes]
    names = [option for size in sizes for option in ("-o", str(tmp_path / f"got-{size}"))]
    curl(*trust, "--parallel", "--parallel-immediate", *names, *urls)
    for size in sizes:
        assert (tmp_path / f"got-{size}").read_bytes() == payload(size)

    posted, answer = tmp_path / "posted", tmp_path / "answer"
    posted.write_bytes(payload(150_000, 2))
    curl(*trust, "--data-binary", f"@{posted}", "-H", "Expect:", "-o", str(answer), url)
    assert answer.read_bytes() == posted.read_bytes()

    assert len(chain.relay.captures) >= 2
    for capture in chain.relay.captures:
        for wire in capture.ways:
            items = read_wire(wire)
            assert kinds(items) == "MD"
            if scheme == "http":
                assert b"HTTP/1.1" in restore(items)


# -- TCP's own ends


def echo_at_end(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        read = b""
        while some := connection.recv(65536):
            read += some
        connection.sendall(read[::-1])


def test_half_close_is_carried_through(world: World) -> None:
    server = world.server()
    chain = Chain(world, server.getsockname()[1], *tag())
    thread = threading.Thread(target=echo_at_end, args=[server])
    thread.start()
    client = world.client(chain.port)
    sent = payload(100_000)
    client.sendall(sent)
    client.shutdown(socket.SHUT_WR)
    answer = b""
    while some := client.recv(65536):
        answer += some
    thread.join()
    assert answer == sent[::-1]


def test_rotation_on_every_connection(world: World) -> None:
    turns = [f"at {500 * n} set 2 both {(5, 20)[n % 2]}" for n in range(100)]
    server = world.server()
    port = server.getsockname()[1]
    chain = Chain(world, port, *tag(), *xor(), *world.script(*turns))
    sent = payload(60_000)
    for _ in range(2):
        thread = threading.Thread(target=echo_at_end, args=[server])
        thread.start()
        client = world.client(chain.port)
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answer:
            assert answer.read() == sent[::-1]
        thread.join()
    for capture in chain.relay.captures:
        for wire in capture.ways:
            assert sum(item.kind == "S" for item in read_wire(wire)) >= 99


def test_a_reset_is_carried_through(world: World) -> None:
    server = world.server()
    far = forwarder(world, server.getsockname()[1], "far", *tag())
    client = world.client(far.port)
    client.sendall(b"hello")
    accepted = world.accept(server)
    assert accepted.recv(100).startswith(mark())
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    accepted.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_nobody_listens_behind_it(world: World) -> None:
    port = free_port()
    far = forwarder(world, port, "far", *tag())
    client = world.client(far.port)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    far.wait_event(f"cannot connect to 127.0.0.1 port {port}: Connection refused")


def test_a_broken_format_resets_the_plain_side(world: World) -> None:
    """Other connections do not notice."""
    server = world.server()
    near = forwarder(world, server.getsockname()[1], "near", *tag())
    hostile, good = world.client(near.port), world.client(near.port)
    served = world.accept(server), world.accept(server)
    good.sendall(mark() + data(b"good", tag_head()))
    hostile.sendall(mark() + data(b"before", tag_head()))
    got = {connection.recv(100): connection for connection in served}
    hostile.sendall(frame(b"Z", b"secret"))
    for end in (hostile, got[b"before"]):
        with pytest.raises(ConnectionResetError):
            end.recv(1)
    got[b"good"].sendall(b"answer")
    assert good.recv(100) == mark() + data(b"answer", tag_head(process=b""))
    near.wait_event("event=closed status=2")


# -- many


def test_only_so_many_at_a_time(world: World) -> None:
    server = world.server()
    far = forwarder(world, server.getsockname()[1], "far", *tag(), "--limit", 1)
    for _ in range(3):
        client = world.client(far.port)
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
    for _ in range(3):
        echo_at_end(server)
    far.wait_event("event=closed", 3)
    ends = re.findall("event=(connected|closed)", far.log)
    assert ends == ["connected", "closed"] * 3


def test_a_signal_ends_all_of_it(world: World) -> None:
    server = world.server()
    far = forwarder(world, server.getsockname()[1], "far", *tag())
    clients = [world.client(far.port) for _ in range(5)]
    far.wait_event("event=connected", 5)
    assert far.is_idle()
    far.process.send_signal(signal.SIGTERM)
    assert far.status() == 0
    assert [client.recv(1) for client in clients] == [b""] * 5
    pids = {int(line.partition("[")[2].partition("]")[0]) for line in far.log.splitlines()}
    assert len(pids) == 6
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_connections_end_with_a_forwarder_that_is_killed(world: World) -> None:
    server = world.server()
    far = forwarder(world, server.getsockname()[1], "far", *tag())
    client = world.client(far.port)
    far.wait_event("event=connected")
    os.kill(far.process.pid, signal.SIGKILL)
    assert client.recv(1) == b""
    until(lambda: "event=stopped" in far.log, lambda: far.log)
