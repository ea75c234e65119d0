"""From intents to customizations."""

from __future__ import annotations

import uuid
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.errors import Conflict, Invalid
from controller.intent import Intent, load
from controller.plan import HostFacts, Plan, check_room, make_plan, overlap
from tests.unit.nco_kit import MANIFEST, intent, make_module
from wire.manifest import Manifest
from wire.manifest import load as load_manifest
from wire.match import Match
from wire.messages import MAX_CUSTOMIZATIONS, Target

MODULES = Path(__file__).parents[2] / "kernel_tap" / "modules"
BPF: tuple[Target, ...] = ("bpf",)
HOSTS = {
    "h1": HostFacts("h1", ("10.10.0.1",), BPF),
    "h2": HostFacts("h2", ("10.10.0.2",), BPF),
    "dns": HostFacts("dns", ("10.10.0.3",), BPF),
    "two": HostFacts("two", ("10.10.0.8", "10.10.0.9"), BPF),
    "bare": HostFacts("bare", ("10.10.0.7",), (), "no BTF in this kernel"),
}
UID = uuid.UUID(int=1)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    parameter = (
        '[[parameter]]\nname = "limit"\ntype = "u16"\nmeaning = "x"\ndefault = 512\nmax = 999'
    )
    make_module(tmp_path, extra=parameter)
    return load_manifest(tmp_path / "idle" / "manifest.toml")


def planned(manifest: Manifest, uid: uuid.UUID = UID, **changes: Any) -> Plan:  # noqa: ANN401
    return make_plan(Intent.model_validate(intent(**changes)), manifest, HOSTS, uid)


def test_server_receives_and_client_sends(manifest: Manifest) -> None:
    server, client = planned(manifest, parameters={"limit": 3}).customizations
    assert (server.host, server.side, server.receives, server.sends) == (
        "dns",
        "server",
        True,
        False,
    )
    assert server.match == Match(transport="udp", process="dnsmasq", local_port=53)
    assert (client.host, client.side, client.receives, client.sends) == (
        "h1",
        "client",
        False,
        True,
    )
    assert client.match == Match(
        transport="udp", process="dig", remote=IPv4Network("10.10.0.3/32"), remote_port=53
    )
    assert client.parameters == b"\x03\x00"
    assert client.target == "bpf"


def test_each_client_has_one_customization_for_each_server(manifest: Manifest) -> None:
    servers = [{"host": "dns"}, {"host": "two", "address": "10.10.0.9"}]
    plan = planned(manifest, client=[{"host": "h1"}, {"host": "h2"}], server=servers, port=5)
    assert [(c.host, str(c.match.remote)) for c in plan.customizations if c.side == "client"] == [
        ("h1", "10.10.0.3/32"),
        ("h1", "10.10.0.9/32"),
        ("h2", "10.10.0.3/32"),
        ("h2", "10.10.0.9/32"),
    ]
    assert all(c.match.local_port == 5 for c in plan.customizations if c.side == "server")


def test_identifiers_are_stable_and_differ(manifest: Manifest) -> None:
    servers = [{"host": "dns"}, {"host": "h2"}]
    ids = [c.id for c in planned(manifest, server=servers).customizations]
    assert len(set(ids)) == 4
    assert ids == [c.id for c in planned(manifest, server=servers).customizations]
    again = [c.id for c in planned(manifest, uuid.UUID(int=2), server=servers).customizations]
    assert set(ids).isdisjoint(again)


