"""`nco ca rotate` asks for a step where it has seen the replacement, and says what is not sure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from controller import cli_ca
from controller.api_ca import AuthorityView, CaChange, CaView
from controller.cli import app
from controller.cli_client import CommandError, Unreachable

ONE = AuthorityView(name="new", fingerprint="1" * 64, expires=0, issues=True)
OTHER = AuthorityView(name="old", fingerprint="0" * 64, expires=0, issues=False)
VIEW = CaView(
    authorities=[ONE, OTHER], phase="retire", goes_back=True, hosts=1, missing=[], pem="-"
)


class Nco:
    """A service that is in `retire`, and goes back."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.asked: list[CaChange] = []
        self._fault = fault

    def call(self, method: str, _path: str, _kind: type, body: CaChange | None = None) -> CaView:
        assert (method == "POST") == (body is not None)
        if body is not None:
            self.asked.append(body)
            if self._fault is not None:
                raise Unreachable("it does not answer within 60 s") from self._fault
        return VIEW


def rotate(nco: Nco, monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> Any:  # noqa: ANN401
    @contextmanager
    def connected(*_: object) -> Iterator[Nco]:
        yield nco

    monkeypatch.setattr(cli_ca, "connected", connected)
    return CliRunner().invoke(app, ["ca", "rotate", *options, "--state", str(folder)])


@pytest.mark.parametrize("step", ["finish", "abort"])
def test_a_step_is_asked_for_in_the_phase_that_was_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str
) -> None:
    nco = Nco()
    assert rotate(nco, monkeypatch, tmp_path, f"--{step}").exit_code == 0
    assert [one.model_dump() for one in nco.asked] == [
        {"step": step, "phase": "retire", "goes_back": True}
    ]


def test_after_an_answer_that_was_lost_one_should_look_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lost = rotate(Nco(httpx.ReadTimeout("")), monkeypatch, tmp_path, "--finish")
    assert isinstance(lost.exception, CommandError)
    assert "nco ca show" in str(lost.exception)
    refused = rotate(Nco(ValueError("503")), monkeypatch, tmp_path, "--finish")
    assert str(refused.exception) == "it does not answer within 60 s"
