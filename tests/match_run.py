"""Tries the pairs of tests/match_pairs.py on a tap: sockets of real processes, a datagram of each.

Every customization of a set is asked in turn: `dns_app_tag` says "next" to what is no DNS message,
and is counted as having passed it. So each flow's counters tell which of the matches were for it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host_agent.tap import Tap
from mininet_topos.namespaces import inside
from tests.match_pairs import LOCAL, PROGRAMS, REMOTE, Probe, Round
from wire.artifact import Artifact
from wire.messages import Customization

PATIENCE = 120
"""Seconds within which the sockets of a round are there, also in a slow guest."""


@contextmanager
def network(name: str) -> Iterator[None]:
    """Be in a namespace that has all local addresses, and a way to all remote ones."""
    _run("ip", "netns", "add", name)
    try:
        within = ("ip", "-n", name)
        _run(*within, "link", "add", "a0", "type", "veth", "peer", "name", "a1")
        for end in ("a0", "a1"):
            _run(*within, "link", "set", end, "arp", "off", "up")
        for address in LOCAL:
            if not address.startswith("::ffff:"):
                length = "64" if ":" in address else "24"
                nodad = ("nodad",) if ":" in address else ()
                _run(*within, "address", "add", f"{address}/{length}", "dev", "a0", *nodad)
        for address in REMOTE:
            if not address.startswith("::ffff:"):
                _run(*within, "route", "replace", address, "dev", "a0")
        with inside(name):
            yield
    finally:
        _run("ip", "netns", "del", name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def install_programs(prober: Path, folder: Path) -> None:
    """Put the prober where the probes' executables are."""
    for name in PROGRAMS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(prober, path)
    folder.chmod(0o755)


def differences(tap: Tap, artifact: Artifact, one: Round, prober: Path) -> list[str]:
    """Return where the tap decides another way than the oracle; empty if nowhere."""
    tap.load_artifact(artifact)
    customizations = [_customization(artifact, place, one) for place in range(len(one.matches))]
    tap.apply(customizations)
    with _sockets(prober, one.probes) as pids:
        flows = {flow.tgid: flow for flow in tap.flows()}
        found = []
        for pid, probe in zip(pids, one.probes, strict=True):
            flow = flows.get(pid)
            passed = {c.id: c.counters.passed for c in flow.customizations} if flow else {}
            said = [passed.get(c.id, 0) for c in customizations]
            found += _compared(one, probe, said)
    tap.apply([])
    return found


def _customization(artifact: Artifact, place: int, one: Round) -> Customization:
    return Customization(
        id=f"{place + 1:032x}",
        intent="pairs",
        module=artifact.name,
        digest=artifact.digest,
        target=artifact.target,
        match=one.matches[place],
        priority=place,
        send=True,
        receive=False,
    )


def _compared(one: Round, probe: Probe, said: list[int]) -> list[str]:
    return [
        f"{match!r} and {probe}: asked {asked} times, expected {int(expected)}"
        for match, asked, expected in zip(one.matches, said, one.expected(probe), strict=True)
        if asked != expected
    ]


@contextmanager
def _sockets(prober: Path, probes: list[Probe]) -> Iterator[list[int]]:
    """Let each probe send its datagram; yield the processes, which keep their sockets open."""
    with subprocess.Popen([prober], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write("".join(f"{probe.line()}\n" for probe in probes).encode())
        running.stdin.flush()
        try:
            yield [int(running.stdout.readline()) for _ in probes]
        finally:
            running.stdin.close()
            running.wait(PATIENCE)
