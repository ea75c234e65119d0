"""What the agent knows of the host it runs on."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID
from pydantic import TypeAdapter, ValidationError
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from wire.identity import Credentials, IdentityError
from wire.messages import HostName

IFA_F_TEMPORARY, IFA_F_DADFAILED = 0x01, 0x08
"""Flags of an address (linux/if_addr.h); of an IPv4 address the first means "secondary"."""

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
            f"{path}: {error.strerror}; `dca enrol` gets a host's credentials"
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
    """Return the IPv4 and IPv6 addresses of this network namespace that others can use.

    Those that change by themselves (IPv6 privacy extensions, RFC 8981) and those that another host
    has are left out. Blocks for a moment (netlink); must not be called in an event loop, pyroute2
    runs one itself. Raises OSError.
    """
    try:
        with IPRoute() as netlink:
            found = [
                (ip_address(one.get("IFA_ADDRESS")), one.get("IFA_FLAGS") or 0)
                for family in (socket.AF_INET, socket.AF_INET6)
                for one in netlink.get_addr(family=family)
            ]
    except NetlinkError as error:  # an interface changed meanwhile, say
        raise OSError(f"cannot read this host's addresses: {error}") from error
    usable = [str(address) for address, flags in found if is_usable(address, flags)]
    return usable[:MAX_ADDRESSES]


def is_usable(address: IPv4Address | IPv6Address, flags: int) -> bool:
    """Whether an address with these flags is one to be reached by."""
    if address.version == 6 and flags & (IFA_F_TEMPORARY | IFA_F_DADFAILED):
        return False
    return not (address.is_loopback or address.is_link_local)
