"""tshark with the generated dissector at a host's interface, and what it saw there."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from mininet_topos.processes import WAIT_SECONDS, Process, wait_until
from mininet_topos.testbed import Testbed

FIELDS = (
    "frame.number",
    "frame.time_relative",
    "ip.src",
    "ip.dst",
    "_ws.col.Protocol",
    "frame.len",
    "l45.dns_app_tag.app_id",
    "dns.flags.response",
    "dns.qry.name",
)


@dataclass(frozen=True)
class Packet:
    """One packet as tshark dissected it; the columns of the dissertation's table."""

    number: int
    time: float
    source: str
    destination: str
    protocol: str
    length: int
    application: str
    response: bool
    name: str

    @property
    def untagged_query(self) -> bool:
        """Whether it is DNS that nobody tagged: a sender to look at."""
        return not self.response and not self.application

    @classmethod
    def parse(cls, line: str) -> Packet:
        """Read a line of `tshark -T fields` with FIELDS."""
        number, time, source, destination, protocol, length, application, response, name = (
            line.split("\t")
        )
        return cls(
            int(number),
            float(time),
            source,
            destination,
            protocol,
            int(length),
            application,
            response in ("1", "True"),
            name,
        )


class Analyst:
    """tshark at a host's interface, capturing and dissecting DNS.

    At the middlebox it sees what the switch mirrors; at a server, what arrives before the tap.
    """

    def __init__(self, testbed: Testbed, host: str) -> None:
        self._testbed = testbed
        self._host = host
        self.capture = testbed.folder / f"capture-{host}.pcapng"
        self.dissector = testbed.folder / "dns_app_tag.lua"
        self._tshark: Process | None = None

    def start(self) -> None:
        """Write the dissector and start capturing; returns once tshark captures."""
        self._testbed.nco("dissector", "dns_app_tag", "-o", str(self.dissector))
        self.capture.unlink(missing_ok=True)
        command = ["tshark", "-l", "-n", "-P", "-i", self._testbed.interface(self._host)]
        command += ["-f", "udp port 53", "-w", str(self.capture)]
        command += ["-X", f"lua_script:{self.dissector}", "-T", "fields"]
        command += [word for field in FIELDS for word in ("-e", field)]
        self._tshark = self._testbed.spawn(self._host, f"tshark-{self._host}", command)
        wait_until(self._capturing, "tshark captures", process=self._tshark)

    def _capturing(self) -> bool:
        return self.capture.exists() and self.capture.stat().st_size > 0

    def packets(self) -> list[Packet]:
        """Return what tshark has printed so far."""
        log = self._log()
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [Packet.parse(line) for line in lines if line.count("\t") == len(FIELDS) - 1]

    def wait_for(self, count: int) -> list[Packet]:
        """Wait until tshark has shown `count` packets in all; return them."""
        wait_until(
            lambda: len(self.packets()) >= count,
            f"tshark shows {count} packets",
            process=self._tshark,
        )
        return self.packets()

    def stop(self) -> None:
        """End the capture; the file is complete afterwards."""
        if self._tshark and self._tshark.running:
            self._tshark.popen.send_signal(signal.SIGINT)
            self._tshark.popen.wait(WAIT_SECONDS)

    def _log(self) -> Path:
        assert self._tshark, "start() comes first"  # noqa: S101
        return self._tshark.log
