"""The driver's structures are laid out as the C compiler lays out the tap's."""

import ctypes
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from host_agent import bpf_abi
from wire.match import Match

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


MATCHER = """
#include <stdio.h>
#include <match.h>
int main(void)
{
	struct l45_match match;
	struct l45_owner owner = { .thread = "isc-net-0000", .process = "dig" };
	struct l45_flow flow = { .protocol = 17 };
	const __u8 ends[] = { 10, 10, 0, 1, 10, 10, 0, 3, 0xc0, 0, 0, 53 };

	__builtin_memcpy(&flow, ends, sizeof(ends));
	if (fread(&match, sizeof(match), 1, stdin) != 1)
		return 2;
	return !l45_matches(&match, &owner, &flow);
}
"""


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(tmp_path_factory.mktemp("matcher"), MATCHER)


@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ({}, True),
        ({"process": "dig"}, True),
        ({"process": "digg"}, False),
        ({"process": "di"}, False),
        ({"thread": "isc-net-0000"}, True),
        ({"thread": "dig"}, False),
        ({"process": "dig", "thread": "isc-net-0000"}, True),
        ({"remote_port": 53}, True),
        ({"remote_port": 54}, False),
        ({"local_port": 0xC000}, True),
        ({"local_port": 53}, False),
        ({"remote": IPv4Network("10.10.0.3/32")}, True),
        ({"remote": IPv4Network("10.10.0.0/30")}, True),
        ({"remote": IPv4Network("10.10.0.4/30")}, False),
        ({"remote": IPv4Network("0.0.0.0/0")}, True),
        ({"local": IPv4Network("10.10.0.0/31")}, True),
        ({"local": IPv4Network("10.10.0.3/32")}, False),
        ({"process": "dig", "remote_port": 53, "local": IPv4Network("10.0.0.0/8")}, True),
        ({"transport": "tcp"}, False),
    ],
)
def test_match(matcher: Path, fields: dict[str, object], matches: bool) -> None:
    match = Match.model_validate({"transport": "udp"} | fields)
    run = subprocess.run([matcher], input=bytes(bpf_abi.pack_match(match)), check=False)
    assert run.returncode == (0 if matches else 1)


def test_counters_of_all_cpus_are_added() -> None:
    each = [bpf_abi.CountersStruct(sent=1, too_big=5), bpf_abi.CountersStruct(sent=2, errors=7)]
    assert bpf_abi.sum_counters(b"".join(bytes(cpu) for cpu in each)) == {
        "sent": 3,
        "received": 0,
        "passed": 0,
        "dropped": 0,
        "errors": 7,
        "too_big": 5,
    }
