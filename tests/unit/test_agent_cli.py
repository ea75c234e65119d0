"""The command `dca`: bad input is refused with words, and nothing is begun."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from host_agent.channel import Address
from host_agent.cli import _address
from host_agent.store import Store
from tests.unit.agent_kit import PATIENCE, Network


def dca(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    code = "from host_agent.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={"COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.10.0.5", Address("10.10.0.5", 4545)),
        ("nco.example.org:99", Address("nco.example.org", 99)),
        ("[::1]:4545", Address("::1", 4545)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert _address(text) == address


@pytest.mark.parametrize("text", ["", ":4545", "h:port", "h:70000", "h/path", "u@h", "a" * 70])
def test_what_is_no_address_is_refused(tmp_path: Path, text: str) -> None:
    done = dca("run", "--nco", text, "--credentials", tmp_path, "--state", tmp_path / "state")
    assert done.returncode == 2
    assert "is not HOST or HOST:PORT" in done.stderr
    assert not (tmp_path / "state").exists()


def test_missing_credentials_are_refused_before_the_kernel_is_touched(tmp_path: Path) -> None:
    done = dca(
        *("run", "--nco", "127.0.0.1", "--credentials", tmp_path / "none"),
        *("--state", tmp_path / "state", "--run-dir", tmp_path / "run"),
    )
    assert done.returncode == 1
    assert "none/cert.pem: No such file or directory; `nco host add NAME`" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_missing_key_is_refused(tmp_path: Path) -> None:
    host = Network(tmp_path).host
    host.key.unlink()
    done = dca(
        *("run", "--nco", "127.0.0.1", "--credentials", host.folder),
        *("--state", tmp_path / "state", "--run-dir", tmp_path / "run"),
    )
    assert done.returncode == 1
    assert "cannot use the credentials" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_state_folder_in_use_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    done = dca(
        *("run", "--nco", "127.0.0.1", "--credentials", Network(tmp_path).host.folder),
        *("--state", tmp_path / "state", "--run-dir", tmp_path / "run"),
    )
    store.close()
    assert done.returncode == 1
    assert "another dca runs with the state folder" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [[], ["run"], ["reset"], ["tap"], ["tap", "load"]])
def test_help_is_there(command: list[str]) -> None:
    done = dca(*command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
