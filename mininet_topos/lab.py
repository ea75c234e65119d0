"""The two-site testbed with Mininet's prompt: `make lab`, or `python -m mininet_topos.lab`.

Everything of the demonstration is running, nothing is customized yet. At the prompt, `nco COMMAND`
is the operator's command, `h1 COMMAND` runs a command on a host, `sh COMMAND` one on this machine;
`exit` takes it all away.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mininet_topos.processes import TestbedError
from mininet_topos.testbed import DNS_ADDRESS, ZONE, Testbed, interrupt_once

HINTS = f"""
Try, at the prompt:
  nco host list
  nco apply dns_app_tag --name tag-dns --client h1:dig --server dns:dnsmasq --mirror mb
  h1 dig +short @{DNS_ADDRESS} www.{ZONE}
  nco show tag-dns
  nco revoke tag-dns
  exit
"""


def main() -> int:
    """Run the testbed until the user leaves the prompt; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mininet_topos.lab",
        description="Starts the two-site testbed and gives Mininet's prompt (root).",
        epilog=HINTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/lab"),
        help="folder for the logs (default: %(default)s)",
    )
    output = parser.parse_args().output.resolve()
    interrupt_once()
    try:
        print("Starting two sites: Open vSwitch, ryu-manager, agents, dnsmasq ...")
        with Testbed(output) as testbed:
            os.environ.update(testbed.operator_environment())
            print(f"{HINTS}\nLogs are in {output}/logs.")
            testbed.prompt()
        print("Everything that was started is gone.")
    except TestbedError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
