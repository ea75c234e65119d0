"""How `nco apply` and the like wait: events are reasons to look; now and then one looks anyway."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller import cli_follow
from controller.api import IntentView
from controller.cli_client import CommandError, NcoClient, Unreachable
from controller.cli_follow import Follower
from controller.config import StateFolder
from controller.intent import Intent
from controller.phases import Phase
from tests.unit.nco_kit import eventually, intent, network
from tests.unit.test_cli_events import lines
from tests.unit.test_nco_cli import NCO, TAG
from tests.waiting import PATIENCE

FOR_EVER = 1e6


def view(phase: Phase) -> IntentView:
    return IntentView(
        name="tag",
        phase=phase,
        error=None,
        waiting={},
        spec=Intent.model_validate(intent()),
        module="idle",
        priority=100,
        deprecated=False,
        left_out={},
        deployments=[],
        hosts=[],
        mirrors=[],
        history=[],
    )


class Service:
    """An intent that is active from the second look on, and events that `tell` says what of."""

    def __init__(self, tell: Callable[[Service], list[str]]) -> None:
        self.looks = 0
        self.looked = threading.Event()
        self._tell = tell

    def intent(self, _name: str, *, hosts: bool) -> IntentView:
        assert not hosts
        self.looks += 1
        self.looked.set()
        return view(Phase.RECEIVE if self.looks == 1 else Phase.ACTIVE)

    @contextmanager
    def stream(self, path: str, _headers: Mapping[str, str]) -> Iterator[Iterator[str]]:
        assert path == "/events?kind=intent&intent=tag"
        yield iter(self._tell(self))

    def status(self) -> None:
        raise Unreachable("nobody answers")


def follow(service: Any) -> None:  # noqa: ANN401
    Follower(service, "tag", FOR_EVER, "", lambda: service).until_active()


def test_an_event_is_a_reason_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_follow, "LOOK_SECONDS", FOR_EVER)
    monkeypatch.setattr(cli_follow, "PAUSE_SECONDS", 0.0)

    def after_the_first_look(service: Service) -> list[str]:
        assert service.looked.wait(PATIENCE)
        return lines(1)

    follow(Service(after_the_first_look))


def refuse(_: Service) -> list[str]:
    raise CommandError("too many listen to events already")


def cut(_: Service) -> list[str]:
    raise Unreachable("a proxy ends what takes long")


@pytest.mark.parametrize("tell", [refuse, cut, lambda _: []])
def test_without_events_there_is_a_look_now_and_then(
    monkeypatch: pytest.MonkeyPatch, tell: Callable[[Service], list[str]]
) -> None:
    monkeypatch.setattr(cli_follow, "LOOK_SECONDS", 0.01)
    service = Service(tell)
    follow(service)
    assert service.looks >= 2


def test_a_service_that_can_do_nothing_now_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while its database is away; whoever does not wait is told why."""
    monkeypatch.setattr(cli_follow, "RESTART_SECONDS", 0.0)
    away = httpx.Response(503, json={"detail": "the database cannot be used"})
    active = httpx.Response(200, text=view(Phase.ACTIVE).model_dump_json())
    answers = iter([away, away, active, away])
    nco = NcoClient(StateFolder(tmp_path))
    transport = httpx.MockTransport(lambda _: next(answers))
    monkeypatch.setattr(nco, "_http", httpx.Client(transport=transport, base_url="http://nco"))
    listener: Any = Service(refuse)
    Follower(nco, "tag", FOR_EVER, "", lambda: listener).until_active()
    with pytest.raises(Unreachable, match="the database cannot be used"):
        Follower(nco, "tag", 0.0, "", lambda: listener).until_active()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("apply", *TAG), "`nco revoke tag` takes it away"),
        (("rotate", "tag"), "`nco rotate tag --cancel` takes it back"),
        (("revoke", "tag"), "`nco watch tag` follows it"),
    ],
)
def test_ctrl_c_says_that_it_goes_on_and_how(
    tmp_path: Path,
    command: tuple[str, ...],
    words: str,
) -> None:
    with network(tmp_path, "h1", "dns") as made:
        service, agents = made.service, made.agents
        if command[0] != "apply":
            with service.client() as client:
                client.put("/intents/tag", json=intent()).raise_for_status()
            eventually(lambda: service.get("/intents/tag")["phase"] == "active", "active")
        agents["dns"].holds.set()
        agents["h1"].holds.set()
        with subprocess.Popen(
            [*NCO, *command, "--timeout", "600", "--state", str(service.state.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert " s  " in process.stdout.readline(), "progress is printed"
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=PATIENCE)
        assert process.returncode == cli_follow.INTERRUPTED
        assert words in told
        assert told.count("\n") == 1
        for agent in agents.values():
            agent.holds.clear()
