"""The kernel tap at work: 100 MB by curl and nginx, tagged; then a rate limit that is deprecated.

`make demo-vm`, or `.venv/bin/python -m tests.vm.demo`: boots a guest that plays play.sh, prints
what it says as it says it, then shows what is in its captures and plots the throughput. The first
thing that does not hold ends it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.vm import kernels, machine
from tests.vm.demo.capture import Packet, count_tags, dissect, write_dissector
from tests.vm.demo.throughput import Throughput
from tests.vm.kernels import Kernel
from tests.vm.machine import Ended, Guest

PLAY = Path(__file__).with_name("play.sh")
PLAY_SECONDS = 600
STEP_SECONDS = 0.2
KEPT = ("http.pcap", "https.pcap", "console", f"{PLAY.stem}.out", "throughput", "deprecated")
SHOWN = 12
"""Packets of a capture that are printed."""
INFO_SIZE = 34
SLOWER = 5
"""A connection with the rate limit is slower than one without, at least so many times."""


class DemoError(RuntimeError):
    """Something does not hold; the text says what."""


class Demo:
    """The demonstration: what is played in the guest, and what is shown of it afterwards."""

    def __init__(self, output: Path, console: Console) -> None:
        self.output = output
        self.console = console

    def play(self, kernel: Kernel, accel: str) -> None:
        """Play all of it."""
        self.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="l45-demo-vm-") as folder:
            share = Path(folder)
            guest = Guest(kernel, accel, [PLAY], _modules(kernel), {}, PLAY_SECONDS)
            self.console.print(f"Booting Linux {kernel.release} in QEMU ({accel}) ...")
            ended = self._run(guest, share)
            for name in KEPT:
                if (share / name).exists():
                    shutil.copy(share / name, self.output)
            reasons = ended.reasons(PLAY.stem)
            self.check(ended.is_complete and not reasons, "the guest ended well", *reasons)
        self.tags()
        self.throughput()

    def _run(self, guest: Guest, share: Path) -> Ended:
        said = share / f"{PLAY.stem}.out"
        limit = time.monotonic() + machine.BOOT_SECONDS + PLAY_SECONDS
        printed = 0
        with machine.running(guest, share) as qemu:
            while qemu.poll() is None and time.monotonic() < limit:
                time.sleep(STEP_SECONDS)
                text = said.read_text(errors="replace") if said.exists() else ""
                self.console.out(text[printed:], end="", highlight=False)
                printed = len(text)
            return Ended(share, in_time=qemu.poll() == 0)

    def tags(self) -> None:
        """Show what the dissector makes of both captures."""
        dissector = write_dissector(self.output)
        for name in ("http", "https"):
            self.step(f"The begin of what passed over {name.upper()} (tshark, generated dissector)")
            packets = dissect(self.output / f"{name}.pcap", dissector)
            self.console.print(_packet_table(packets[:SHOWN]))
            counts = count_tags(packets)
            for (source, application, tag), count in counts.items():
                self.console.print(f"  tag {tag}, {count} times, of {application} from {source}")
            senders = {application for _, application, tag in counts if tag == "42"}
            self.check(senders == {"curl", "nginx"}, f"{name}: tag 42 of curl and of nginx")
            beside = [packet for packet in packets if packet.is_plain_program]
            if name == "http":
                seen = any("HTTP/1" in packet.info for packet in beside)
                tagged = any(packet.tags for packet in beside)
                self.check(seen and not tagged, f"socat beside it is plain ({len(beside)} packets)")

    def throughput(self) -> None:
        """Compare the two connections, and plot them."""
        self.step("rate_limit")
        measured = Throughput.read(self.output)
        old, new = measured.old_rate(), measured.new_rate()
        self.check(old > 0, f"the old connection stays slow: {old / 1e6:.2f} MB a second")
        self.check(new > SLOWER * old, f"the new one is fast: {new / 1e6:.2f} MB a second")
        measured.plot(self.output / "throughput.png")

    def step(self, title: str) -> None:
        """Begin a step."""
        self.console.print()
        self.console.rule(title, align="left", style="cyan")

    def check(self, held: bool, what: str, *reasons: str) -> None:
        """Print that `what` holds, or end the demonstration because it does not."""
        if not held:
            raise DemoError("\n    ".join([f"does not hold: {what}", *reasons]))
        self.console.print(f"  [green]ok[/green] {what}", highlight=False)


def _modules(kernel: Kernel) -> list[Path]:
    """Build what the guest needs."""
    folder = kernels.ROOT / "build/kmod" / kernel.release
    for build in (kernels.build_modules(kernel, folder), kernels.build_programs()):
        if build.code:
            raise DemoError(build.log)
    return kernels.modules_in(folder)


def _packet_table(packets: list[Packet]) -> Table:
    table = Table(box=None, padding=(0, 2))
    for title in ("No.", "Source", "Destination", "Protocol", "Info", "Application ID", "Tags"):
        table.add_column(title, no_wrap=True)
    for packet in packets:
        applications = dict.fromkeys(application for application, _ in packet.tags)
        table.add_row(
            packet.number,
            f"{packet.source}:{packet.source_port}",
            f"{packet.destination}:{packet.destination_port}",
            packet.protocol,
            packet.info[:INFO_SIZE],
            ",".join(applications),
            str(len(packet.tags) or ""),
        )
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm.demo", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--kernel", choices=kernels.SERIES, default="6.12", help="%(default)s")
    parser.add_argument("--accel", choices=("tcg", "kvm"), help="default: kvm where it works")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/demo-vm"),
        help="folder for captures, dissector, plot and log (default: %(default)s)",
    )
    return parser.parse_args()


def main() -> int:
    """Play the demonstration; return the exit code."""
    args = _arguments()
    output = args.output.resolve()
    console = Console(width=None if sys.stdout.isatty() else 120)
    if os.geteuid() != 0:
        console.print("demo-vm: needs root: run  sudo make demo-vm")
        return 1
    started = time.monotonic()
    try:
        kernel = kernels.named(args.kernel)
        Demo(output, console).play(kernel, args.accel or machine.accelerator(kernel))
    except (DemoError, OSError) as error:
        console.print(f"demo-vm: failed: {error}", style="red", markup=False, highlight=False)
        console.print(f"demo-vm: what it left is in {output}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    console.print(f"\nDone in {time.monotonic() - started:.0f} s. To look closer:")
    console.print(f"  {output}/throughput.png", highlight=False, soft_wrap=True)
    console.print(
        f"  wireshark -X lua_script:{output}/stream_tag.lua {output}/http.pcap",
        highlight=False,
        soft_wrap=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
