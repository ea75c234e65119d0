"""What the agent knows of the host it runs on."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID
from pydantic import TypeAdapter, ValidationError
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from wire.identity import Credentials, IdentityError
from wire.messages import HostName

MAX_ADDRESSES = 64
"""`Hello.addresses` takes no more."""


def name(credentials: Credentials) -> str:
    """Return the host's name: the common name of its own certificate.

    Raises IdentityError where there is none that a host can have.
    """
    path = credentials.certificate
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise IdentityError(
            f"{path}: {error.strerror}; `nco host add NAME` writes a host's credentials"
        ) from error
    except ValueError as error:
        raise IdentityError(f"{path}: not a certificate") from error
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    try:
        return TypeAdapter(HostName).validate_python(names[0].value if names else "")
    except ValidationError as error:
        raise IdentityError(f"{path}: its common name is not the name of a host") from error


def boot_id() -> str:
    """Return what the kernel made up when it booted: another one after each boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def kernel_release() -> str:
    """Return the running kernel's release, as `uname -r` does."""
    return os.uname().release


def addresses() -> list[str]:
    """Return the IPv4 addresses of this network namespace, without loopback.

    Blocks for a moment (netlink); must not be called in an event loop, pyroute2 runs one itself.
    Raises OSError.
    """
    try:
        with IPRoute() as netlink:
            found = [one.get("IFA_ADDRESS") for one in netlink.get_addr(family=socket.AF_INET)]
    except NetlinkError as error:  # an interface changed meanwhile, say
        raise OSError(f"cannot read this host's addresses: {error}") from error
    return [a for a in found if not IPv4Address(a).is_loopback][:MAX_ADDRESSES]
