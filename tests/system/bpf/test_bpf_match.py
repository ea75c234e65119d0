"""The eBPF tap decides as the oracle does which customization is for which socket."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_agent.bpf_tap import BpfTap
from tests.match_pairs import rounds
from tests.match_run import differences, install_programs, network
from tests.system.bpf.kit import ROOT, unique
from wire.artifact import Artifact

pytestmark = pytest.mark.system

SEED = 5


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    """Give a folder that users who are not root can enter, with the prober in it."""
    with tempfile.TemporaryDirectory(prefix=f"{unique('l45-match')}-", dir="/run") as folder:
        prober = Path(folder) / "match-prober"
        source = ROOT / "tests/vm/programs/match_prober.c"
        flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-pthread"]
        subprocess.run(["gcc", *flags, str(source), "-o", str(prober)], check=True)
        install_programs(prober, Path(folder))
        yield Path(folder)


def test_a_thousand_pairs_decide_as_the_oracle(
    tap_run: Path, artifacts: dict[str, Artifact], programs: Path
) -> None:
    with network(unique("tapx")):
        tap = BpfTap(tap_run)
        tap.start()
        for one in rounds(SEED, str(programs)):
            found = differences(tap, artifacts["dns_app_tag"], one, programs / "match-prober")
            assert not found, "\n".join(found)
