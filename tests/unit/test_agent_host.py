"""What the agent knows of its host."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path

import pytest

from host_agent import host
from tests.unit.agent_kit import Network
from wire.identity import Credentials, IdentityError


def test_the_name_is_the_certificates(tmp_path: Path) -> None:
    assert host.name(Network(tmp_path).host) == "h1"


def test_a_missing_certificate_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"cert\.pem: No such file.*`dca enrol` gets"):
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


def test_addresses_that_others_cannot_use_are_not_told() -> None:
    assert not [
        a for a in host.addresses() if a.startswith(("127.", "169.254.", "fe80")) or a == "::1"
    ]
    for text, flags, usable in (
        ("10.0.0.1", 0, True),
        ("10.0.0.1", host.IFA_F_TEMPORARY, True),
        ("2001:db8::1", 0x80, True),
        ("2001:db8::1", host.IFA_F_TEMPORARY, False),
        ("2001:db8::1", host.IFA_F_DADFAILED, False),
        ("fe80::1", 0, False),
        ("169.254.1.1", 0, False),
        ("::1", 0, False),
    ):
        assert host.is_usable(ip_address(text), flags) == usable
