"""The driver's messages are laid out as `kernel_tap/include/l45/netlink.h` says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from host_agent import kmod_abi
from tests.unit.test_bpf_abi import compile_c
from wire import challenge
from wire.match import EXECUTABLE_MAX
from wire.messages import KEY_SIZE, MAX_CUSTOMIZATIONS

FLAGS = ("SEND", "RECEIVE", "INACTIVE", "DEPRECATED", "DRAINING")
FAULT_NAMES = ["NONE", "FRAME", "TOO_LONG", "UNKNOWN", "MODULE", "CUT", "LATE", "SILENT", "MEMORY"]


def expressions() -> dict[str, int]:
    """C expressions and the values that the driver takes them to have."""
    wanted = {
        "L45_GENL_VERSION": kmod_abi.VERSION,
        "L45_SET_SIZE_MAX": MAX_CUSTOMIZATIONS,
        "L45_EXECUTABLE_MAX": EXECUTABLE_MAX,
        "L45_KEY_SIZE": KEY_SIZE,
        "L45_NONCE_MIN": challenge.NONCE_MIN,
        "L45_NONCE_MAX": challenge.NONCE_MAX,
        "L45_SEND_STATES": len(kmod_abi.SEND_STATES),
        "L45_RECEIVE_STATES": len(kmod_abi.RECEIVE_STATES),
        "L45_CMD_COUNT": 1 + max(v for n, v in vars(kmod_abi).items() if n.startswith("CMD_")),
        'sizeof(L45_GENL_NAME "") - 1': len(kmod_abi.FAMILY),
        'sizeof(L45_GENL_EVENTS "") - 1': len(kmod_abi.EVENTS),
    }
    wanted |= {f"L45_{n}": v for n, v in vars(kmod_abi).items() if n.startswith("CMD_")}
    wanted |= {f"L45_CUSTOMIZATION_{n}": getattr(kmod_abi, f"FLAG_{n}") for n in FLAGS}
    wanted |= {f"L45_FAULT_{name}": number for number, name in enumerate(FAULT_NAMES)}
    for message in (
        kmod_abi.counters,
        kmod_abi.match,
        kmod_abi.customization,
        kmod_abi.code,
        kmod_abi.flow,
        kmod_abi.l45msg,
    ):
        wanted |= {name: number for number, (name, _) in enumerate(message.nla_map)}
        prefix = message.nla_map[0][0].removesuffix("UNSPEC")
        wanted[f"{prefix}COUNT"] = len(message.nla_map)
    for message in (kmod_abi.attached, kmod_abi.wanted):
        wanted |= {name: number for number, name, _ in message.nla_map}
    return wanted


def test_numbers_are_the_headers(tmp_path: Path) -> None:
    wanted = expressions()
    prints = "".join(f'printf("%zu\\n", (size_t)({expression}));' for expression in wanted)
    program = compile_c(
        tmp_path,
        "#include <stddef.h>\n#include <stdio.h>\n#include <l45/netlink.h>\n"
        "#include <l45/module.h>\n#include <stream.h>\n#include <states.h>\n"
        f"int main(void) {{ {prints} return 0; }}\n",
    )
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
    assert dict(zip(wanted, map(int, said), strict=True)) == wanted
    assert len(FAULT_NAMES) == len(kmod_abi.FAULTS)
