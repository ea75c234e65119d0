"""The dissertation's two sites: `mn --custom mininet_topos/two_site.py --topo two_site`.

`mn` runs this file with the system's Python and without our packages, so it imports nothing of
ours. Where the kernel has no Open vSwitch datapath, the switches forward in user space (`netdev`)
and the hosts compute checksums themselves.
"""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from mininet.log import warn
from mininet.node import Host, OVSSwitch
from mininet.topo import Topo

SITE_A = {"dns": 3, "web": 4, "nco": 5, "mb": 6}
"""Host number, the last byte of its address, by name; `mb` is the middlebox."""

SITE_B = {"h1": 1, "h2": 2}


@lru_cache
def kernel_datapath() -> bool:
    """Whether the kernel has Open vSwitch's datapath, loaded or loadable."""
    if Path("/sys/module/openvswitch").exists():
        return True
    try:
        probe = subprocess.run(
            ["modprobe", "--dry-run", "--quiet", "openvswitch"], check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


class SiteSwitch(OVSSwitch):
    """An OpenFlow 1.3 switch that forwards nothing until a controller says so."""

    def __init__(self, name: str, **params: Any) -> None:  # noqa: ANN401 - Mininet's own
        params["datapath"] = "kernel" if kernel_datapath() else "user"
        params["protocols"] = "OpenFlow13"
        params["failMode"] = "secure"
        super().__init__(name, **params)


class SiteHost(Host):
    """A host whose packets carry finished checksums when the switches run in user space.

    `netdev` passes a packet on as it is: one whose checksum was left to the network card would
    arrive with a wrong one.
    """

    def config(self, **params: Any) -> Any:  # noqa: ANN401 - Mininet's own
        """Configure the host as Mininet does, then its interface."""
        result = super().config(**params)
        if not kernel_datapath():
            command = ["ethtool", "-K", self.defaultIntf().name, "tx", "off"]
            output, errors, status = self.pexec(command)
            if status:
                warn(f"{self.name}: {' '.join(command)} failed: {errors or output}\n")
        return result


class TwoSite(Topo):
    """Site A on s1 (servers, NCO, middlebox), site B on s2 (h1, h2), and a link between them."""

    def build(self) -> None:
        """Make switches, hosts with fixed addresses, and links; called by Mininet."""
        for number, site in enumerate([SITE_A, SITE_B], start=1):
            switch = self.addSwitch(f"s{number}", cls=SiteSwitch, dpid=f"{number:016x}")
            for name, last in site.items():
                mac = f"00:00:00:00:00:{last:02x}"
                self.addHost(name, cls=SiteHost, ip=f"10.10.0.{last}/24", mac=mac)
                self.addLink(name, switch)
        self.addLink("s1", "s2")


topos = {"two_site": TwoSite}
