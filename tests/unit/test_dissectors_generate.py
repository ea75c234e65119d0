"""What the generator makes of manifests, and what its command answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors import generate as generator
from dissectors.generate import DissectorError, generate, main
from tests import vectors
from wire.manifest import load

MANIFESTS = [
    vectors.MODULES / "dns_app_tag" / "manifest.toml",
    vectors.ROOT / "tests" / "data" / "every_field" / "manifest.toml",
    vectors.MODULES / "dns_compress" / "manifest.toml",
    vectors.MODULES / "stream_tag" / "manifest.toml",
    vectors.MODULES / "stream_xor" / "manifest.toml",
]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name)
def test_luacheck_finds_nothing(path: Path, tmp_path: Path) -> None:
    script = tmp_path / "dissector.lua"
    script.write_text(generate(load(path)), encoding="utf-8")
    result = subprocess.run(
        ["luacheck", "--no-color", "--config", vectors.ROOT / ".luacheckrc", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text(), max_size=20))
def test_any_text_is_the_same_text_in_lua(texts: list[str]) -> None:
    script = "".join(f'io.write({generator._lua(text)}, "\\255")\n' for text in texts)
    printed = subprocess.run(["lua", "-"], input=script.encode(), capture_output=True, check=True)
    assert printed.stdout.split(b"\xff")[:-1] == [text.encode() for text in texts]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name)
def test_same_manifest_same_source(path: Path) -> None:
    manifest = load(path)
    assert generate(manifest) == generate(manifest)


def test_a_module_that_leaves_no_trace_is_refused() -> None:
    with pytest.raises(DissectorError, match="rate_limit leaves no trace on the wire"):
        generate(load(vectors.MODULES / "rate_limit" / "manifest.toml"))


def test_command_takes_a_name_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = []
    for number, module in enumerate(["dns_app_tag", str(MANIFESTS[0].parent)]):
        output = tmp_path / f"{number}.lua"
        assert main([module, "-o", str(output)]) == 0
        outputs.append(output.read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)  # the template is found from anywhere
    run = subprocess.run(
        [sys.executable, "-m", "dissectors.generate", "dns_app_tag"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert outputs == [run.stdout] * 2


@pytest.mark.parametrize("module", ["nothing", "./nothing"])
def test_command_names_what_it_cannot_read(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([module]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dissectors.generate: ")
    assert "nothing/manifest.toml" in captured.err
