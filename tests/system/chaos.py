"""Kills parts of the running system at random moments, and looks whether anybody noticed.

`python -m tests.system.chaos --runs 300 --seed 1`: each run asks the NCO for a change and kills the
service, the Ryu application or an agent (SIGKILL) within the next moments (`python -m
tests.system.chaos_postgresql` has the CIB on a server of its own, which is killed too). Then, with
all parts running again,

* what the NCO had acknowledged is so: the intents are there, or gone, with their module;
* the kernels have exactly the customizations that intents want, on every host;
* the queries that `dig` asked all the while were all answered, rightly;
* no log has a traceback, and no process has grown beyond all bounds.

The seed says which changes, victims and moments; what runs beside decides the rest.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from controller.cli_client import local
from controller.config import StateFolder
from host_agent.bpf_tables import Tables
from mininet_topos.processes import TestbedError, wait_until
from mininet_topos.testbed import Testbed
from tests import postgres
from tests.system import plays
from tests.system.asker import Asker
from tests.waiting import PATIENCE

SETTLED = 60.0
"""Seconds after which all must be well again; only a failure takes so long."""

MEMORY = 400 * 1024
"""KiB that no process of ours may have; they have some 100 MiB."""

INTENTS = {
    "tag": ("h1", ("dns_app_tag", "dns_compress"), 100),
    "squeeze": ("h2", ("dns_compress", "dns_app_tag"), 50),
}
"""Client, modules to rotate between and priority of each intent that there may be."""


class Broken(AssertionError):
    """Something is not as it has to be; the text says what, and how to see it again."""


@dataclass
class Chaos:
    """The system under test, what it has acknowledged, and what was done to it."""

    testbed: Testbed
    random: random.Random
    wanted: dict[str, str | None] = field(default_factory=dict)
    """The module of each intent that was acknowledged; None: one of two, nobody was told which."""
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Answers that the service should never give."""
    server: postgres.Server | None = None
    """Where the CIB is; None: in a file."""

    def run(self) -> None:
        """Ask for one change, kill one part meanwhile, and check; raises Broken."""
        change = self.random.choice(list(INTENTS))
        victim = self.random.choice(self._victims)
        moment = self.random.uniform(0, 0.8)
        asking = threading.Thread(target=self._change, args=(change,))
        asking.start()
        time.sleep(moment)
        self._kill(victim)
        asking.join()
        self._restart(victim)
        self.done[f"killed {victim}"] += 1
        if self.faults:
            raise Broken("; ".join(self.faults))
        try:
            wait_until(self._well, "all is as it was acknowledged", SETTLED)
        except TestbedError as error:
            raise Broken(f"{error}; {self._difference()}") from error

    @property
    def _victims(self) -> list[str]:
        ours = ["service", "ryu", "h1", "h2", "dns"]
        return [*ours, "database", "service and database"] if self.server else ours

    # -- changes

    def _client(self) -> httpx.Client:
        return local(StateFolder(self.testbed.state), PATIENCE)

    def _change(self, name: str) -> None:
        """Ask for one change of an intent; note what was acknowledged."""
        before = self.wanted.get(name, "")
        verb = self.random.choice(["rotate", "rotate", "revoke"]) if before != "" else "apply"
        self.done[verb] += 1
        try:
            with self._client() as client:
                answer, after = getattr(self, f"_{verb}")(client, name)
        except httpx.TransportError:
            self.done["no answer"] += 1
            self._set(name, None)  # it may have been done, or not
            return
        if answer.is_success:
            self._set(name, after)
        elif answer.status_code == 503 and self.server is not None:
            self.done["no database"] += 1
            self._set(name, None)  # the server may have had it when it died
        elif answer.status_code >= 500:
            self.faults.append(f"{verb} {name}: {answer.status_code} {answer.text}")
        else:
            self.done["refused"] += 1

    def _set(self, name: str, module: str | None) -> None:
        if module == "":
            self.wanted.pop(name, None)
        else:
            self.wanted[name] = module

    def _apply(self, client: httpx.Client, name: str) -> tuple[httpx.Response, str]:
        host, modules, priority = INTENTS[name]
        intent = {
            "name": name,
            "module": modules[0],
            "client": [{"host": host, "process": "dig"}],
            "server": [{"host": "dns", "process": "dnsmasq"}],
            "port": 53,
            "priority": priority,
        }
        return client.put(f"/intents/{name}", json=intent), modules[0]

    def _rotate(self, client: httpx.Client, name: str) -> tuple[httpx.Response, str]:
        modules = INTENTS[name][1]
        module = self.random.choice(modules)
        return client.post(f"/intents/{name}/rotate", json={"module": module}), module

    def _revoke(self, client: httpx.Client, name: str) -> tuple[httpx.Response, str]:
        return client.delete(f"/intents/{name}"), ""

    # -- violence

    def _kill(self, victim: str) -> None:
        if "database" in victim:
            assert self.server
            self.server.kill()
        if "service" in victim:
            try:
                os.kill(self.testbed.service_pid(), signal.SIGKILL)
            except TestbedError:
                self.done["service was away already"] += 1
        elif victim == "ryu":
            assert self.testbed.ryu
            self.testbed.ryu.kill()
        elif victim in self.testbed.agents:
            self.testbed.agents[victim].kill()

    def _restart(self, victim: str) -> None:
        """Start again what nobody else does: the service is the Ryu application's."""
        if "database" in victim:
            assert self.server
            self.server.start()
        elif victim == "ryu":
            self.testbed.start_nco()
        elif victim in self.testbed.agents:
            self.testbed.start_agent(victim)

    # -- what has to be so

    def _well(self) -> bool:
        try:
            return not self._difference()
        except (httpx.HTTPError, OSError, ValueError):
            return False  # not up again yet

    def _difference(self) -> str:
        """Say what is not as it has to be yet, or nothing."""
        with self._client() as client:
            hosts = client.get("/hosts").raise_for_status().json()
            intents = client.get("/intents").raise_for_status().json()
        away = [host["name"] for host in hosts if not host["connected"]]
        unsettled = [f"{one['name']} {one['phase']}" for one in intents if one["phase"] != "active"]
        if away or unsettled:
            return f"away: {away}, not settled: {unsettled}"
        there = {one["name"]: _modules(one) for one in intents}
        for name, module in self.wanted.items():
            if module is not None and there.get(name) != {module}:
                return f"{name}: {module} was acknowledged, there is {there.get(name)}"
        for name in set(there) - set(self.wanted):
            return f"{name}: that it is gone was acknowledged"
        wanted = sorted(_customizations(intents))
        found = sorted(self._in_kernels())
        if wanted != found:
            return f"intents want {wanted}, kernels have {found}"
        # What nobody was told is known by now.
        self.wanted = {name: next(iter(modules)) for name, modules in there.items()}
        return ""

    def _in_kernels(self) -> list[str]:
        with Tables.opened(self.testbed.run_folder) as tables:
            return [member.id for member in tables.everything()]


