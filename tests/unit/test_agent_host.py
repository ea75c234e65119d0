"""What the agent knows of its host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from host_agent import host
from tests.unit.agent_kit import Network
from wire.identity import Credentials, IdentityError


def test_the_name_is_the_certificates(tmp_path: Path) -> None:
    assert host.name(Network(tmp_path).host) == "h1"


def test_a_missing_certificate_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"cert\.pem: No such file.*`nco host add NAME`"):
        host.name(Credentials(tmp_path))


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    credentials.certificate.write_text("not a certificate")
    with pytest.raises(IdentityError, match=r"cert\.pem: not a certificate"):
        host.name(credentials)


def test_this_boot_has_an_id_and_a_release() -> None:
    assert re.fullmatch(r"[0-9a-f-]{36}", host.boot_id())
    assert host.boot_id() == host.boot_id()
    assert host.kernel_release()[0].isdigit()


def test_loopback_is_no_address_of_the_host() -> None:
    assert not [address for address in host.addresses() if address.startswith("127.")]
