"""In a guest: both taps decide as the oracle does which customization is for which socket.

What checks/match.sh runs, in one process. Any exception is a failure.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from host_agent import bpf_tap, kmod_tap
from host_agent.bpf_tap import BpfTap
from host_agent.kmod_tap import KmodTap
from host_agent.tap import Tap
from tests.match_pairs import rounds
from tests.match_run import differences, install_programs, network
from tests.system.bpf.kit import ROOT, build_module
from wire.artifact import Artifact

SEED = 5
BUILT = Path("/run/vm")
MODULE = "dns_app_tag"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="l45-match-", dir="/run") as folder:
        path, run = Path(folder), Path(folder) / "taps"
        prober = Path(os.environ["PROGRAMS"]) / "match-prober"
        install_programs(prober, path)
        for name in ("bpf", "kmod"):
            tap, artifact = _ready(name, run, path)
            with network("l45-match"):
                _decide(tap, artifact, prober, folder)
            _unload(name, run)
            print("passed:", name, flush=True)


def _ready(name: str, run: Path, folder: Path) -> tuple[Tap, Artifact]:
    """Return a tap, and the module for it."""
    if name == "bpf":
        bpf_tap.install(run)
        source = ROOT / "kernel_tap/modules" / MODULE / "module.c"
        return BpfTap(run), build_module(MODULE, source, folder)
    data = (BUILT / f"l45_{MODULE}.ko").read_bytes()
    artifact = Artifact(MODULE, "1.0.0", "kmod", data, os.uname().release)
    return KmodTap(run, core=BUILT / "l45.ko"), artifact


def _decide(tap: Tap, artifact: Artifact, prober: Path, folder: str) -> None:
    tap.start()
    for one in rounds(SEED, folder):
        found = differences(tap, artifact, one, prober)
        assert not found, "\n".join(found)


def _unload(name: str, run: Path) -> None:
    if name == "bpf":
        bpf_tap.uninstall(run)
    else:
        kmod_tap.uninstall(run)


if __name__ == "__main__":
    main()
