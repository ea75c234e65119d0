"""The NCO compiles kernel modules with a kernel's real headers: reproducibly, and named by key."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from controller.build import HEADER_FILES, HEADERS, Builder
from controller.config import KERNEL_TAP
from controller.plan import Platform
from host_agent.kernel_modules import describe

RELEASES = sorted(
    path.parent.name
    for path in HEADERS.glob("*/build")
    if all((path / name).is_file() for name in HEADER_FILES)
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not RELEASES, reason="no kernel's headers are here (`make test-vm`)"),
]


def compiled(sdk: Path) -> tuple[str, bytes]:
    """Return the build key of stream_tag for the newest kernel, and what it gives."""
    builder, platform = Builder(sdk / "modules", sdk, 300), Platform("kmod", RELEASES[-1])

    async def build() -> tuple[str, bytes]:
        key = await builder.key("stream_tag", platform)
        return key, await builder.compile("stream_tag", platform, key)

    return asyncio.run(build())


def test_the_same_sources_give_the_same_kernel_module_wherever_they_lie(tmp_path: Path) -> None:
    copies = [tmp_path / "one", tmp_path / "other" / "deeper"]
    for copy in copies:
        shutil.copytree(KERNEL_TAP, copy)
    (key, code), other = map(compiled, copies)
    assert (key, code) == other
    info = describe(code)
    assert info.name == f"l45_stream_tag_{key[:12]}"
    assert info.kernel == RELEASES[-1]
    assert "l45" in info.depends
    assert str(tmp_path).encode() not in code
    assert b"l45-build-" not in code
