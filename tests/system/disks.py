"""Small file systems of the tests' own, to be filled."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAGE = bytes(4096)


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """Mount a file system with room for so much on a folder, for as long as the block lasts."""
    folder.mkdir(exist_ok=True)
    options = f"size={kib}k,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "l45-small-disk", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Leave no room in a folder's file system for as long as the block lasts."""
    filler = folder / "filler"
    try:
        with filler.open("ab", buffering=0) as file:
            _fill(file.fileno())
        yield
    finally:
        filler.unlink()


def _fill(descriptor: int) -> None:
    while True:
        try:
            os.write(descriptor, PAGE)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return
