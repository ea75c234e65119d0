"""Bad input: a clear error where the operator looks and in the log, nothing half-applied."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from mininet_topos.processes import wait_until
from mininet_topos.testbed import SCRIPTS, WEB_ADDRESS, Testbed

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

THROW = Path(__file__).parent / "throw.py"
X = ("apply", "dns_app_tag", "--name", "x")


@pytest.mark.parametrize("trusts_this_nco", [True, False])
def test_a_wrong_certificate_is_refused_and_said_on_both_ends(
    testbed: Testbed, tmp_path: Path, trusts_this_nco: bool
) -> None:
    stranger = tmp_path / "stranger"
    _credentials_of_another_ca(testbed, stranger)
    if trusts_this_nco:
        shutil.copy(testbed.credentials / "h2" / "ca.pem", stranger)
    process = testbed.spawn(
        "h2",
        f"stranger-{trusts_this_nco}",
        [
            *(str(SCRIPTS / "dca"), "run", "--nco", "10.10.0.5", "--credentials", str(stranger)),
            *("--state", str(tmp_path / "state"), "--run-dir", str(testbed.run_folder)),
        ],
    )
    wait_until(lambda: "certificate" in process.tail(), "the agent says why", process=process)
    refused = re.compile(rf"peer={testbed.address('h2')}:\d+ handshake failed: .*certificate")
    wait_until(lambda: refused.search(testbed.nco_log()) is not None, "the NCO's log says why")
    process.stop()
    testbed.wait_for_agents()


def _credentials_of_another_ca(testbed: Testbed, folder: Path) -> None:
    state = folder.parent / "other-nco"
    testbed.nco("init", "--address", "10.10.0.5", "--state", str(state))
    testbed.nco("host", "add", "h2", "--out", str(folder), "--state", str(state))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*X, "--client", "h9:dig", "--server", "dns"), "h9"),
        (("apply", "no_such", "--name", "x", "--client", "h1", "--server", "dns"), "no_such"),
        (
            (*X, "--client", "h1", "--server", "dns", "--param", "color=1"),
            "color",
        ),
        (("revoke", "never-applied"), "never-applied"),
        (
            (*X, "--client", "h1:" + "p" * 16, "--server", "dns"),
            "15",
        ),
    ],
)
def test_bad_intents_are_refused_with_words(
    testbed: Testbed, arguments: tuple[str, ...], words: str
) -> None:
    done = testbed.nco(*arguments, check=False)
    assert done.returncode != 0
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert testbed.rest("show") == []


def test_a_module_that_does_not_compile_is_refused_with_the_compilers_words(
    testbed: Testbed,
) -> None:
    module = testbed.modules / "broken"
    module.mkdir()
    manifest = (testbed.modules / "dns_app_tag" / "manifest.toml").read_text(encoding="utf-8")
    (module / "manifest.toml").write_text(manifest.replace('"dns_app_tag"', '"broken"'))
    (module / "module.c").write_text("#include <l45/module.h>\nint broken(void) { return x; }\n")
    done = testbed.nco(
        *("apply", "broken", "--name", "b", "--client", "h1", "--server", "dns"), check=False
    )
    assert done.returncode != 0
    assert "undeclared identifier" in done.stdout + done.stderr
    testbed.nco("revoke", "b", check=False)
    assert testbed.rest("show") == []


@pytest.mark.parametrize(
    "target", ["10.10.0.5:4545", "169.254.45.2:6653", "RUN/rest.sock", "RUN/switches.sock"]
)
@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(4096),
        b"\xff\xff\xff\xff" + b"x" * 65536,
        # OpenFlow 1.3 Hello with an element of length zero: Ryu 4.34 alone loops on it.
        bytes.fromhex("0400001000000001 0001000000000000"),
    ],
    ids=["http", "random", "long frame", "hello"],
)
def test_garbage_on_any_port_hurts_nobody(
    testbed: Testbed, target: str, garbage: bytes, tmp_path: Path
) -> None:
    before = testbed.service_pid()
    file = tmp_path / "garbage"
    file.write_bytes(garbage)
    target = target.replace("RUN", str(testbed.state / "run"))
    thrown = testbed.run("nco", sys.executable, str(THROW), target, str(file))
    assert thrown.returncode == 0, thrown.stderr
    assert testbed.ryu
    assert testbed.ryu.running
    assert testbed.service_pid() == before
    testbed.wait_for_agents()
    assert testbed.dig("h2") == WEB_ADDRESS
