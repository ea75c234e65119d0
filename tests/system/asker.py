"""Queries of a real dig, one after the other, while something else goes on."""

from __future__ import annotations

import threading
import time

from mininet_topos.testbed import WEB_ADDRESS, ZONE, Testbed


class Asker:
    """Asks with dig on a host until left, `at_once` queries at a time."""

    def __init__(self, testbed: Testbed, host: str, at_once: int = 1) -> None:
        self.wrong: list[str] = []
        """Queries that were not answered, or wrongly."""
        self._testbed, self._host = testbed, host
        self._asked = [0] * at_once
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(at_once)]

    def __enter__(self) -> Asker:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    @property
    def asked(self) -> int:
        """How many queries there were."""
        return sum(self._asked)

    def _ask(self, number: int) -> None:
        while not self._stopped.wait(0.02):
            self._asked[number] += 1
            name = f"{self._host}-{number}-{self._asked[number]}.{ZONE}"
            answer = self._testbed.dig(self._host, name)
            if answer != WEB_ADDRESS:
                self.wrong.append(f"{name} at {time.strftime('%H:%M:%S')}: {answer!r}")