def _modules(intent: dict[str, object]) -> set[str]:
    return {one["module"] for host in intent["hosts"] for one in host["customizations"]}  # type: ignore[attr-defined]


def _customizations(intents: list[dict[str, object]]) -> list[str]:
    return [
        one["id"]
        for intent in intents
        for host in intent["hosts"]  # type: ignore[attr-defined]
        for one in host["customizations"]
    ]


def check_processes(testbed: Testbed) -> None:
    """Raise Broken where a log has a traceback, or a process has grown beyond bounds."""
    for log in sorted(testbed.logs.glob("*.log")):
        if "Traceback (most recent call last)" in log.read_text(errors="replace"):
            raise Broken(f"{log}: a traceback")
    pids = {name: process.popen.pid for name, process in testbed.agents.items()}
    pids["service"] = testbed.service_pid()
    for name, pid in pids.items():
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        size = int(status.split("VmRSS:")[1].split()[0])
        if size > MEMORY:
            raise Broken(f"{name} has {size} KiB")


def play(
    folder: Path,
    times: int,
    seed: int,
    report: bool = False,
    server: postgres.Server | None = None,
) -> Counter[str]:
    """Do so many runs on a testbed of its own; return what was done. Raises Broken.

    The CIB is in the state folder, or on a `server` of PostgreSQL, which is killed too.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    settings = [f'database = "{server.url()}"'] if server else []
    with Testbed(folder, settings=["linger = 0.1", *settings]) as testbed:
        chaos = Chaos(testbed, chance, server=server)
        with Asker(testbed, "h1") as one, Asker(testbed, "h2") as other:
            for number in range(times):
                try:
                    chaos.run()
                except Broken as broken:
                    raise Broken(f"run {number} of seed {seed}: {broken}") from broken
                if report:
                    print(f"run {number + 1} of {times}: {dict(chaos.done)}", flush=True)
        chaos.done["queries"] = one.asked + other.asked
        if wrong := one.wrong + other.wrong:
            raise Broken(f"seed {seed}: {len(wrong)} queries went wrong: {wrong[:5]}")
        check_processes(testbed)
    return chaos.done


if __name__ == "__main__":
    sys.exit(plays.main("tests.system.chaos", __doc__, "runs", play))
