"""The initial file system of a guest: busybox, the modules for its root, and `init.sh`."""

from __future__ import annotations

import lzma
import stat
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
INIT = Path(__file__).with_name("init.sh")
FOR_ROOT = ("virtio_pci", "9pnet_virtio", "9p", "overlay")


def build(modules: Path) -> bytes:
    """Return an archive for the kernel with these modules (`/lib/modules/RELEASE`)."""
    files = [
        _entry("bin", stat.S_IFDIR | 0o755),
        _entry("modules", stat.S_IFDIR | 0o755),
        _entry("bin/busybox", stat.S_IFREG | 0o755, BUSYBOX.read_bytes()),
        _entry("init", stat.S_IFREG | 0o755, INIT.read_bytes()),
    ]
    for number, path in enumerate(_in_order(modules)):
        # The name says when to load it.
        files.append(_entry(f"modules/{number:02}", stat.S_IFREG | 0o644, _unpacked(path)))
    return b"".join([*files, _entry("TRAILER!!!", 0)])


def _entry(name: str, mode: int, data: bytes = b"") -> bytes:
    """Return a file as cpio's format "newc" has it (Linux: early-userspace/buffer-format)."""
    path = name.encode() + b"\0"
    #      inode, mode, uid, gid, links, time, size, device, device of a node, path, check
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % number for number in numbers)
    return _padded(header + path) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _in_order(modules: Path) -> list[Path]:
    """Return the files of FOR_ROOT and of what they need, which come before them."""
    needs = {}
    for line in (modules / "modules.dep").read_text(encoding="ascii").splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    files = {Path(path).name.partition(".")[0]: path for path in needs}
    builtin = (modules / "modules.builtin").read_text(encoding="ascii").splitlines()
    wanted = set(FOR_ROOT) - {Path(path).stem for path in builtin}
    order: dict[str, None] = {}
    for name in sorted(wanted, key=FOR_ROOT.index):
        # What modules.dep lists first is needed by nothing of what is behind it.
        order.update(dict.fromkeys([*reversed(needs[files[name]]), files[name]]))
    return [modules / path for path in order]


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data
