"""What an operator asks of the NCO in `make bench-nco`: groups of hosts, an intent each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bench.nco_identity import host_name
from bench.nco_world import Agents, Failed, Nco

FIRST, SECOND = "dns_app_tag", "dns_compress"

BEFORE, USUAL = 50, 100
"""Priorities: what comes new acts before what is there."""

LOOK_SECONDS = 0.02


class Groups:
    """All agents in groups; the last one of each is the server of the others."""

    def __init__(self, nco: Nco, agents: Agents, size: int) -> None:
        self._nco = nco
        self._agents = agents
        numbers = range(agents.count)
        self._groups = [numbers[at : at + size] for at in range(0, agents.count, size)]
        if len(self._groups[-1]) < 2:
            raise Failed(f"{agents.count} agents in groups of {size}: the last group is one host")

    def build(self) -> None:
        """Have both modules compiled, and what the builds need read once; with two hosts only."""
        for module, name in ((FIRST, "build-1"), (SECOND, "build-2")):
            group = self._groups[0][-2:]
            self._nco.call("PUT", f"/intents/{name}", _intent(name, module, group, USUAL))
            self._until_phase([name], "active", 60)
            self._nco.call("DELETE", f"/intents/{name}")
            self._until_phase([name], "gone", 60)

    def deploy(self, seconds: float) -> float:
        """Deploy to all; return how long it took until it was confirmed."""
        began = time.time()
        self._apply("first", FIRST, USUAL)
        self._agents.until(lambda states: _does(states, {FIRST}), "deploy", seconds)
        return self._until_phase(self._names("first"), "active", seconds) - began

    def rotate(self, seconds: float) -> float:
        """Have another module in its place, on all; return how long it took."""
        began = time.time()
        self._apply("second", SECOND, BEFORE)
        self._until_phase(self._names("second"), "active", seconds)
        self._delete("first")
        self._agents.until(lambda states: _does(states, {SECOND}), "rotate", seconds)
        return self._until_phase(self._names("first"), "gone", seconds) - began

    def revoke(self, seconds: float) -> None:
        """Take everything away."""
        for kind in ("first", "second"):
            self._delete(kind)
        self._agents.until(lambda states: states["plain"], "revoke", seconds)
        for kind in ("first", "second"):
            self._until_phase(self._names(kind), "gone", seconds)

    def _names(self, kind: str) -> list[str]:
        return [f"{kind}-{number}" for number in range(len(self._groups))]

    def _apply(self, kind: str, module: str, priority: int) -> None:
        for name, group in zip(self._names(kind), self._groups, strict=True):
            body = _intent(name, module, group, priority)
            self._nco.call("PUT", f"/intents/{name}", body)

    def _delete(self, kind: str) -> None:
        known = {intent["name"] for intent in self._nco.get("/intents")}
        for name in self._names(kind):
            if name in known:
                self._nco.call("DELETE", f"/intents/{name}")

    def _until_phase(self, names: list[str], phase: str, seconds: float) -> float:
        """Wait until all intents are in a phase; return when the last one came (Unix time)."""
        deadline = time.monotonic() + seconds
        last = 0.0
        for name in names:
            while (intent := self._nco.get(f"/intents/{name}"))["phase"] != phase:
                if time.monotonic() > deadline or intent["phase"] == "failed":
                    raise Failed(f"intent {name}: {intent['phase']}, {intent['error']}")
                time.sleep(LOOK_SECONDS)
            came = [event["at"] for event in intent["history"] if event["phase"] == phase]
            last = max(last, min(came, default=0.0))
        return last


def _intent(name: str, module: str, group: range, priority: int) -> dict[str, Any]:
    return {
        "name": name,
        "module": module,
        "client": [{"host": host_name(number)} for number in group[:-1]],
        "server": [{"host": host_name(group[-1])}],
        "priority": priority,
    }


def _does(states: Mapping[str, int], modules: set[str]) -> int:
    """Return how many agents have these modules, wholly on, and no other."""
    return sum(
        count
        for state, count in states.items()
        if {one.partition(":")[0] for one in state.split(",")} == modules and ":off" not in state
    )
