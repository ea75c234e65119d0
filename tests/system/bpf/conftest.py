"""The tap of this kernel, installed in a folder of the tests' own, and two hosts on a wire."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_agent import bpf_tap
from tests.system.bpf.kit import (
    MODULES,
    Host,
    Wire,
    build_module,
    build_tap,
    unique,
    veth_pair,
)
from wire.artifact import Artifact

RUNS = itertools.count()


@pytest.fixture(scope="session")
def tap_object(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build the tap; drivers that are not told otherwise take this one."""
    built = build_tap(tmp_path_factory.mktemp("tap"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("L45_TAP_OBJECT", str(built))
        yield built


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("modules")
    return {name: build_module(name, source, folder) for name, source in MODULES.items()}


@pytest.fixture
def bare_run() -> Iterator[Path]:
    """Give a run folder without a tap yet; empty it whatever happens."""
    if reason := bpf_tap.unavailable():
        pytest.skip(reason)
    run = Path("/run") / f"{unique('tapx')}-{next(RUNS)}"
    try:
        yield run
    finally:
        bpf_tap.uninstall(run)
        (run / "lock").unlink()
        run.rmdir()


@pytest.fixture
def tap_run(bare_run: Path, tap_object: Path) -> Path:
    """Give a run folder with the tap."""
    bpf_tap.install(bare_run, tap_object)
    return bare_run


@pytest.fixture(params=[True, False], ids=["offload", "no-offload"])
def wire(
    tap_run: Path, artifacts: dict[str, Artifact], request: pytest.FixtureRequest
) -> Iterator[Wire]:
    """Make a client and a server, with and without transmit checksum offload."""
    with veth_pair(unique("tapx"), offload=request.param) as (client, server):
        hosts = Host(client, tap_run, artifacts), Host(server, tap_run, artifacts)
        with Wire(*hosts) as wire:
            yield wire
