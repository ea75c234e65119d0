"""Credentials: what cannot be used is refused with the file; both ends insist on each other."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.unit.agent_kit import Network
from tests.waiting import PATIENCE
from wire.artifact import verified
from wire.identity import NCO_NAME, Credentials, IdentityError, common_name


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """Return the client's certificate as the server got it; raise what the server raised."""
    here, there = socket.socketpair()
    here.settimeout(PATIENCE)
    there.settimeout(PATIENCE)

    def connect() -> None:
        with there, contextlib.suppress(OSError):
            client.wrap_socket(there, server_hostname=NCO_NAME).close()

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        with server.wrap_socket(here, server_side=True) as connection:
            assert connection.version() == "TLSv1.3"
            return connection.getpeercert() or {}
    finally:
        here.close()
        thread.join(PATIENCE)


def test_the_nco_learns_the_hosts_name(network: Network) -> None:
    certificate = shake_hands(network.nco.server_context(), network.host.client_context())
    assert common_name(certificate) == "h1"


def test_a_client_without_a_certificate_is_refused(network: Network) -> None:
    client = ssl.create_default_context(cafile=network.host.ca)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_hands(network.nco.server_context(), client)


def test_a_client_of_another_ca_is_refused(network: Network, tmp_path: Path) -> None:
    client = Network(tmp_path / "other").host.client_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(network.nco.server_context(), client)


def test_a_client_of_an_older_tls_is_refused(network: Network) -> None:
    client = network.host.client_context()
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        shake_hands(network.nco.server_context(), client)


def test_the_signers_key_verifies_artifacts(network: Network) -> None:
    verified(network.artifact(), network.host.signer_key())


@pytest.mark.parametrize("missing", ["ca.pem", "cert.pem", "key.pem"])
def test_a_missing_credential_says_who_writes_it(network: Network, missing: str) -> None:
    (network.host.folder / missing).unlink()
    with pytest.raises(IdentityError, match=r"cannot use the credentials.*`dca enrol` write"):
        network.host.client_context()


def test_a_key_of_another_certificate_is_refused(network: Network) -> None:
    network.host.key.write_bytes(network.nco.key.read_bytes())
    with pytest.raises(IdentityError, match="cannot use the credentials"):
        network.host.client_context()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_private_key_of_others_too_is_refused(network: Network, mode: int) -> None:
    network.host.key.chmod(mode)
    with pytest.raises(IdentityError, match=rf"key\.pem.*\(mode {mode:04o}\).*chmod 600"):
        network.host.client_context()


@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_a_bad_signer_key_is_refused_with_its_file(tmp_path: Path, content: bytes | None) -> None:
    credentials = Credentials(tmp_path)
    if content is not None:
        credentials.signer.write_bytes(content)
    with pytest.raises(IdentityError, match=r"signer\.pem: "):
        credentials.signer_key()


def test_a_signer_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    other = generate_private_key(SECP256R1()).public_key()
    credentials.signer.write_bytes(
        other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(IdentityError, match="not an Ed25519 public key"):
        credentials.signer_key()


@pytest.mark.parametrize("certificate", [None, {}, {"subject": ((("country", "CH"),),)}])
def test_a_certificate_without_a_name_has_none(certificate: dict[str, Any] | None) -> None:
    assert common_name(certificate) is None
