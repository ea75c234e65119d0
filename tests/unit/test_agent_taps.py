"""Several taps of one host: each customization goes to its own; a set is whole or not at all."""

from __future__ import annotations

import logging

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from host_agent import taps as module
from host_agent.tap import Tap, TapError, TapStatus
from host_agent.taps import Kind, Taps, kinds, usable
from tests.unit.agent_kit import MemoryTap, customization, signed
from wire.artifact import verified
from wire.messages import Flow

KEY = Ed25519PrivateKey.generate()
DNS, STREAM = signed(KEY, "dns_app_tag", b"d"), signed(KEY, "stream_tag", b"s", "kmod")
ON_BPF, ON_KMOD = customization(DNS, 1), customization(STREAM, 2)


@pytest.fixture
def kmod() -> MemoryTap:
    return MemoryTap("kmod")


@pytest.fixture
def bpf() -> MemoryTap:
    return MemoryTap("bpf")


@pytest.fixture
def both(kmod: MemoryTap, bpf: MemoryTap) -> Taps:
    taps = Taps([kmod, bpf])
    for artifact in (DNS, STREAM):
        taps.load_artifact(verified(artifact, KEY.public_key()))
    return taps


def test_each_gets_its_own(both: Taps, kmod: MemoryTap, bpf: MemoryTap) -> None:
    assert list(kmod.loaded) == [STREAM.digest]
    assert list(bpf.loaded) == [DNS.digest]
    both.apply([ON_BPF, ON_KMOD])
    assert (kmod.running, bpf.running) == ([ON_KMOD], [ON_BPF])
    assert {one.id for one in both.customizations()} == {ON_BPF.id, ON_KMOD.id}
    assert (both.names, both.targets) == (["kmod", "bpf"], ("kmod", "bpf"))
    both.apply([])
    assert both.customizations() == []


def test_code_for_a_tap_that_is_not_here_is_refused(bpf: MemoryTap) -> None:
    with pytest.raises(TapError, match="no tap of this host runs kmod"):
        Taps([bpf]).load_artifact(verified(STREAM, KEY.public_key()))


def test_what_one_refuses_the_other_has_not_either(
    both: Taps, kmod: MemoryTap, bpf: MemoryTap
) -> None:
    both.apply([ON_KMOD])
    bpf.fault = TapError("the verifier says no")
    quiet = ON_KMOD.model_copy(update={"send": False})
    with pytest.raises(TapError, match="the verifier says no"):
        both.apply([quiet, ON_BPF])
    assert (kmod.running, bpf.running) == ([ON_KMOD], [])


def test_a_tap_that_has_nothing_to_do_is_left_alone(
    both: Taps, kmod: MemoryTap, bpf: MemoryTap, caplog: pytest.LogCaptureFixture
) -> None:
    kmod.gone = TapError("l45.ko is not loaded")
    both.apply([ON_BPF])
    for _ in range(3):
        assert [one.id for one in both.customizations()] == [ON_BPF.id]
    assert (kmod.sets, bpf.running) == ([], [ON_BPF])
    assert caplog.text.count("l45.ko is not loaded") == 1


def test_flows_of_all_taps_are_told(both: Taps, kmod: MemoryTap, bpf: MemoryTap) -> None:
    bpf.open = [Flow(number=1, transport="udp", local="10.0.0.1", local_port=4000)]
    kmod.open = [Flow(number=1, transport="tcp", local="10.0.0.1", local_port=4001)]
    assert both.flows() == kmod.open + bpf.open
    kmod.gone = TapError("l45.ko is not loaded")
    assert both.flows() == bpf.open


def test_one_that_does_not_start_is_left_out_and_told(
    both: Taps, kmod: MemoryTap, caplog: pytest.LogCaptureFixture
) -> None:
    kmod.fault = TapError("takes signed modules only")
    with caplog.at_level(logging.INFO, logger="host_agent.taps"):
        both.start()
    assert (both.names, both.error) == (["bpf"], "kmod: takes signed modules only")
    assert "tap=kmod" in caplog.text
    none = Taps([kmod], {"bpf": "no BTF"})
    none.start()
    assert (none.names, none.error) == ([], "bpf: no BTF; kmod: takes signed modules only")


def kind(name: str, fault: str | None) -> Kind:
    def driver() -> Tap:
        return MemoryTap()

    def nothing() -> None:
        """Install or uninstall."""

    return Kind(
        name, lambda: fault, lambda: False, nothing, nothing, lambda: TapStatus(False), driver
    )


def test_what_works_is_used_and_a_chosen_one_must_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "needs_root", lambda: None)
    good, bad = kind("bpf", None), kind("kmod", "takes no modules")
    assert usable([bad, good]) == ([good], {"kmod": "takes no modules"})
    assert usable([bad, kind("bpf", "no BTF")]) == (
        [],
        {"kmod": "takes no modules", "bpf": "no BTF"},
    )
    with pytest.raises(TapError, match="takes no modules"):
        usable([bad])
    monkeypatch.setattr(module, "needs_root", lambda: "needs root")
    with pytest.raises(TapError, match="needs root"):
        usable([good])


def test_the_kernel_tap_is_preferred() -> None:
    assert [one.name for one in kinds()] == ["kmod", "bpf"]
    assert [one.name for one in kinds("bpf")] == ["bpf"]
