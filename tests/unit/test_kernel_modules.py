"""Kernel modules: what they say of themselves, and why a kernel takes none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from host_agent import kernel_modules
from host_agent.kernel_modules import ModuleError, _explained, describe, refusal
from tests.unit.kmod_kit import module_file

RELEASE = os.uname().release


def test_modinfo_reads_what_a_module_says(tmp_path: Path) -> None:
    info = describe(module_file(tmp_path, "l45_idle", "6.1.0-1-amd64"))
    assert (info.name, info.kernel, info.depends) == ("l45_idle", "6.1.0-1-amd64", ("l45",))


@pytest.mark.parametrize("image", [b"", b"\x7fELF", b"text\n", bytes(4096)])
def test_what_is_no_module_is_refused(image: bytes) -> None:
    with pytest.raises(ModuleError):
        describe(image)


def test_a_module_for_another_kernel_is_not_shown_to_this_one(tmp_path: Path) -> None:
    image = module_file(tmp_path, "l45_idle", "5.10.0")
    with pytest.raises(ModuleError, match=f"is compiled for kernel 5.10.0, this is {RELEASE}"):
        kernel_modules.load(image)


@pytest.fixture
def open_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of a kernel that takes any module, of a process that may load one."""
    names = ("PROC_MODULES", "MODULES_DISABLED", "SIG_ENFORCE", "LOCKDOWN")
    for name, content in zip(names, ("", "0", "N", "[none] integrity"), strict=True):
        (tmp_path / name).write_text(content)
        monkeypatch.setattr(kernel_modules, name, tmp_path / name)
    monkeypatch.setattr(kernel_modules, "has_capabilities", lambda *_: True)
    return tmp_path


def test_an_open_kernel_takes_modules(open_kernel: Path) -> None:
    assert refusal() is None
    (open_kernel / "LOCKDOWN").unlink()  # no such security module, or a /sys of its own
    assert refusal() is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("PROC_MODULES", None, "takes no modules"),
        ("MODULES_DISABLED", "1", "until it is booted again"),
        ("SIG_ENFORCE", "Y", "signed modules only"),
        ("LOCKDOWN", "none [integrity] confidentiality", "mokutil --disable-validation"),
        ("LOCKDOWN", "none integrity [confidentiality]", "use modules that run on the bpf tap"),
    ],
)
def test_a_kernel_that_takes_none_says_why_and_what_to_do(
    open_kernel: Path, name: str, content: str | None, words: str
) -> None:
    path = open_kernel / name
    path.unlink() if content is None else path.write_text(content)
    assert words in str(refusal())


def test_a_process_that_may_not_is_told(open_kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_kernel
    monkeypatch.setattr(kernel_modules, "has_capabilities", lambda *_: False)
    assert "CAP_SYS_MODULE" in str(refusal())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EKEYREJECTED, "signed modules only"),
        (errno.ENOKEY, "not one that this kernel trusts"),
        (errno.EPERM, "locked down"),
        (errno.ENOEXEC, "does not fit this kernel"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_the_kernels_refusals_are_explained(open_kernel: Path, code: int, words: str) -> None:
    assert open_kernel
    assert words in _explained(OSError(code, os.strerror(code)))


def test_a_tool_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ModuleError, match="no modinfo: install the package kmod"):
        describe(b"")
