"""The driver's structures are laid out as the C compiler lays out the tap's."""

import ctypes
import subprocess
from pathlib import Path

from host_agent import bpf_abi

ROOT = Path(__file__).parents[2]
CONSTANTS = {
    "L45_COMM": bpf_abi.COMM,
    "L45_ID": bpf_abi.ID,
    "L45_PARAMETERS": bpf_abi.MAX_PARAMETERS,
    "L45_SET_MAX": bpf_abi.MAX_CUSTOMIZATIONS,
    "L45_TABLE_MAX": bpf_abi.TABLE_MAX,
    "L45_MODULES_MAX": bpf_abi.MODULES_MAX,
    "L45_FLAG_SEND": bpf_abi.FLAG_SEND,
    "L45_FLAG_RECEIVE": bpf_abi.FLAG_RECEIVE,
    "L45_FLAG_INACTIVE": bpf_abi.FLAG_INACTIVE,
    "L45_FLAG_DEPRECATED": bpf_abi.FLAG_DEPRECATED,
    "L45_PATH": bpf_abi.PATH,
    "L45_LEFT_MAX": bpf_abi.LEFT_MAX,
    "L45_PLACE_ANSWER": bpf_abi.PLACE_ANSWER,
    "L45_PLACE(5, L45_PLACE_SEND)": bpf_abi.place(5, receive=False),
    "L45_PLACE(5, L45_PLACE_RECEIVE)": bpf_abi.place(5, receive=True),
}


def expressions() -> dict[str, int]:
    """C expressions and the values that the driver takes them to have."""
    wanted = dict(CONSTANTS)
    for name, twin in bpf_abi.SHARED.items():
        wanted[f"sizeof(struct {name})"] = ctypes.sizeof(twin)
        for field, *_ in twin._fields_:
            member = getattr(twin, field)
            wanted[f"offsetof(struct {name}, {field})"] = member.offset
            wanted[f"sizeof(((struct {name} *)0)->{field})"] = member.size
    return wanted


def compile_c(folder: Path, source: str) -> Path:
    code, program = folder / "program.c", folder / "program"
    code.write_text(source)
    include = [f"-I{ROOT}/kernel_tap/{name}" for name in ("include", "core")]
    command = ["gcc", "-Wall", "-Wextra", "-Werror", *include, str(code), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def test_layout_is_the_compilers(tmp_path: Path) -> None:
    wanted = expressions()
    prints = "".join(f'printf("%zu\\n", (size_t)({expression}));' for expression in wanted)
    program = compile_c(
        tmp_path,
        "#include <stddef.h>\n#include <stdio.h>\n#include <l45/abi.h>\n"
        f"int main(void) {{ {prints} return 0; }}\n",
    )
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
    assert dict(zip(wanted, map(int, said), strict=True)) == wanted


def test_counters_of_all_cpus_are_added() -> None:
    each = [bpf_abi.CountersStruct(sent=1, too_big=5), bpf_abi.CountersStruct(sent=2, errors=7)]
    assert bpf_abi.sum_counters(b"".join(bytes(cpu) for cpu in each)) == {
        "sent": 3,
        "received": 0,
        "passed": 0,
        "dropped": 0,
        "errors": 7,
        "too_big": 5,
        "sent_bytes": 0,
        "received_bytes": 0,
    }
