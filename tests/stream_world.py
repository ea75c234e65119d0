"""Streams between two ends, for tests of the stream core."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stream_target import (
    RECEIVE,
    SEND,
    TOKEN,
    Customization,
    Endpoint,
    Module,
    Role,
    StreamError,
)
from tests.user_target import build
from tests.vectors import MODULES, ROOT

PROBES = ROOT / "tests" / "data" / "modules"


@dataclass(frozen=True)
class Kit:
    """The core and the modules, built, and customizations of them."""

    built: Path
    probes: Path

    @classmethod
    def build(cls, factory: pytest.TempPathFactory) -> Kit:
        """Build once for all tests of a session."""
        folder = factory.getbasetemp() / "streams"
        return cls(build(folder / "user", MODULES), build(folder / "probes", PROBES))

    def tag_of(self, number: int, epoch: int = 1, interval: int = 1000) -> Customization:
        parameters = (("tag", number), ("interval", interval))
        return Customization(Module.of(self.built, MODULES, "stream_tag"), epoch, TOKEN, parameters)

    def xor_of(self, epoch: int, key: int) -> Customization:
        module = Module.of(self.built, MODULES, "stream_xor")
        return Customization(module, epoch, TOKEN, (("key", key),))

    def probe_of(self, *, whole: bool, epoch: int = 1, fatal: bool = False) -> Customization:
        name = "stream_probe_whole" if whole else "stream_probe"
        module = Module.of(self.probes, PROBES, name)
        return Customization(module, epoch, TOKEN, (("fatal", int(fatal)),))

    def rate_of(self, delay: int, epoch: int = 1) -> Customization:
        module = Module.of(self.built, MODULES, "rate_limit")
        return Customization(module, epoch, TOKEN, (("delay", delay),))

    @property
    def tag(self) -> Customization:
        return self.tag_of(42)

    @property
    def xor(self) -> Customization:
        return self.xor_of(1, 0x5A5A5A5A)

    @property
    def probe(self) -> Customization:
        return self.probe_of(whole=False)

    @property
    def rate(self) -> Customization:
        return self.rate_of(250)

    @contextmanager
    def pair(self, client: Role = Role.CONNECT, server: Role = Role.ACCEPT) -> Iterator[Pair]:
        pair = Pair(Endpoint(self.built, client), Endpoint(self.built, server, "httpd"))
        try:
            yield pair
        finally:
            pair.client.close()
            pair.server.close()


@dataclass(frozen=True)
class Pair:
    """The two ends of a connection."""

    client: Endpoint
    server: Endpoint

    def attach(self, what: Customization, priority: int, switches: int = SEND | RECEIVE) -> None:
        """Attach it to both."""
        self.client.attach(what, priority, switches)
        self.server.attach(what, priority, switches)


def give(end: Endpoint, stream: bytes) -> bytes:
    """Hand over bytes of the transport; return what can be read then."""
    end.fill(stream)
    app = end.read()
    assert app is not None
    return app


def refused(number: int) -> AbstractContextManager[object]:
    """Expect the core to refuse with this errno."""
    return pytest.raises(StreamError, match=rf"\[Errno {number}\]")
