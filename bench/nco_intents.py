"""What an operator asks of the NCO in `make bench-nco`: one intent for all hosts.

One host is the server; whoever has an address in a prefix is its client: all the others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bench.nco_identity import CLIENTS, SERVER, host_name
from bench.nco_world import Agents, Failed, Nco

FIRST, SECOND = "dns_app_tag", "dns_compress"
NAME = "all"
LOOK_SECONDS = 0.1


class Operator:
    """Deploys, rotates and revokes; each returns when that was confirmed and committed."""

    def __init__(self, nco: Nco, agents: Agents) -> None:
        self._nco = nco
        self._agents = agents

    def build(self) -> None:
        """Have both modules compiled, by deploying them to two hosts only."""
        for module, name in ((FIRST, "build-1"), (SECOND, "build-2")):
            self._nco.call("PUT", _path(name), _intent(name, module, {"host": host_name(1)}))
            self._until(name, "active", 60)
            self._nco.call("DELETE", _path(name))
            self._until(name, "gone", 60)

    def deploy(self, seconds: float) -> None:
        """Deploy to all, until each agent has said that it is so."""
        self._nco.call("PUT", _path(NAME), _intent(NAME, FIRST, {"prefix": CLIENTS}))
        self._agents.until(lambda states: _does(states, FIRST), "deploy", seconds)

    def rotate(self, seconds: float) -> None:
        """Have another module in its place, until each agent has said that it is so."""
        self._nco.call("POST", _path(NAME, "/rotate"), {"module": SECOND})
        self._agents.until(lambda states: _does(states, SECOND), "rotate", seconds)

    def confirmed_at(self, seconds: float) -> float:
        """Wait until nothing is on its way; return when it was committed (Unix time)."""
        return self._until(NAME, "active", seconds)

    def revoke(self, seconds: float) -> None:
        """Take everything away."""
        self._nco.call("DELETE", _path(NAME))
        self._agents.until(lambda states: states["plain"], "revoke", seconds)
        self._until(NAME, "gone", seconds)

    def _until(self, name: str, phase: str, seconds: float) -> float:
        """Wait until an intent is in a phase, and no deployment of it in another one."""
        deadline = time.monotonic() + seconds
        while True:
            intent = self._nco.get(_path(name))
            phases = {intent["phase"], *(one["phase"] for one in intent["deployments"])}
            if phases == {phase}:
                return float(intent["history"][-1]["at"])
            if time.monotonic() > deadline or "failed" in phases:
                raise Failed(f"intent {name}: {intent['phase']}, {intent['error']}")
            time.sleep(LOOK_SECONDS)


def _path(name: str, what: str = "") -> str:
    return f"/intents/{name}{what}?hosts=false"


def _intent(name: str, module: str, client: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "module": module,
        "client": [client],
        "server": [{"host": host_name(SERVER)}],
    }


def _does(states: Mapping[str, int], module: str) -> int:
    """Return how many agents have this module, wholly on, and no other."""
    return sum(
        count
        for state, count in states.items()
        if state.startswith(f"{module}:") and "," not in state and not state.endswith(":off")
    )
