"""Real tshark, with dissectors as they are generated and nobody's settings."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dissectors.generate import generate
from tests import pcap
from wire.manifest import Manifest

ROOT_WARNING = 'Running as user "root" and group "root". This could be dangerous.'


@dataclass(frozen=True)
class Tshark:
    """Runs tshark with a folder of its own as home."""

    home: Path

    def dissectors(self, *manifests: Manifest) -> list[str]:
        """Return the options that load the dissectors of these modules."""
        options = []
        for manifest in manifests:
            script = self.home / f"{manifest.name}.lua"
            script.write_text(generate(manifest), encoding="utf-8")
            options += ["-X", f"lua_script:{script}"]
        return options

    def text(self, packets: Sequence[pcap.Packet], *options: str) -> str:
        """Return what tshark prints of a capture; fails where it complains of anything."""
        capture = pcap.write(self.home / "capture.pcap", packets)
        result = subprocess.run(
            ["tshark", "-n", "-r", capture, *options],
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
        complaints = result.stderr.replace(ROOT_WARNING, "").strip()
        assert (result.returncode, complaints) == (0, ""), result.stderr
        assert "Lua Error" not in result.stdout, result.stdout
        return result.stdout

    def layers(self, packets: Sequence[pcap.Packet], *options: str) -> list[dict[str, Any]]:
        """Return the protocol layers of each frame."""
        printed = self.text(packets, "-T", "json", "--no-duplicate-keys", *options)
        return [packet["_source"]["layers"] for packet in json.loads(printed)]

    def fields(
        self, packets: Sequence[pcap.Packet], names: list[str], *options: str
    ) -> list[list[str]]:
        """Return the named fields of each frame that is shown."""
        wanted = [argument for name in names for argument in ("-e", name)]
        printed = self.text(packets, "-T", "fields", *wanted, *options)
        return [line.split("\t") for line in printed.splitlines()]


def experts(layer: Any) -> set[str]:  # noqa: ANN401 - any part of what tshark prints as JSON
    """Return the filter names of the expert infos anywhere in a layer."""
    found: set[str] = set()
    for value in layer if isinstance(layer, list) else [layer]:
        if isinstance(value, dict):
            found |= {key for key in value if ".expert." in key and not key.startswith("_ws")}
            found |= {name for inner in value.values() for name in experts(inner)}
    return found
