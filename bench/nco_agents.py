"""Emulated agents for `make bench-nco`: many in one process, each over a TLS connection of its own.

    python -m bench.nco_agents PORT CREDENTIALS FIRST COUNT

They speak the real protocol: TLS 1.3 with a certificate each, `Hello`, heartbeats, `Need` for what
they do not have, the artifact's hash checked, a report for each generation. Only the kernel is left
out: whatever is wanted is so. Nothing of the service's or the agent's channel is used, so that what
is measured does not measure with itself; TLS is OpenSSL through memory BIOs over plain connections,
which is what a process with thousands of them can afford.

Commands come as lines of JSON and are answered by one line each: see `Fleet.command`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import ssl
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

import uvloop

from bench.nco_identity import ca_file, certificate_file, host_address, host_name, key_file
from wire.frames import FrameError, FrameReader, encode
from wire.identity import NCO_NAME

AT_ONCE = 96
"""Connections of one process that are being made at a time."""

BACKOFF = (0.05, 1.0)
"""Seconds that a connection which was turned away waits, at first and at most; drawn at random."""

NICENESS = 10
"""Agents run on other machines in truth: these give way to what is measured."""

READ = 64 * 1024
BEATS_PER_SECOND = 20


class Agent(asyncio.Protocol):
    """One agent."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self.name = host_name(number)
        self.number = number
        self.transport: asyncio.Transport | None = None
        self.welcomed = False
        self.is_expected = False
        """Whether it is connected already, or going to be."""
        self.greeted: asyncio.Future[bool] | None = None
        """Whether it was, of the connection that is being made."""
        self.generation = 0
        self.artifacts: set[str] = set()
        self.state = "away"
        self._fleet = fleet
        self._spoke = 0.0
        """When it said something last (monotonic)."""
        self._wanted: dict[str, Any] | None = None
        self._tls: ssl.SSLObject
        self._incoming: ssl.MemoryBIO
        self._outgoing: ssl.MemoryBIO
        self._shaken = False
        self._frames = FrameReader()

    # -- for asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._fleet.tls(self.number, self._incoming, self._outgoing)
        self._shaken, self._frames = False, FrameReader()
        self._pump()

    def data_received(self, data: bytes) -> None:
        """Decrypt, and handle each message."""
        self._incoming.write(data)
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """Be away, until the fleet connects it again."""
        self.transport, self._wanted = None, None
        self.welcomed = False
        self._fleet.lost(self)

    # -- TLS

    def _pump(self) -> None:
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
                self._send(self._hello())
            size = READ
            while size == READ:  # else nothing is left
                size = self._read()
                for message in self._frames.feed(self._fleet.inbox[:size]):
                    self._received(message)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, FrameError, KeyError) as error:
            self._fleet.fault(self, str(error))
            self.abort()
        self._flush()

    def _read(self) -> int:
        """Decrypt what came into the fleet's inbox, as far as there is room; return the size."""
        inbox, end = self._fleet.inbox, 0
        with contextlib.suppress(ssl.SSLWantReadError):
            while end < READ:
                got = cast(int, self._tls.read(READ, inbox[end:]))  # into a buffer: its size
                if not got:
                    break
                end += got
        return end

    def _flush(self) -> None:
        if self._outgoing.pending and self.transport is not None:
            self.transport.write(self._outgoing.read())

    def abort(self) -> None:
        """Be away at once."""
        if self.transport is not None:
            self.transport.abort()

    def _send(self, message: dict[str, Any]) -> None:
        self._spoke = time.monotonic()
        self._tls.write(encode(message))

    # -- the agent

    def _hello(self) -> dict[str, Any]:
        return {
            "type": "hello",
            "versions": [1],
            "host": self.name,
            "boot_id": "bench",
            "kernel": "6.1.0",
            "tap": "bpf",
            "targets": ["bpf"],
            "addresses": [host_address(self.number)],
            "generation": self.generation,
        }

    def _received(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "welcome":
                self.welcomed = True
                self._fleet.welcome(self, message["heartbeat"])
            case "desired":
                self._wanted = message
                missing = {c["digest"] for c in message["customizations"]} - self.artifacts
                if missing:
                    self._send({"type": "need", "digests": sorted(missing)})
                self._apply()
            case "artifact":
                if hashlib.sha256(message["data"]).hexdigest() != message["digest"]:
                    self._fleet.fault(self, "an artifact does not have its digest")
                    return
                self._fleet.artifacts += 1
                self.artifacts.add(message["digest"])
                self._apply()
            case "refused":
                self._fleet.fault(self, message["reason"])

    def _apply(self) -> None:
        """Report the wanted state as applied, once everything that it needs is here."""
        wanted = self._wanted
        if wanted is None:
            return
        customizations = wanted["customizations"]
        if any(c["digest"] not in self.artifacts for c in customizations):
            return
        self.generation, self._wanted = wanted["generation"], None
        kept = ("id", "module", "digest", "receive", "send")
        statuses = [{key: c[key] for key in kept} for c in customizations]
        self._send({"type": "report", "generation": self.generation, "customizations": statuses})
        self._fleet.changed(self, ",".join(sorted(map(_described, customizations))) or "plain")

    def beat(self, pause: float) -> None:
        """Say that it is alive, where it had nothing to say for a while, as real agents do."""
        if self.welcomed and time.monotonic() - self._spoke >= pause:
            self._send({"type": "heartbeat", "generation": self.generation})
            self._flush()


def _described(customization: dict[str, Any]) -> str:
    """Return what a customization does, like `dns_app_tag:send`."""
    does = [word for word in ("receive", "send") if customization[word]]
    return f"{customization['module']}:{'+'.join(does) or 'off'}"


def _answer(agent: Agent, greeted: bool) -> None:
    if agent.greeted is not None and not agent.greeted.done():
        agent.greeted.set_result(greeted)


class Fleet:
    """All agents of this process."""

    def __init__(self, port: int, credentials: Path, first: int, count: int) -> None:
        self.artifacts = 0
        self.inbox = memoryview(bytearray(READ))
        """Where what an agent reads lies, until it has taken it over."""
        self._port = port
        self._credentials = credentials
        self._agents = [Agent(self, number) for number in range(first, first + count)]
        self._states = Counter({"away": count})
        self._changed_at = 0.0
        self._faults = 0
        self._first_fault = ""
        self._away: asyncio.Queue[Agent] = asyncio.Queue()
        self._heartbeat = 5.0
        self._stays = False
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.load_verify_locations(ca_file(credentials))

    def tls(self, number: int, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return a TLS client with an agent's certificate; it has a copy of the context's."""
        self._context.load_cert_chain(
            certificate_file(self._credentials, number), key_file(self._credentials)
        )
        return self._context.wrap_bio(incoming, outgoing, server_hostname=NCO_NAME)

    # -- what agents tell

    def welcome(self, agent: Agent, heartbeat: float) -> None:
        """Note that the NCO greeted an agent."""
        self._heartbeat = heartbeat
        self.changed(agent, "welcome")
        _answer(agent, True)

    def changed(self, agent: Agent, state: str) -> None:
        """Note what an agent is in."""
        self._states[agent.state] -= 1
        self._states[state] += 1
        agent.state = state
        self._changed_at = time.monotonic()

    def fault(self, agent: Agent, what: str) -> None:
        """Note that something went wrong."""
        self._faults += 1
        self._first_fault = self._first_fault or f"{agent.name}: {what}"

    def lost(self, agent: Agent) -> None:
        """Note that an agent has no connection; it gets another one, where they are to stay."""
        self.changed(agent, "away")
        if agent.greeted is not None:
            _answer(agent, False)
            return
        agent.is_expected = False
        if self._stays:
            self._expect(agent)

    def _expect(self, agent: Agent) -> None:
        """Have an agent connected, once."""
        if not agent.is_expected:
            agent.is_expected = True
            self._away.put_nowait(agent)

    # -- what runs

    async def run(self) -> None:
        """Do what the lines of the input say, until it ends."""
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        jobs = [asyncio.create_task(self._connect()) for _ in range(AT_ONCE)]
        jobs.append(asyncio.create_task(self._beat()))
        while line := await lines.readline():
            print(json.dumps(self.command(json.loads(line))), flush=True)
        for job in jobs:
            job.cancel()

    def command(self, command: str) -> dict[str, Any]:
        """Do one of: `connect` all that are away, `drop` all, `forget` artifacts, `status`."""
        if command == "connect":
            self._stays = True
            for agent in self._agents:
                self._expect(agent)
        elif command == "drop":
            for agent in self._agents:
                agent.abort()
        elif command == "forget":
            self.artifacts = 0
            for agent in self._agents:
                agent.artifacts.clear()
        return {
            "states": {state: count for state, count in self._states.items() if count},
            "changed_at": self._changed_at,
            "artifacts": self.artifacts,
            "faults": self._faults,
            "first_fault": self._first_fault,
            "cpu": time.process_time(),
        }

    async def _connect(self) -> None:
        """Connect one agent after the other."""
        while True:
            agent = await self._away.get()
            pause = BACKOFF[0]
            while not await self._connected(agent):
                await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - no secret
                pause = min(2 * pause, BACKOFF[1])

    async def _connected(self, agent: Agent) -> bool:
        """Whether the agent could be connected and was greeted."""
        loop = asyncio.get_running_loop()
        agent.greeted = loop.create_future()
        try:
            await loop.create_connection(lambda: agent, "127.0.0.1", self._port)
            return await agent.greeted
        except OSError:
            return False
        finally:
            agent.greeted = None

    async def _beat(self) -> None:
        """Let agents speak in turns, so that each does so once a heartbeat.

        A real one beats that long after it has spoken last; here that is so on average.
        """
        due, position = 0.0, 0
        while True:
            await asyncio.sleep(1 / BEATS_PER_SECOND)
            due += len(self._agents) / (self._heartbeat * BEATS_PER_SECOND)
            while due >= 1:
                due -= 1
                self._agents[position].beat(self._heartbeat / 2)
                position = (position + 1) % len(self._agents)


def main() -> None:
    """Run as a program."""
    port, credentials, first, count = sys.argv[1:]
    os.nice(NICENESS)
    fleet = Fleet(int(port), Path(credentials), int(first), int(count))
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(fleet.run())


if __name__ == "__main__":
    main()
