"""The command `dca`: bad input is refused with words, and nothing is begun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from host_agent.channel import Address
from host_agent.cli import _address
from host_agent.privileges import needs_root as lacking_root
from host_agent.store import Store
from tests.unit.agent_kit import Network
from tests.waiting import PATIENCE

needs_root = pytest.mark.skipif(
    lacking_root() is not None, reason="`dca run` asks for root before all else"
)


def dca(*arguments: str | Path, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run the real command, by the command `before` if there is one."""
    code = "from host_agent.cli import main; main()"
    return subprocess.run(
        [*before, sys.executable, "-c", code, *map(str, arguments)],
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
    assert done.stderr.endswith("; `dca run --help` shows how it is used\n")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "state").exists()


@needs_root
def test_missing_credentials_are_refused_before_the_kernel_is_touched(tmp_path: Path) -> None:
    done = dca(
        *("run", "--nco", "127.0.0.1", "--credentials", tmp_path / "none"),
        *("--state", tmp_path / "state", "--run-dir", tmp_path / "run"),
    )
    assert done.returncode == 1
    assert "none/cert.pem: No such file or directory; `dca enrol` gets" in done.stderr
    assert not (tmp_path / "run").exists()


def test_bytes_that_are_no_token_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xff\xf5")
    done = dca("enrol", file, "--credentials", tmp_path / "credentials")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no enrolment token" in done.stderr


@needs_root
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


@needs_root
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


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--nco", "127.0.0.1", "--credentials", "CLOSED", "--state", "CLOSED"],
        ["reset"],
        ["tap", "load"],
        ["tap", "status"],
        ["tap", "unload"],
        ["tap", "flows"],
    ],
)
def test_without_root_it_is_root_that_is_asked_for(tmp_path: Path, command: list[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)  # as root's folders are to others; root without capabilities is another
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if not os.geteuid() else ()
    arguments = [str(closed) if word == "CLOSED" else word for word in command]
    run_dir = [] if command == ["tap", "flows"] else ["--run-dir", str(closed)]
    done = dca(*arguments, *run_dir, before=powerless)
    assert done.returncode == 1
    assert done.stderr.startswith("dca: needs root: ")
    assert done.stdout == ""


@needs_root
def test_a_tap_that_is_not_loaded_has_exit_code_1(tmp_path: Path) -> None:
    done = dca("tap", "status", "--run-dir", tmp_path / "run")
    assert done.returncode == 1
    assert done.stdout.startswith("No tap is loaded")


@pytest.mark.parametrize("command", [[], ["run"], ["reset"], ["tap"], ["tap", "load"]])
def test_help_is_there(command: list[str]) -> None:
    done = dca(*command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
