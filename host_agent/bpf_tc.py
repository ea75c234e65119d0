"""Where the eBPF tap meets packets: clsact filters on the interfaces of the current namespace."""

from __future__ import annotations

import errno
import logging
import socket
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

logger = logging.getLogger(__name__)

ETHERNET = 1
LOOPBACK = 772
ETH_P_ALL = 3
PRIORITY = HANDLE = 45
"""Our filter is found again by these; other filters of an interface stay."""

RTMGRP_LINK = 1
NEWS_MAX = 1000
NEWS_SIZE = 4096
"""Of messages; the rest of a longer one is cut off, and nobody needs it."""

HOOKS = {"l45_ingress": 0xFFFFFFF2, "l45_egress": 0xFFFFFFF3}
"""The programs and the clsact parents that they are attached to."""

GROUPS = {"bridge", "bond", "team"}
"""What these deliver or send themselves passes the group's interface, the rest is not this host's:
the interfaces in them are left out."""

UPPER_OF_LINK = {"macvlan", "macvtap", "ipvlan"}
"""What these send passes the interface below too: they are left out."""


def prepare() -> None:
    """Give every interface the clsact that filters hang on; again changes nothing.

    Once, when the agent starts, and not with the first set: the kernel drops what leaves while a
    clsact comes or goes (`qdisc_graft` deactivates the device), and nothing while filters do.
    """
    with IPRoute() as route:
        for index, _ in _interfaces(route):
            try:
                _add_clsact(route, index)
            except NetlinkError as error:
                if error.code != errno.ENODEV:  # gone since it was listed
                    raise


def attach(programs: Mapping[str, int]) -> None:
    """Put the programs (file descriptors by name) on every interface; again changes nothing.

    Raises NetlinkError where the kernel refuses.
    """
    with IPRoute() as route:
        for index, name in _interfaces(route):
            try:
                _attach_to(route, index, programs)
            except NetlinkError as error:
                if error.code != errno.ENODEV:  # gone since it was listed
                    raise
            else:
                logger.debug("tap_attached interface=%s", name)


class LinkWatch:
    """Tells whether interfaces of the namespace have changed, since it was made or asked last."""

    def __init__(self) -> None:
        """Begin to watch; raises OSError."""
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, RTMGRP_LINK))
        weakref.finalize(self, self._socket.close)

    def has_news(self) -> bool:
        """Whether there was a change, or too many to be told of."""
        news = False
        for _ in range(NEWS_MAX):
            try:
                self._socket.recv(NEWS_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            news = True
        return news


def _add_clsact(route: IPRoute, index: int) -> None:
    try:
        route.tc("add", "clsact", index)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _attach_to(route: IPRoute, index: int, programs: Mapping[str, int]) -> None:
    _add_clsact(route, index)
    for program, parent in HOOKS.items():
        route.tc(
            "replace-filter",
            "bpf",
            index,
            handle=HANDLE,
            fd=programs[program],
            name=program,
            parent=parent,
            prio=PRIORITY,
            protocol=ETH_P_ALL,
            classid=1,
            direct_action=True,
        )


def detach() -> None:
    """Take our filters off every interface; the clsact stays, see `prepare`."""
    with IPRoute() as route:
        for index, name in _interfaces(route):
            ours = [parent for parent in HOOKS.values() if _has_ours(route, index, parent)]
            for parent in ours:
                with suppress(NetlinkError):  # gone with its interface meanwhile
                    route.tc(
                        "del-filter", "bpf", index, handle=HANDLE, parent=parent, prio=PRIORITY,
                        protocol=ETH_P_ALL,
                    )  # fmt: skip
            logger.debug("tap_detached interface=%s", name)


def withdraw() -> None:
    """Take our filters off every interface, and the clsact where nobody else uses it."""
    detach()
    with IPRoute() as route:
        for index, _ in _interfaces(route):
            if not any(route.get_filters(index=index, parent=p) for p in HOOKS.values()):
                with suppress(NetlinkError):  # there was none, or its interface is gone
                    route.tc("del", "clsact", index)


def _has_ours(route: IPRoute, index: int, parent: int) -> bool:
    return any(
        options.get("TCA_BPF_NAME") in HOOKS
        for found in route.get_filters(index=index, parent=parent)
        if (options := found.get("TCA_OPTIONS")) and found["handle"] == HANDLE
    )


def _interfaces(route: IPRoute) -> Iterator[tuple[int, str]]:
    links = list(route.get_links())
    groups = {link["index"] for link in links if _kind(link) in GROUPS}
    for link in links:
        name = str(link.get("ifname"))
        if link["ifi_type"] == ETHERNET and not _passes_another(link, groups):
            yield int(link["index"]), name
        elif link["ifi_type"] != LOOPBACK:
            logger.debug("tap_skipped interface=%s", name)


def _kind(link: Any) -> str | None:  # noqa: ANN401 - pyroute2 has no types
    kind: str | None = link.get(("linkinfo", "kind"))
    return kind


def _passes_another(link: Any, groups: set[int]) -> bool:  # noqa: ANN401
    """Tell whether this host's packets on `link` pass another interface of the namespace too."""
    if link.get("master") in groups or _kind(link) == "vrf":
        return True
    # A link in another namespace is out of our sight: there is no other interface here.
    return _kind(link) in UPPER_OF_LINK and link.get("link_netnsid") is None
