"""Two hosts on a wire for tests of the eBPF tap: namespaces, process names, frames."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pytest

from host_agent.bpf_tap import BpfTap
from mininet_topos.namespaces import inside
from tests.pcap import checksum
from wire.artifact import Artifact
from wire.match import Match
from wire.messages import Counters, Customization, Flow

ROOT = Path(__file__).parents[3]
BUILD = ["clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror",
         "-I", "kernel_tap/include", "-I", "kernel_tap/bpf", "-I", "kernel_tap/core"]  # fmt: skip

MODULES = {
    **{
        name: ROOT / "kernel_tap" / "modules" / name / "module.c"
        for name in ("dns_app_tag", "dns_compress")
    },
    **{path.stem: path for path in (Path(__file__).parent / "modules").glob("*.c")},
}
COMPILED = os.environ.get("L45_BPF_OBJECTS")
"""Where the tap and these modules are compiled already: in a guest, where clang takes minutes."""

CLIENT, SERVER = "10.99.0.1", "10.99.0.2"
CLIENT6, SERVER6 = "fd99::1", "fd99::2"
MAPPED = "::ffff:"
"""Before an IPv4 address that an IPv6 socket uses."""
PORT = 53
ETH_P_ALL = 3
PR_SET_NAME, PR_GET_NAME = 15, 16
SOL_PACKET, PACKET_AUXDATA, CSUM_NOT_READY = 263, 8, 1 << 3
TIMEOUT = 5.0
"""Seconds within which a datagram on a veth pair is there, or a test has failed."""

QUERY = bytes.fromhex("1a2b 0120 0001 0000 0000 0000 03777777 00 0001 0001")
"""A DNS query for the address of www."""

one_wire = pytest.mark.parametrize("wire", [True], indirect=True, ids=[""])
"""With transmit checksum offload alone, where it makes no difference."""
each_module = pytest.mark.parametrize("module", ["dns_app_tag", "dns_compress"])


def tag(process: str) -> bytes:
    """Return what dns_app_tag puts in front of the queries of a process."""
    return b"XTAG" + process.encode().ljust(16, b"\0")


TAG_DIG = tag("dig")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def unique(prefix: str) -> str:
    """Return a name of this process alone; `tests.system.traces` reads whose it is."""
    return f"{prefix}-{os.getpid()}"


def build_all(folder: Path) -> None:
    """Compile what tests use, for those who find it by L45_BPF_OBJECTS."""
    folder.mkdir(parents=True, exist_ok=True)
    build_tap(folder)
    for name, source in MODULES.items():
        build_module(name, source, folder)


def build_tap(folder: Path) -> Path:
    if COMPILED:
        return Path(COMPILED) / "bpf" / "tap.bpf.o"
    run("make", "-sC", str(ROOT / "kernel_tap"), f"OUT={folder}")
    return folder / "bpf" / "tap.bpf.o"


def build_module(name: str, source: Path, folder: Path) -> Artifact:
    """Compile a module as the NCO does."""
    output = Path(COMPILED or folder) / f"{name}.o"
    if not COMPILED:
        subprocess.run([*BUILD, "-c", str(source), "-o", str(output)], cwd=ROOT, check=True)
        run("llvm-strip", "-g", str(output))
    return Artifact(name, "1.0.0", "bpf", output.read_bytes())


@contextmanager
def named(name: str) -> Iterator[None]:
    """Give the calling thread a name; in the main thread that is the process's."""
    libc = ctypes.CDLL(None)
    before = ctypes.create_string_buffer(16)
    libc.prctl(PR_GET_NAME, before)
    libc.prctl(PR_SET_NAME, name.encode())
    try:
        yield
    finally:
        libc.prctl(PR_SET_NAME, before)


def messages_of(counters: Counters) -> dict[str, int]:
    """Return what was counted besides bytes."""
    return counters.model_dump(exclude_defaults=True, exclude={"sent_bytes", "received_bytes"})


@dataclass(frozen=True)
class Frame:
    """A UDP datagram as it was on the wire."""

    ip: bytes
    partial: bool = False
    """Whether the sum was left for the device to complete."""

    @property
    def is_v6(self) -> bool:
        return self.ip[0] >> 4 == 6

    @property
    def header_size(self) -> int:
        return 40 if self.is_v6 else (self.ip[0] & 15) * 4

    @property
    def udp(self) -> bytes:
        if self.is_v6:
            return self.ip[40 : 40 + int.from_bytes(self.ip[4:6], "big")]
        return self.ip[self.header_size : int.from_bytes(self.ip[2:4], "big")]

    @property
    def payload(self) -> bytes:
        return self.udp[8:]

    @property
    def udp_checksum(self) -> int:
        return int.from_bytes(self.udp[6:8], "big")

    def check(self) -> None:
        """Fail where a length or a checksum is wrong."""
        addresses = self.ip[8:40] if self.is_v6 else self.ip[12:20]
        pseudo = addresses + struct.pack("!BBH", 0, 17, len(self.udp))
        assert int.from_bytes(self.udp[4:6], "big") == len(self.udp), "UDP length"
        if self.is_v6:
            assert self.udp_checksum, "IPv6 wants a checksum"
        else:
            assert checksum(self.ip[: self.header_size]) == 0, "IP header checksum"
        if self.partial:
            assert self.udp_checksum == checksum(pseudo) ^ 0xFFFF, "sum of the pseudo header"
        elif self.udp_checksum:
            assert checksum(pseudo + self.udp) == 0, "UDP checksum"