def test_a_mirror_for_each_server(manifest: Manifest) -> None:
    box = {"host": "h2"}
    (mirror,) = planned(manifest, middlebox=box).mirrors
    assert (mirror.id, mirror.server, mirror.port, mirror.middlebox) == (
        "tag",
        "10.10.0.3",
        53,
        "10.10.0.2",
    )
    servers = [{"host": "dns"}, {"host": "two", "address": "10.10.0.9"}]
    mirrors = planned(manifest, middlebox=box, server=servers).mirrors
    assert len({mirror.id for mirror in mirrors}) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"client": [{"host": "h9"}]}, "bare, dns, h1, h2, two"),
        ({"middlebox": {"host": "h9"}}, "no host 'h9'"),
        ({"server": [{"host": "two"}]}, "10.10.0.8, 10.10.0.9"),
        ({"server": [{"host": "dns", "address": "10.10.0.4"}]}, "does not have address 10.10.0.4"),
        ({"client": [{"host": "bare"}]}, "no BTF in this kernel"),
        ({"parameters": {"limit": 1000}}, "0..999"),
        ({"parameters": {"colour": 1}}, "it has: limit"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_words(
    manifest: Manifest, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(Invalid, match=words.replace(".", r"\.")):
        planned(manifest, **changes)


def test_a_module_that_no_tap_runs_is_refused(manifest: Manifest) -> None:
    only_user = manifest.model_copy(update={"targets": ["user"]})
    with pytest.raises(Invalid, match="idle cannot be deployed: its targets are user, hosts run"):
        planned(only_user)


@pytest.mark.parametrize("module", ["stream_tag", "rate_limit"])
def test_a_host_without_the_kernel_tap_has_no_streams(module: str) -> None:
    manifest = load_manifest(MODULES / module / "manifest.toml")
    with pytest.raises(Invalid, match=f"{module} cannot run on host dns: it can be built for kmod"):
        planned(manifest, port=80)


def test_a_port_is_needed_from_somewhere(tmp_path: Path) -> None:
    make_module(tmp_path)
    path = tmp_path / "idle" / "manifest.toml"
    path.write_text(MANIFEST.format(name="idle").replace("server_port = 53", ""))
    manifest = load_manifest(path)
    with pytest.raises(Invalid, match="must say `port`"):
        planned(manifest)
    assert planned(manifest, port=7).customizations[0].match.local_port == 7


def test_a_host_has_only_so_much_room(manifest: Manifest) -> None:
    others = [
        customization
        for number in range(MAX_CUSTOMIZATIONS)
        for customization in planned(manifest, name=f"i{number}", port=number + 1).customizations
    ]
    with pytest.raises(Conflict, match="at most 16"):
        check_room(planned(manifest, port=99), others)


def test_intents_on_one_flow_need_an_order(manifest: Manifest) -> None:
    mine = planned(manifest, name="mine")
    theirs = planned(manifest, name="theirs").customizations
    with pytest.raises(Conflict, match="'mine' and 'theirs'"):
        check_room(mine, theirs)
    check_room(planned(manifest, name="mine", priority=5), theirs)
    other_process = {"client": [{"host": "h1", "process": "curl"}]}
    check_room(planned(manifest, **other_process, server=[{"host": "h2"}]), theirs)


fields = st.fixed_dictionaries(
    {"transport": st.sampled_from(["udp", "tcp"])},
    optional={
        "thread": st.sampled_from(["a", "b"]),
        "process": st.sampled_from(["a", "b"]),
        "local_port": st.sampled_from([1, 2]),
        "remote_port": st.sampled_from([1, 2]),
        "remote": st.sampled_from(["10.0.0.0/24", "10.0.0.1/32", "10.0.1.0/24", "0.0.0.0/0"]),
    },
)


@given(fields, fields)
def test_matches_overlap_when_one_socket_could_be_both(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Against the definition: try every socket there can be over these few values."""
    sockets = [
        (transport, thread, process, local_port, remote_port, remote)
        for transport in ("udp", "tcp")
        for thread in "ab"
        for process in "ab"
        for local_port in (1, 2)
        for remote_port in (1, 2)
        for remote in ("10.0.0.1", "10.0.0.2", "10.0.1.1")
    ]

    def matches(said: dict[str, Any], socket: tuple[Any, ...]) -> bool:
        names = ("transport", "thread", "process", "local_port", "remote_port")
        exact = all(
            said.get(name, value) == value for name, value in zip(names, socket, strict=False)
        )
        prefix = IPv4Network(said.get("remote", "0.0.0.0/0"))
        return exact and IPv4Network(socket[5]).subnet_of(prefix)

    expected = any(matches(one, s) and matches(other, s) for s in sockets)
    assert overlap(Match.model_validate(one), Match.model_validate(other)) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Not_A_Label"},
        {"name": "../../etc"},
        {"client": []},
        {"client": [{"host": "h1"}, {"host": "h1"}]},
        {"client": [{"host": "h1", "process": "a b"}]},
        {"port": 0},
        {"port": 65536},
        {"priority": -1},
        {"module": "Bad-Name"},
        {"middlebox": {"host": "mb", "mode": "inline"}},
        {"unknown": 1},
    ],
)
def test_bad_intents_do_not_pass(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Intent.model_validate(intent(**changes))


def test_the_file_form(tmp_path: Path) -> None:
    file = tmp_path / "tag.toml"
    file.write_text(
        'name = "tag"\nmodule = "idle"\nport = 53\n'
        '[[client]]\nhost = "h1"\nprocess = "dig"\n'
        '[[server]]\nhost = "dns"\naddress = "10.10.0.3"\n'
        '[middlebox]\nhost = "mb"\nmode = "mirror"\n'
        "[parameters]\nlimit = 3\n"
    )
    read = load(file)
    assert read.clients[0].process == "dig"
    assert read.middlebox is not None
    assert read.parameters == {"limit": 3}
    assert Intent.model_validate(read.model_dump(mode="json")) == read
    for content in (b"\xff", b"= 1", b"name = 1"):
        file.write_bytes(content)
        with pytest.raises(Invalid, match=r"tag\.toml"):
            load(file)
