"""The `nco` command as a process, against the real service."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from controller import cli_print
from controller.cli import app as nco_app
from controller.config import StateFolder
from host_agent.cli import app as dca_app
from tests.unit.nco_kit import (
    Agent,
    Network,
    Service,
    eventually,
    make_module,
    make_state,
    network,
)
from tests.waiting import PATIENCE

NCO = (sys.executable, "-m", "controller.cli")
TAG = ("idle", "--name", "tag", "--client", "h1:dig", "--server", "dns:dnsmasq")


def nco(*arguments: str, state: StateFolder | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "L45_STATE": str(state.path)} if state else dict(os.environ)
    return subprocess.run(
        [*NCO, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment,
        check=False,
    )


def right(*arguments: str, state: StateFolder) -> str:
    done = nco(*arguments, state=state)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wrong(*arguments: str, state: StateFolder) -> str:
    done = nco(*arguments, state=state)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("nco"), "h1", "dns", "mb") as made:
        yield made


@pytest.fixture
def service(shared: Network) -> Iterator[Service]:
    yield shared.service
    shared.reset()


@pytest.fixture
def agents(shared: Network, service: Service) -> dict[str, Agent]:
    return shared.agents


def test_init_and_host_add_write_private_keys_and_overwrite_nothing(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    out = tmp_path / "h1"
    right("init", "--address", "10.10.0.5", state=state)
    assert state.load_config().control == "10.10.0.5:4545"
    right("host", "add", "h1", "--out", str(out), state=state)
    for key in (state.ca_key, state.signer_key, state.credentials.key, out / "key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for folder in (state.path, state.run, state.artifacts, state.credentials.folder, out):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert "state folder already" in wrong("init", "--address", "10.10.0.5", state=state)
    assert "exists" in wrong("host", "add", "h1", "--out", str(out), state=state)
    assert "one DNS label" in wrong("host", "add", "H_1", "--out", f"{out}2", state=state)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_bad_addresses_are_named(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    for address in ("nonsense", "10.10.0.5:99999", "10.10.0.5:", "10.10.0.300"):
        assert "10.10.0.5:4545" in wrong("init", "--address", address, state=state)
    assert not state.path.exists()


def test_without_a_service_it_says_how_to_start_one(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "nothing")
    assert "nco init" in wrong("host", "list", state=state)
    assert "ryu-manager apps/nco.py" in wrong("status", state=make_state(tmp_path))


def test_apply_show_revoke(service: Service, agents: dict[str, Agent]) -> None:
    state = service.state
    shown = right("apply", *TAG, state=state)
    phases = [text.split()[2] for text in shown.splitlines() if " s  " in text]
    assert list(dict.fromkeys(phases)) == ["building", "receive", "send", "active"]
    assert "tag is active" in shown
    for host in ("h1", "dns"):
        assert f"receive    {host} confirmed" in shown
        assert f"send       {host} confirmed" in shown
    assert agents["h1"].sends
    assert "tag is active" in right("apply", *TAG, state=state), "again changes nothing"

    shown = right("show", "tag", state=state)
    assert "intent tag: active" in shown
    assert "process dig to 10.10.0.3:53" in shown
    assert json.loads(right("show", "tag", "--json", state=state))["phase"] == "active"
    assert "tag" in right("show", state=state)

    shown = right("revoke", "tag", state=state)
    phases = [text.split()[2] for text in shown.splitlines() if " s  " in text]
    assert list(dict.fromkeys(phases)) == ["stop_send", "drain", "remove", "gone"]
    assert not agents["h1"].applied
    assert json.loads(right("show", "--json", state=state)) == []
    assert "'tag' is gone" in wrong("show", "tag", state=state)
    assert "no intent 'tag'" in wrong("revoke", "tag", state=state)


def test_options_say_priority_and_what_to_do_where_no_tap_fits(
    service: Service, agents: dict[str, Agent]
) -> None:
    said = json.loads(right("plan", *TAG, "--json", state=service.state))
    right("apply", *TAG, "--priority", "7", "--no-tap", "skip", "--no-wait", state=service.state)
    spec = service.get("/intents/tag")["spec"]
    assert said["name"] == spec["name"]
    assert (spec["priority"], spec["no_tap"]) == (7, "skip")
    told = nco("apply", *TAG, "--no-tap", "ignore", state=service.state)
    assert told.returncode == 2
    assert "'ignore' is not one of 'refuse', 'skip'" in told.stderr
    assert "exists and asks for something else" in wrong("apply", *TAG, state=service.state)


def test_an_intent_from_a_file(service: Service, agents: dict[str, Agent], tmp_path: Path) -> None:
    file = tmp_path / "tag.toml"
    file.write_text(
        'name = "tag"\nmodule = "idle"\n'
        '[[client]]\nhost = "h1"\nprocess = "dig"\n'
        '[[server]]\nhost = "dns"\n'
    )
    state = service.state
    plan = right("plan", str(file), state=state)
    assert plan.index("1. receive") < plan.index("2. send")
    assert json.loads(right("show", "--json", state=state)) == []
    assert "tag is active" in right("apply", str(file), state=state)
    file.write_text(file.read_text() + "surprise = 1\n")
    assert "server.0.surprise" in wrong("apply", str(file), state=state)
    assert "leave the other options out" in wrong("apply", str(file), "--name", "x", state=state)


def test_refusals_reach_the_operator(service: Service, agents: dict[str, Agent]) -> None:
    state = service.state
    for arguments, words in (
        (("idle", "--name", "x", "--client", "h9", "--server", "dns"), "dns, h1, mb"),
        (("none", "--name", "x", "--client", "h1", "--server", "dns"), "idle"),
        (("idle", "--name", "x", "--client", "h1:" + "p" * 16, "--server", "dns"), "15 bytes"),
        (("idle", "--name", "x", "--client", "h1:", "--server", "dns"), "HOST:PROCESS"),
        ((*TAG, "--param", "color=1"), "no parameter 'color'"),
        ((*TAG, "--param", "color"), "NAME=NUMBER"),
        (("idle", "--name", "x", "--client", "h1"), "server"),
        (("idle", "--client", "h1", "--server", "dns"), "--name"),
    ):
        assert words in wrong("apply", *arguments, state=state)
    assert json.loads(right("show", "--json", state=state)) == []


def test_failures_end_with_exit_code_1(service: Service, agents: dict[str, Agent]) -> None:
    state = service.state
    make_module(state.path.parent / "modules", "broken", "#error because\n")
    broken = ("broken", *TAG[1:])
    words = wrong("apply", *broken, state=state)
    assert "because" in words
    assert "nothing of it is left" in words
    agents["dns"].refusal = "the verifier says no"
    assert "host dns: the verifier says no" in wrong("apply", *TAG, state=state)
    right("revoke", "tag", state=state)
    agents["dns"].refusal = None

    agents["dns"].holds.set()
    right("apply", *TAG, "--no-wait", state=state)
    eventually(lambda: list(service.get("/intents/tag")["waiting"]) == ["dns"], "waits for dns")
    words = wrong("apply", *TAG, "--timeout", "0.1", state=state)
    assert "waiting for dns" in words
    assert "nco revoke tag" in words
    right("revoke", "tag", "--no-wait", state=state)
    agents["dns"].holds.clear()
    eventually(lambda: service.get("/intents") == [], "the intent is gone")


def test_names_that_nobody_has_are_refused_with_those_that_there_are(
    service: Service, agents: dict[str, Agent]
) -> None:
    right("apply", *TAG, state=service.state)
    there = "hosts: dns, h1, mb"
    for command, words in (
        ("challenge none", f"no host and no intent 'none'; {there}; intents: tag"),
        ("flows --host none", f"no host 'none'; {there}"),
        ("flows --intent none", "no intent 'none'; intents: tag"),
        ("counters none", "no intent 'none'; intents: tag"),
        ("history none", "no intent 'none'; intents: tag"),
        ("events --host none", f"no host 'none'; {there}"),
        ("host revoke none", f"no host 'none': it has no certificate and no token; {there}"),
        ("host forget none", f"no host 'none'; {there}"),
        ("host label none a=b", f"no host 'none'; {there}"),
    ):
        assert words in wrong(*command.split(), state=service.state)


def test_a_mirror_that_nobody_installs_is_an_error(
    service: Service, agents: dict[str, Agent]
) -> None:
    mirrored = ("apply", *TAG, "--mirror", "mb")
    right(*mirrored, "--no-wait", state=service.state)
    eventually(lambda: service.get("/intents/tag")["phase"] == "active", "active")
    words = nco(*mirrored, "--timeout", "0.1", state=service.state)
    assert words.returncode == 1
    assert "no Ryu application is connected" in words.stdout
    assert "mirror is not installed" in words.stderr
    mirrors = service.get("/intents/tag")["mirrors"]
    assert [(m["server"], m["port"], m["middlebox"]) for m in mirrors] == [
        ("10.10.0.3", 53, "10.10.0.6")
    ]


def test_lists(service: Service, agents: dict[str, Agent]) -> None:
    state = service.state
    assert "3 of 3 connected" in right("status", state=state)
    hosts = right("host", "list", state=state).splitlines()
    assert [row.split()[:3] for row in hosts[1:]] == [
        ["dns", "connected", "10.10.0.3"],
        ["h1", "connected", "10.10.0.1"],
        ["mb", "connected", "10.10.0.6"],
    ]
    assert "idle" in right("module", "list", state=state)
    assert {host["name"] for host in json.loads(right("host", "list", "--json", state=state))} == {
        "dns",
        "h1",
        "mb",
    }


def test_dissector(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    out = tmp_path / "idle.lua"
    right("dissector", "idle", "-o", str(out), state=state)
    assert "l45.idle" in out.read_text()
    assert "no module 'none'" in wrong("dissector", "none", state=state)


@pytest.mark.parametrize("command", ["", "init", "host add", "apply", "plan", "show", "revoke"])
def test_help_needs_no_state(command: str) -> None:
    assert "Usage" in nco(*command.split(), "--help").stdout


def test_the_command_loads_nothing_of_the_service() -> None:
    """Each of these takes longer to load than the whole command does."""
    heavy = "{'sqlalchemy', 'fastapi', 'starlette', 'uvicorn'}"
    code = f"import sys, controller.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def commands(app: typer.Typer, path: str) -> dict[str, typer.core.TyperCommand]:
    """Return all commands, each under what is typed for it."""

    def inside(command: object, path: str) -> dict[str, typer.core.TyperCommand]:
        if not isinstance(command, typer.core.TyperGroup):
            assert isinstance(command, typer.core.TyperCommand)
            return {path: command}
        found = {}
        for name, inner in command.commands.items():
            found |= inside(inner, f"{path} {name}")
        return found

    return inside(typer.main.get_command(app), path)


EVERY = {**commands(nco_app, "nco"), **commands(dca_app, "dca")}


def test_the_help_of_each_command_has_an_example_and_a_word_on_each_option() -> None:
    for path, command in EVERY.items():
        assert f"Example: {path}" in (command.help or ""), path
        for one in command.params:
            assert getattr(one, "help", None), (path, one.name)


@pytest.mark.parametrize(
    "path",
    [
        *("nco status", "nco show", "nco plan", "nco watch", "nco events", "nco history"),
        *("nco flows", "nco counters", "nco alerts", "nco audit", "nco challenge"),
        *("nco host list", "nco module list", "nco token list", "nco policy show", "nco ca show"),
        *("dca tap status", "dca tap flows"),
    ],
)
def test_every_command_that_shows_something_has_it_for_programs(path: str) -> None:
    assert "--json" in [option for one in EVERY[path].params for option in one.opts]


def test_the_audit_log_fits_a_terminal_and_is_whole_for_programs(
    service: Service, agents: dict[str, Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    right("apply", *TAG, state=service.state)
    right("host", "label", "h1", "site=B", state=service.state)
    monkeypatch.setattr(cli_print.console, "width", 80)
    monkeypatch.setenv("L45_STATE", str(service.state.path))
    told = CliRunner().invoke(nco_app, ["audit"]).stdout.splitlines()
    assert all(len(one) <= 80 for one in told)
    place = next(n for n, one in enumerate(told) if "PUT /intents/tag: answered 201" in one)
    assert told[place + 1].strip().startswith("from local pid ")
    assert told[place + 1].endswith("…")
    assert not any(" of tag" in one for one in told), "that is in the path already"
    entries = json.loads(right("audit", "--json", state=service.state))["entries"]
    (put,) = [one for one in entries if one["action"] == "PUT /intents/tag"][-1:]
    assert '"process":"dig"' in put["detail"]


def test_what_an_operator_writes_wrong_is_told_in_one_line(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    intent = tmp_path / "tag.toml"
    intent.write_text('name = "a"\nmodule = "idle"\ncolour = 1\n')
    ends = ("--client", "a", "--server", "b")
    for command, words in (
        (("plan", "idle", "--name", "A_b", *ends), "name: 'A_b' is not one DNS label"),
        (("plan", str(intent)), "colour: there is no such setting"),
        (("host", "label", "a", "site"), "write NAME=VALUE, like site=B"),
        (("host", "token", "a", "--valid", "9999d"), "valid: Input should be less than"),
        (("host", "token", "a", "--valid", "soon"), "'soon' is no span of time: write it like"),
        (("rotate", "a", "--set", "x"), "--set 'x': write NAME=NUMBER"),
        (("host", "add", "a", "--out", "x", "--valid", "0s"), "--valid 0s: that is no time at all"),
        (("audit", "--since", "x"), "--since: 'x' is no span of time"),
        (("plan", "./tag"), "is no module; the name of an intent's file ends"),
        (("plan", "idle", "--name", "a", "--client", "=x", *ends[2:]), "'=x' is no label"),
        (
            ("--server", "https://a", "--token-file", "no", "--ca", "no", "status"),
            "--ca no: No such",
        ),
    ):
        told = wrong(*command, state=state)
        assert words in told
        assert told.count("\n") <= 1


@pytest.mark.parametrize(
    ("command", "words", "path"),
    [
        ("aply", "no such command 'aply'. Did you mean 'apply'", "nco"),
        ("apply", "missing argument 'MODULE|FILE.toml'", "nco apply"),
        ("host revoke", "missing argument", "nco host revoke"),
        ("apply idle --prt 3", "no such option: --prt", "nco apply"),
        ("plan idle --port 99999", "'--port': it should be less than", "nco plan"),
        ("plan idle --port", "option '--port' requires an argument", "nco plan"),
        ("events --kind x", "'x' is not one of 'intent', 'host'", "nco events"),
    ],
)
def test_a_command_that_is_written_wrong_is_answered_in_one_line(
    command: str, words: str, path: str
) -> None:
    done = nco(*command.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("nco: ")
    assert words in done.stderr
    assert f"`{path} --help`" in done.stderr
    assert done.stderr.count("\n") == 1


def test_names_that_are_none_are_refused(service: Service) -> None:
    for name in ("../hosts", "a/b", "Ä", ""):
        assert "one DNS label" in wrong("show", name, state=service.state)
    assert "one DNS label" in wrong("revoke", "../hosts", state=service.state)


def test_what_an_agent_says_does_not_control_the_terminal(
    service: Service, agents: dict[str, Agent]
) -> None:
    agents["dns"].refusal = "evil \x1b[2J\x07"
    done = nco("apply", *TAG, state=service.state)
    assert "evil ?[2J?" in done.stderr
    assert "\x1b[2J" not in done.stdout + done.stderr
