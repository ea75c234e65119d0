"""The dissertation's middlebox demonstration: `make demo`, or `python -m mininet_topos.demo`.

Plays the chain from intent to revocation on the two-site testbed and prints what happens as it
happens; each step is checked, and the first that does not hold ends the demonstration with what
was seen. Everything started or made is taken away at the end, also on failure and on Ctrl-C; the
capture, the dissector and the logs stay in the output folder.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mininet_topos.analyst import Analyst, Packet
from mininet_topos.processes import TestbedError
from mininet_topos.testbed import ZONE, Testbed, interrupt_once

INTENT = "tag-dns"
APPLY = (
    *("apply", "dns_app_tag", "--name", INTENT),
    *("--client", "h1:dig", "--server", "dns:dnsmasq", "--port", "53", "--mirror", "mb"),
)
FLAG = "XTAG"
LOOP = 20
"""Queries of the loop during which the agents are killed."""


class Demo:
    """The steps, in order; each prints what it does and what came of it."""

    def __init__(self, testbed: Testbed, console: Console) -> None:
        self.testbed = testbed
        self.console = console
        self.middlebox = Analyst(testbed, "mb")
        self.wire = Analyst(testbed, "dns")

    def play(self) -> None:
        """Play all steps."""
        self.network()
        self.middlebox.start()
        self.plain()
        self.apply()
        self.queries()
        self.mirror()
        self.table()
        self.agents_killed()
        self.revoke()
        self.middlebox.stop()

    # -- steps --------------------------------------------------------------------------------

    def network(self) -> None:
        """Show what is connected."""
        self.step("Hosts whose agents are connected to the NCO, in-band, over mutual TLS")
        self.nco("host", "list")

    def plain(self) -> None:
        """Before the intent: dig is answered, nothing is mirrored."""
        self.step("Before the intent: dig on h1 asks dnsmasq")
        self.answered("h1 dig", self.testbed.dig("h1"))

    def apply(self) -> None:
        """Apply the intent and show convergence."""
        self.step("The intent")
        self.nco(*APPLY)

    def queries(self) -> None:
        """Ask as three different senders."""
        self.step("Queries: dig on h1, another program on h1, dig on h2")
        self.answered("h1 dig     ", self.testbed.dig("h1", f"one.{ZONE}"))
        self.answered("h1 nslookup", _answer(self.testbed.nslookup("h1", f"two.{ZONE}")))
        self.answered("h2 dig     ", self.testbed.dig("h2", f"three.{ZONE}"))
        packets = self.middlebox.wait_for(6)
        tags = {packet.name: packet.application for packet in packets if not packet.response}
        expected = {f"one.{ZONE}": "dig", f"two.{ZONE}": "", f"three.{ZONE}": ""}
        self.check(tags == expected, f"only dig on h1 is tagged: {tags}")
        queries = [line for line in self.testbed.dnsmasq.tail().splitlines() if "query[A]" in line]
        self.say("dnsmasq saw plain queries, the tagged one too:")
        self.show(queries[-3:])

    def mirror(self) -> None:
        """Show the OpenFlow entry that sends the copies."""
        self.step("OpenFlow entries of ours on s1 (table 0), with their cookie")
        entries = [line.strip() for line in self.testbed.flows("s1").splitlines()]
        mirrors = [entry for entry in entries if "table=0" in entry and "output:" in entry]
        self.check(bool(mirrors), "s1 has mirror entries")
        self.show(mirrors)

    def table(self) -> None:
        """Print the dissertation's table, and who sends DNS without a tag."""
        self.step("What the middlebox saw (tshark, generated dissector)")
        packets = self.middlebox.packets()
        self.console.print(packet_table(packets))
        self.say("Senders of DNS without a tag:")
        names = self.testbed.named()
        for address, count in untagged(packets).items():
            self.say(f"  {address} ({names.get(address, 'unknown')}): {count} of its queries")

    def agents_killed(self) -> None:
        """Kill the agents of both ends in a loop of queries; restarted ones adopt."""
        self.step(
            f"kill -9 of the agents of h1 and dns within {LOOP} queries; then they start again"
        )
        before = len(self.middlebox.packets())
        for number in range(LOOP):
            if number == LOOP // 4:
                self.testbed.agents["h1"].kill()
                self.testbed.agents["dns"].kill()
            if number == LOOP * 3 // 4:
                self.testbed.start_agent("h1")
                self.testbed.start_agent("dns")
            name = f"n{number}.{ZONE}"
            self.check(bool(self.testbed.dig("h1", name)), f"{name} is answered", quiet=True)
        packets = self.middlebox.wait_for(before + 2 * LOOP)[before:]
        tagged = sum(packet.application == "dig" for packet in packets if not packet.response)
        self.check(tagged == LOOP, f"{tagged} of {LOOP} queries were tagged and answered")
        self.testbed.wait_for_agents(["h1", "dns"])
        self.nco("show", INTENT)

    def revoke(self) -> None:
        """Revoke; the next query is plain."""
        self.step("Revocation: send off, drained, receive off, removed")
        self.nco("revoke", INTENT)
        self.wire.start()
        self.answered("h1 dig", self.testbed.dig("h1", f"after.{ZONE}"))
        seen = self.wire.wait_for(2)
        self.check(not any(packet.application for packet in seen), "its query was plain")
        self.wire.stop()

    # -- printing -----------------------------------------------------------------------------

    def step(self, title: str) -> None:
        """Begin a step."""
        self.console.print()
        self.console.rule(title, align="left", style="cyan")

    def say(self, text: str) -> None:
        """Print a line of our own."""
        self.console.print(text, highlight=False)

    def nco(self, *arguments: str) -> None:
        """Run the operator's command in sight: the command, and its lines as they come."""
        self.say(f"[bold]$ nco {' '.join(arguments)}[/bold]")
        self.show(self.testbed.nco_lines(*arguments))

    def show(self, lines: Iterable[str]) -> None:
        """Print what a program said, untouched."""
        for line in lines:
            self.console.print(f"  {line.rstrip()}", markup=False, highlight=False, soft_wrap=True)

    def answered(self, who: str, answer: str) -> None:
        """Print an answer; none is a failure."""
        self.check(bool(answer), f"{who}: {answer or 'no answer'}")

    def check(self, held: bool, what: str, *, quiet: bool = False) -> None:
        """Print that `what` holds, or end the demonstration because it does not."""
        if not held:
            raise TestbedError(f"does not hold: {what}")
        if not quiet:
            self.console.print(f"  [green]ok[/green] {what}", highlight=False)


