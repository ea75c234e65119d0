"""The eBPF tap in two namespaces for `make bench-tap`: customizes DNS between them, on and off.

    python -m bench.tap_bpf MODULE.o NEAR FAR

Reads `on` or `off` from its input, line by line, and answers `done` when it is so, and once when it
has begun; at the end of its input it takes everything away.
"""

from __future__ import annotations

import sys
from pathlib import Path

from host_agent import bpf_tap
from mininet_topos.namespaces import inside
from wire.artifact import Artifact
from wire.match import Match
from wire.messages import Customization

RUN = Path("/run/l45-bench")


def _customization(artifact: Artifact, port: dict[str, int], *, sends: bool) -> Customization:
    return Customization(
        id=f"{1 + sends:032x}",
        intent="bench",
        module=artifact.name,
        digest=artifact.digest,
        target="bpf",
        match=Match.model_validate({"transport": "udp"} | port),
        send=sends,
        receive=not sends,
    )


def _on(artifact: Artifact, near: str, far: str) -> None:
    wanted = {
        near: _customization(artifact, {"remote_port": 53}, sends=True),
        far: _customization(artifact, {"local_port": 53}, sends=False),
    }
    for namespace, customization in wanted.items():
        with inside(namespace):
            tap = bpf_tap.BpfTap(RUN)
            tap.start()
            if not tap.has_artifact(artifact.digest):
                tap.load_artifact(artifact)
            tap.apply([customization])


def _off(*namespaces: str) -> None:
    for namespace in namespaces:
        with inside(namespace):
            bpf_tap.BpfTap(RUN).stop()
    bpf_tap.uninstall(RUN)


def main() -> None:
    """Do what the input says."""
    code, near, far = sys.argv[1:]
    artifact = Artifact("dns_app_tag", "1.0.0", "bpf", Path(code).read_bytes())
    print("done", flush=True)
    try:
        for line in sys.stdin:
            if line.strip() == "on":
                _on(artifact, near, far)
            else:
                _off(near, far)
            print("done", flush=True)
    finally:
        _off(near, far)


if __name__ == "__main__":
    main()
