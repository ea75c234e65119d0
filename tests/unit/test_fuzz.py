"""Fuzz targets (docs/fuzzing.md): their corpus, and about a minute of new inputs, under sanitizers.

`make fuzz` runs the same for hours.
"""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.vectors import MODULES, ROOT

pytestmark = pytest.mark.timeout(600)

FUZZ = ROOT / "kernel_tap" / "fuzz"
CORPUS = FUZZ / "corpus"
# Seconds; two run at a time.
TARGETS = {"receive": 24, "stream": 24, "match": 2, "wire": 2} | {
    path.parent.name: 8 for path in sorted(MODULES.glob("*/module.c"))
}


def build(folder: Path, modules: Path, *targets: str) -> None:
    make = ["make", "-s", "-C", str(FUZZ), f"OUT={folder}", f"MODULES={modules}"]
    subprocess.run([*make, *(str(folder / target) for target in targets)], check=True)


def fuzz(built: Path, target: str, seconds: int, *corpus: Path) -> str | None:
    """Return what went wrong, and the input that did it in hexadecimal."""
    finds = built / "finds" / target
    finds.mkdir(parents=True)
    result = subprocess.run(
        [
            str(built / target),
            f"-max_total_time={seconds}",
            "-max_len=4096",
            "-timeout=10",
            f"-artifact_prefix={built}/{target}-",
            *map(str, [finds, *corpus]),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if not result.returncode:
        return None
    report = re.sub(r"(?m)^(#\d+\t|INFO:).*\n", "", result.stderr)
    inputs = "".join(f"{path.read_bytes().hex()}\n" for path in built.glob(f"{target}-*-*"))
    return f"{report}\nexit code {result.returncode}, input:\n{inputs}"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    built = tmp_path_factory.mktemp("fuzz")
    build(built, MODULES, *TARGETS)
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda item: fuzz(built, *item, CORPUS / item[0]), TARGETS.items())
        return dict(zip(TARGETS, found, strict=True))


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(outcomes: dict[str, str | None], target: str) -> None:
    assert outcomes[target] is None, outcomes[target]


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_is_small(target: str) -> None:
    sizes = [path.stat().st_size for path in (CORPUS / target).iterdir()]
    assert 1 <= len(sizes) < 100
    assert max(sizes) <= 4096


FAULTY = {
    "forgets": """
#include <l45/module.h>
static enum l45_verdict send(struct l45_msg *msg)
{
	return l45_remove(msg, 0, 1) ? L45_NEXT : L45_DONE;
}
static enum l45_verdict recv(struct l45_msg *msg)
{
	return l45_insert(msg, 0, 1) ? L45_ERROR : L45_DONE;
}
L45_MODULE(forgets, send, recv)
""",
    "answers": """
#include <l45/module.h>
static enum l45_verdict echo(struct l45_msg *msg)
{
	__u8 byte;
	return l45_load(msg, l45_len(msg) - 1, &byte, 1) ? L45_NEXT : L45_PASS + byte;
}
L45_MODULE(answers, echo, echo)
""",
    "mistakes": """
#include <l45/module.h>
static enum l45_verdict send(struct l45_msg *msg)
{
	return l45_len(msg) ? L45_DONE : L45_NEXT;
}
static enum l45_verdict recv(struct l45_msg *msg)
{
	return l45_len(msg) > 9 && l45_remove(msg, 9, 1) ? L45_ERROR : L45_DONE;
}
L45_STREAM_MODULE(mistakes, L45_STREAM_WHOLE, 0x4d495354, send, recv)
""",
}


@pytest.mark.parametrize("module", FAULTY)
def test_a_faulty_module_is_found(tmp_path: Path, module: str) -> None:
    folder = tmp_path / "modules" / module
    folder.mkdir(parents=True)
    (folder / "module.c").write_text(FAULTY[module])
    (folder / "manifest.toml").write_text("growth = 0\n")
    built = tmp_path / "built"
    build(built, tmp_path / "modules", module)
    found = fuzz(built, module, 60)
    assert found is not None
    assert "not so:" in found
    assert re.search(r"input:\n(?:[0-9a-f]{2})+\n", found)