def _answer(nslookup: str) -> str:
    """Return the address in what nslookup printed, or nothing."""
    lines = [line for line in nslookup.splitlines() if line.startswith("Address:")]
    return lines[-1].removeprefix("Address:").strip() if len(lines) > 1 else ""


def packet_table(packets: Sequence[Packet]) -> Table:
    """Return the table of the dissertation's demonstration."""
    table = Table(box=None, padding=(0, 2))
    for title in ("No.", "Time", "Source", "Destination", "Protocol", "Length", "Application ID"):
        table.add_column(title, justify="right" if title in ("No.", "Length") else "left")
    for packet in packets:
        table.add_row(
            str(packet.number),
            f"{packet.time:.6f}",
            packet.source,
            packet.destination,
            packet.protocol,
            str(packet.length),
            packet.application,
        )
    return table


def untagged(packets: Sequence[Packet]) -> Counter[str]:
    """Count the DNS queries without a tag by the address of their sender."""
    return Counter(packet.source for packet in packets if packet.untagged_query)


def main() -> int:
    """Run the demonstration; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mininet_topos.demo",
        description="Plays the middlebox demonstration on two Mininet sites (root).",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/demo"),
        help="folder for the capture, the dissector and the logs (default: %(default)s)",
    )
    output = parser.parse_args().output.resolve()
    console = Console(width=None if sys.stdout.isatty() else 110)
    if os.geteuid() != 0:
        console.print("demo: needs root: run  sudo make demo")
        return 1
    interrupt_once()
    return _play(output, console)


def _play(output: Path, console: Console) -> int:
    started = time.monotonic()
    try:
        console.print("Starting two sites: Open vSwitch, ryu-manager, agents, dnsmasq ...")
        with Testbed(output) as testbed:
            Demo(testbed, console).play()
    except TestbedError as error:
        console.print(f"demo: failed: {error}", style="red", markup=False, highlight=False)
        if any((output / "logs").glob("*")):
            console.print(f"demo: logs are in {output}/logs", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("\ndemo: interrupted; everything that was started is gone")
        return 130
    took = time.monotonic() - started
    console.print(f"\nDone in {took:.0f} s; everything that was started is gone. To look closer:")
    console.print(
        f"  wireshark -X lua_script:{output}/dns_app_tag.lua {output}/capture-mb.pcapng",
        highlight=False,
        soft_wrap=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