class Wiretap:
    """Frames of UDP datagrams that arrive at an interface, before any tap sees them."""

    def __init__(self, interface: str) -> None:
        # Only those who ask for all protocols get frames before tc ingress.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((interface, ETH_P_ALL))
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.settimeout(TIMEOUT)

    def close(self) -> None:
        self._socket.close()

    def next(self) -> Frame:
        while True:
            data, extra, _, address = self._socket.recvmsg(65536, 1024)
            if _is_udp(data) and address[2] != socket.PACKET_OUTGOING:
                status = struct.unpack_from("=I", extra[0][2])[0]
                return Frame(data[14:], bool(status & CSUM_NOT_READY))


def _is_udp(frame: bytes) -> bool:
    next_header = {b"\x08\0": 14 + 9, b"\x86\xdd": 14 + 6}.get(frame[12:14])
    return next_header is not None and frame[next_header] == socket.IPPROTO_UDP


@contextmanager
def veth_pair(prefix: str, *, offload: bool) -> Iterator[tuple[str, str]]:
    """Make two namespaces with an interface `eth0` each, joined; yield their names."""
    client, server = f"{prefix}-c", f"{prefix}-s"
    with ExitStack() as cleanup:
        for namespace in (client, server):
            run("ip", "netns", "add", namespace)
            cleanup.callback(run, "ip", "netns", "del", namespace)
        run("ip", "link", "add", "eth0", "netns", client, "type", "veth",
            "peer", "name", "eth0", "netns", server)  # fmt: skip
        for namespace, address, address6 in (
            (client, CLIENT, CLIENT6),
            (server, SERVER, SERVER6),
        ):
            within = ("ip", "netns", "exec", namespace)
            run(*within, "ip", "link", "set", "lo", "up")
            run(*within, "ip", "link", "set", "eth0", "up")
            run(*within, "ip", "address", "add", f"{address}/24", "dev", "eth0")
            run(*within, "ip", "address", "add", f"{address6}/64", "dev", "eth0", "nodad")
            run(*within, "ethtool", "-K", "eth0", "tx", "on" if offload else "off")
        yield client, server


@dataclass
class Host:
    """A namespace with a tap driver."""

    namespace: str
    run: Path
    artifacts: Mapping[str, Artifact]
    sockets: list[socket.socket] = field(default_factory=list)

    def udp(self, process: str, port: int = 0) -> socket.socket:
        """Return a socket that the process `process` made and bound."""
        return self._udp(socket.AF_INET, process, "0.0.0.0", port)

    def udp6(self, process: str, port: int = 0) -> socket.socket:
        """Return one for IPv6, and IPv4 with mapped addresses."""
        return self._udp(socket.AF_INET6, process, "::", port)

    def _udp(self, family: int, process: str, address: str, port: int) -> socket.socket:
        with inside(self.namespace), named(process):
            made = socket.socket(family, socket.SOCK_DGRAM)
            self.sockets.append(made)
            made.settimeout(TIMEOUT)
            made.bind((address, port))
            return made

    def customization(
        self,
        module: str,
        *,
        number: int = 1,
        send: bool = False,
        receive: bool = False,
        priority: int = 100,
        parameters: bytes = b"",
        active: bool = True,
        deprecated: bool = False,
        **match: object,
    ) -> Customization:
        return Customization(
            id=f"{number:032x}",
            intent="test",
            module=module,
            digest=self.artifacts[module].digest,
            target="bpf",
            match=Match.model_validate({"transport": "udp"} | match),
            priority=priority,
            parameters=parameters,
            send=send,
            receive=receive,
            active=active,
            deprecated=deprecated,
        )

    def apply(self, *customizations: Customization) -> None:
        """Do as the agent does: start, load what is missing, apply."""
        with inside(self.namespace):
            tap = BpfTap(self.run)
            tap.start()
            for customization in customizations:
                if not tap.has_artifact(customization.digest):
                    tap.load_artifact(self.artifacts[customization.module])
            tap.apply(customizations)

    @property
    def mac(self) -> bytes:
        """The address of its interface."""
        with inside(self.namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as probe:
            probe.bind(("eth0", 0))
            address: bytes = probe.getsockname()[4]
            return address

    def stop(self) -> None:
        with inside(self.namespace):
            BpfTap(self.run).stop()

    def flows(self) -> list[Flow]:
        """Return the sockets that have customizations."""
        with inside(self.namespace):
            return BpfTap(self.run).flows()

    def counters(self) -> list[Counters]:
        """Return what the customizations did, in the order in which they are asked."""
        with inside(self.namespace):
            return [status.counters for status in BpfTap(self.run).customizations()]


@dataclass
class Wire:
    """A client and a server with one wire between them, and what was on it."""

    client: Host
    server: Host

    def __enter__(self) -> Wire:
        with inside(self.server.namespace):
            self.wiretap = Wiretap("eth0")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wiretap.close()
        for opened in self.client.sockets + self.server.sockets:
            opened.close()

    def tag(self) -> None:
        """Customize queries of dig to dnsmasq with dns_app_tag."""
        self.server.apply(
            self.server.customization(
                "dns_app_tag", receive=True, process="dnsmasq", local_port=PORT
            )
        )
        self.client.apply(
            self.client.customization("dns_app_tag", send=True, process="dig", remote_port=PORT)
        )

    def carry(
        self, sender: socket.socket, process: str, message: bytes, server: str = SERVER
    ) -> Frame:
        """Let `process` send a message to the server; return the frame, found right."""
        with named(process):
            sender.sendto(message, (server, PORT))
        frame = self.wiretap.next()
        frame.check()
        return frame
