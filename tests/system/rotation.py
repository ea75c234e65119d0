"""Rotates customizations of DNS under a loop of real queries, over a link that reorders them.

`python -m tests.system.rotation --rotations 300 --seed 1`: an intent goes from `dns_app_tag` to
`dns_compress` and back, or gets other keys alone, while four loops of dig ask on h1; between the
sites datagrams take up to 60 ms each and overtake each other. Every query has to be answered,
rightly, and each has to cross the network in one of the two forms: none of them plain.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from controller.cli_client import local
from controller.config import StateFolder
from mininet_topos.processes import Process, wait_until
from mininet_topos.testbed import Testbed
from tests.system import plays
from tests.system.asker import Asker
from tests.waiting import PATIENCE

INTENT = "names"
MODULES = ("dns_app_tag", "dns_compress")
FORMS = {"dns_app_tag": "l45.dns_app_tag.app_id", "dns_compress": "l45.dns_compress.id"}
DELAY, LINGER = 0.06, 0.2
CAPTURED = 1.0
"""Seconds that dumpcap is given to begin, and to write what it has."""

ROTATED = 60.0
"""Seconds after which a rotation must be over; only a failure takes so long."""


class Rotations:
    """An intent on a testbed, and its rotations."""

    def __init__(self, testbed: Testbed, chance: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._random = chance
        self._module = MODULES[0]
        self._testbed = testbed
        self._http = local(StateFolder(testbed.state), PATIENCE)

    def apply(self) -> None:
        """Have dig's queries tagged."""
        sides = ("--client", "h1:dig", "--server", "dns:dnsmasq")
        self._testbed.nco("apply", MODULES[0], "--name", INTENT, *sides)

    def rotate(self) -> None:
        """Rotate once, and wait until it is over; raises TestbedError where it does not end."""
        before = self._ids()
        kind = self._random.choice(["modules", "modules", "keys"])
        wish: dict[str, object] = {}  # other keys alone
        if kind == "modules":
            self._module = MODULES[1 - MODULES.index(self._module)]
            wish = {"module": self._module}
        answer = self._http.post(f"/intents/{INTENT}/rotate", json=wish)
        assert answer.is_success, f"rotate to {wish}: {answer.status_code} {answer.text}"
        self.done[kind] += 1
        wait_until(lambda: self._is_over(before), f"rotation to {wish} is over", ROTATED)

    def _is_over(self, before: set[str]) -> bool:
        intent = self._intent()
        modules = {one["module"] for host in intent["hosts"] for one in host["customizations"]}
        is_new = not before & self._ids(intent)
        return is_new and modules == {self._module} and intent["phase"] == "active"

    def _ids(self, intent: dict[str, Any] | None = None) -> set[str]:
        hosts = (intent or self._intent())["hosts"]
        return {one["id"] for host in hosts for one in host["customizations"]}

    def _intent(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._http.get(f"/intents/{INTENT}").raise_for_status().json()
        return answer


def capture(testbed: Testbed, path: Path) -> Process:
    """Begin to capture what arrives at the DNS server."""
    command = ["dumpcap", "-q", "-i", testbed.interface("dns"), "-f", "udp dst port 53"]
    process = testbed.spawn("dns", "dumpcap", [*command, "-w", str(path)])

    def captures() -> bool:
        return path.exists() and path.stat().st_size > 0

    wait_until(captures, "dumpcap captures", process=process)
    time.sleep(CAPTURED)
    return process


def forms(testbed: Testbed, path: Path) -> Counter[str]:
    """Return how many captured queries have which form, as the dissectors see it."""
    command = ["tshark", "-n", "-r", str(path), "-T", "fields"]
    for module, field in FORMS.items():
        script = testbed.folder / f"{module}.lua"
        testbed.nco("dissector", module, "-o", str(script))
        command += ["-X", f"lua_script:{script}", "-e", field]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found: Counter[str] = Counter()
    for line in shown.stdout.splitlines():
        seen = [module for module, value in zip(FORMS, line.split("\t"), strict=True) if value]
        found[" and ".join(seen) or "plain"] += 1
    return found


def play(folder: Path, times: int, seed: int, report: bool = False) -> Counter[str]:
    """Rotate so many times on a testbed of its own; return what was done. Raises AssertionError."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    with Testbed(folder, delay=DELAY, settings=[f"linger = {LINGER}"]) as testbed:
        rotating = Rotations(testbed, chance)
        rotating.apply()
        path = folder / "capture-dns.pcapng"
        dumpcap = capture(testbed, path)
        with Asker(testbed, "h1", at_once=4) as asker:
            for number in range(times):
                rotating.rotate()
                if report:
                    print(f"{number + 1} of {times}, {asker.asked} queries", flush=True)
        time.sleep(CAPTURED)
        dumpcap.popen.send_signal(signal.SIGINT)
        dumpcap.popen.wait(PATIENCE)
        seen = forms(testbed, path)
        assert not asker.wrong, f"seed {seed}: {len(asker.wrong)} queries: {asker.wrong[:5]}"
        assert set(seen) <= set(MODULES), f"seed {seed}: on the wire there were {dict(seen)}"
        done = rotating.done + seen
        done["queries"] = asker.asked
    overtaken = (testbed.logs / "slow_link.log").read_text().split("overtaken ")[1]
    done["overtaken"] = int(overtaken)
    return done


if __name__ == "__main__":
    sys.exit(plays.main("tests.system.rotation", __doc__, "rotations", play))
