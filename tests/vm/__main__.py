"""Boot one kernel, run the checks named, and print what they and the kernel say as they say it.

.venv/bin/python -m tests.vm 6.1 tests/vm/checks/changes.sh
.venv/bin/python -m tests.vm debug /tmp/try.sh --set COUNT=5
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.vm import kernels, machine
from tests.vm.kernels import ROOT, Kernel
from tests.vm.machine import BEGIN, Ended, Guest

CHECKS = Path(__file__).parent / "checks"
STEP_SECONDS = 0.2


class Follower:
    """Prints what is added to the console, from the first check on, and to checks' output."""

    def __init__(self, share: Path, checks: Sequence[str]) -> None:
        self._console = share / "console"
        self._printed = {share / f"{name}.out": 0 for name in checks}
        self._begun = False

    def step(self) -> None:
        if not self._begun and self._console.exists():
            head, begin, _ = self._console.read_bytes().partition(BEGIN.encode())
            self._begun = bool(begin)
            self._printed[self._console] = len(head)
        if self._begun:
            for path in self._printed:
                self._print(path)

    def _print(self, path: Path) -> None:
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._printed[path])
            new = file.read()
        self._printed[path] += len(new)
        sys.stdout.write(new.decode(errors="replace"))
        sys.stdout.flush()


def main() -> int:
    args = _arguments()
    checks = args.checks or sorted(CHECKS.glob("*.sh"))
    try:
        kernel = kernels.named(args.kernel)
        modules = _modules(kernel, args.as_built)
    except (FileNotFoundError, ChildProcessError) as error:
        print(error, file=sys.stderr)
        return 2
    guest = Guest(kernel, args.accel, checks, modules, dict(args.set), args.seconds)
    print(f"l45-vm: booting {kernel.release}", flush=True)
    with tempfile.TemporaryDirectory(prefix="l45-vm-") as share:
        ended = _followed(guest, Path(share))
        return _summary(ended, checks)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("kernel", choices=(*kernels.SERIES, kernels.DEBUG))
    parser.add_argument("checks", nargs="*", type=Path, metavar="FILE.sh", help="default: all")
    parser.add_argument("--seconds", type=int, default=machine.CHECK_SECONDS, help="for a check")
    parser.add_argument("--accel", choices=("tcg", "kvm"), default="tcg", help="%(default)s")
    parser.add_argument("--as-built", action="store_true", help="build nothing, take what is there")
    parser.add_argument("--set", action="append", default=[], type=_variable, metavar="NAME=VALUE")
    args = parser.parse_intermixed_args()
    for path in args.checks:
        if not path.is_file():
            parser.error(f"{path}: no such file")
    return args


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _modules(kernel: Kernel, as_built: bool) -> list[Path]:
    """Build what checks need; ChildProcessError, with the compiler's words, if that fails."""
    folder = ROOT / "build/kmod" / kernel.release
    if as_built:
        return kernels.modules_in(folder)
    for build in kernels.build_modules(kernel, folder), kernels.build_programs():
        if build.code:
            raise ChildProcessError(build.log)
    return kernels.modules_in(folder)


def _followed(guest: Guest, share: Path) -> Ended:
    follower = Follower(share, [path.stem for path in guest.checks])
    limit = time.monotonic() + machine.BOOT_SECONDS + guest.check_seconds * len(guest.checks)
    with machine.running(guest, share) as qemu:
        while qemu.poll() is None and time.monotonic() < limit:
            follower.step()
            time.sleep(STEP_SECONDS)
        follower.step()
        return Ended(share, in_time=qemu.poll() == 0)


def _summary(ended: Ended, checks: Sequence[Path]) -> int:
    """Print how each check ended; return 0 if all is well."""
    failed = 0
    for name in (path.stem for path in checks):
        reasons = ended.reasons(name)
        failed += bool(reasons)
        print(f"l45-vm: {name}:", *reasons or ["passed"], sep="\n    " if reasons else " ")
    if not ended.is_complete:
        print(f"l45-vm: the guest did not end by itself; its last words:\n{ended.tail}")
    return int(failed > 0 or not ended.is_complete)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
