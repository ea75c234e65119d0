"""From intents to customizations."""

from __future__ import annotations

import uuid
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from controller.cli_client import CommandError
from controller.cli_intents import endpoint
from controller.errors import Conflict, Invalid
from controller.intent import Client, Intent, load
from controller.plan import HostFacts, Plan, Skipped, make_plan
from controller.plan_checks import changes, check_room
from controller.policy import Policy
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
        {"client": [{"process": "dig"}]},
        {"client": [{"host": "h1", "label": "site=B"}]},
        {"client": [{"label": "site"}]},
        {"client": [{"prefix": "10.0.0.1/8"}]},
        {"client": [{"host": "h1", "plain": True}]},
        {"client": [{"prefix": "10.0.0.0/8", "plain": True, "process": "dig"}]},
        {"client": [{"host": "h1", "local_port": 9, "local_port_last": 8}]},
        {
            "client": [{"prefix": "10.0.0.0/8", "plain": True}],
            "server": [{"prefix": "10.0.0.0/8", "plain": True}],
        },
        {"server": [{"label": "site=B", "address": "10.0.0.1"}]},
        {"port_last": 9},
        {"port": 9, "port_last": 8},
        {"parameters": {"limit": "3"}},
        {"parameters": {"limit": True}},
        {"parameters": {"limit": 1.5}},
        {"no_tap": "any"},
        {"security": {"challenge_every": "often"}},
        {"security": {"challenge_every": 0}},
        {"security": {"on_failure": "shrug"}},
        {"rotation": {"every": "1h"}},
        {"rotation": {"modules": ["idle"]}},
        {"rotation": {"modules": ["other"], "parameters": {"third": {}}}},
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


SITES = {
    "a1": HostFacts("a1", ("10.1.0.1", "2001:db8:1::1"), BPF, labels=frozenset({"site=A"})),
    "a2": HostFacts("a2", ("10.1.0.2",), BPF, labels=frozenset({"site=A", "role=web"})),
    "b1": HostFacts("b1", ("10.2.0.1", "2001:db8:2::1"), BPF, labels=frozenset({"site=B"})),
    "b2": HostFacts("b2", ("10.2.0.2",), (), "no BTF", labels=frozenset({"site=B"})),
}
LABELS: dict[str, Any] = {"client": [{"label": "site=A"}], "server": [{"host": "b1"}]}


def plan_of(
    manifest: Manifest,
    hosts: dict[str, HostFacts] = SITES,
    *,
    policy: Policy = Policy(),  # noqa: B008 - it cannot be changed
    running: bool = False,
    **said: Any,  # noqa: ANN401
) -> Plan:
    wanted = Intent.model_validate(intent(**said))
    return make_plan(wanted, manifest, hosts, UID, policy=policy, running=running)


def who(plan: Plan, side: str) -> list[str]:
    return [f"{c.host} {c.match.remote}" for c in plan.customizations if c.side == side]


@pytest.fixture
def any_family(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A manifest, and a bpf tap that matches addresses of both families."""
    monkeypatch.setattr(Match, "beyond_bpf", None)
    return manifest


def test_clients_get_one_for_each_family_that_they_speak(any_family: Manifest) -> None:
    plan = plan_of(any_family, **LABELS)
    assert who(plan, "client") == ["a1 10.2.0.1/32", "a1 2001:db8:2::1/128", "a2 10.2.0.1/32"]
    assert who(plan, "server") == ["b1 None"]


def test_a_label_may_be_several_and_a_prefix_means_whose_address_is_in_it(
    any_family: Manifest,
) -> None:
    both = [{"label": ["site=A", "role=web"]}]
    assert who(plan_of(any_family, **{**LABELS, "client": both}), "client") == ["a2 10.2.0.1/32"]
    inside = {"client": [{"prefix": "10.1.0.0/31"}], "server": [{"prefix": "2001:db8:2::/48"}]}
    plan = plan_of(any_family, **inside)
    assert who(plan, "client") == ["a1 2001:db8:2::1/128"]


def test_endpoints_that_mean_the_same_host_are_one(any_family: Manifest) -> None:
    twice = [{"label": "site=A"}, {"host": "a2"}, {"prefix": "10.1.0.2/32"}]
    plan = plan_of(any_family, **{**LABELS, "client": twice})
    assert len(who(plan, "client")) == 3
    assert len({c.id for c in plan.customizations}) == len(plan.customizations)


def test_a_label_that_nobody_has_is_refused_but_of_a_running_intent(manifest: Manifest) -> None:
    nobody = {**LABELS, "client": [{"label": "site=C"}]}
    with pytest.raises(Invalid, match="no host is site=C"):
        plan_of(manifest, **nobody)
    assert who(plan_of(manifest, running=True, **nobody), "client") == []


def test_hosts_without_a_fitting_tap_refuse_the_intent_or_are_left_out(manifest: Manifest) -> None:
    ends: dict[str, Any] = {"client": [{"host": "a2"}], "server": [{"label": "site=B"}]}
    ends["client"] = [{"host": "a2"}]
    with pytest.raises(Invalid, match="no BTF"):
        plan_of(manifest, **ends)
    plan = plan_of(manifest, **ends, no_tap="skip")
    assert who(plan, "server") == ["b1 None"]
    assert who(plan, "client") == ["a2 10.2.0.1/32"], "nobody sends to a server that was left out"
    (left_out,) = plan.skipped
    assert (left_out.host, left_out.side) == ("b2", "server")
    assert "no BTF" in left_out.reason
    assert plan_of(manifest, **ends, running=True).skipped == plan.skipped
    with pytest.raises(Invalid, match=r"there is no server for intent 'tag'.*no BTF"):
        plan_of(manifest, client=[{"host": "a2"}], server=[{"host": "b2"}], no_tap="skip")


def test_where_a_module_does_nothing_no_tap_is_needed(manifest: Manifest) -> None:
    limit = load_manifest(MODULES / "rate_limit" / "manifest.toml")
    hosts = {
        "a2": HostFacts("a2", ("10.1.0.2",), ()),
        "b1": HostFacts("b1", ("10.2.0.1",), ("kmod",), kernel="6.1.0"),
    }
    ends = {"client": [{"host": "a2"}], "server": [{"host": "b1"}], "port": 80}
    (only,) = plan_of(limit, hosts, **ends).customizations
    assert (only.host, only.side, only.sends) == ("b1", "server", True)
    with pytest.raises(Invalid, match="the host runs nothing"):
        plan_of(limit, hosts, **ends, swap_roles=True)
    turned = {"client": [{"host": "b1"}], "server": [{"host": "a2"}], "port": 80}
    (only,) = plan_of(limit, hosts, **turned, swap_roles=True).customizations
    assert (only.host, only.side, str(only.match.remote)) == ("b1", "client", "10.1.0.2/32")


def test_sides_are_swapped_only_where_the_manifest_says_so(manifest: Manifest) -> None:
    with pytest.raises(Invalid, match="swappable"):
        plan_of(manifest, **LABELS, swap_roles=True)


def test_a_mirror_of_both_families(any_family: Manifest) -> None:
    ends: dict[str, Any] = {**LABELS, "middlebox": {"host": "a1"}}
    four, six = plan_of(any_family, **ends).mirrors
    assert (four.server, four.known_as, four.middlebox) == ("10.2.0.1", None, "10.1.0.1")
    assert (six.server, six.known_as, six.middlebox) == ("2001:db8:2::1", "10.2.0.1", "10.1.0.1")
    only_six = {**SITES, "b1": HostFacts("b1", ("2001:db8:2::1",), BPF)}
    with pytest.raises(Invalid, match="host b1 has none"):
        plan_of(any_family, only_six, **ends)


def test_plain_peers_have_no_agent_and_get_nothing_that_they_could_not_read(
    any_family: Manifest,
) -> None:
    plain = [{"prefix": "192.0.2.0/24", "plain": True}]
    with pytest.raises(Invalid, match="no agent restores it"):
        plan_of(any_family, client=[{"host": "a2"}], server=plain)
    (only,) = plan_of(any_family, client=plain, server=[{"host": "b1"}]).customizations
    assert (only.host, only.side, str(only.match.remote)) == ("b1", "server", "192.0.2.0/24")
    limit = load_manifest(MODULES / "rate_limit" / "manifest.toml")
    hosts = {"b1": HostFacts("b1", ("10.2.0.1",), ("kmod",), kernel="6.1.0")}
    ends = {"client": [{"host": "b1"}], "server": plain, "port": 80, "swap_roles": True}
    (only,) = plan_of(limit, hosts, **ends).customizations
    assert (only.side, str(only.match.remote)) == ("client", "192.0.2.0/24")


def test_all_of_a_match_is_in_the_customizations(manifest: Manifest) -> None:
    hosts = {
        name: HostFacts(name, (address,), ("kmod",), kernel="6.1.0")
        for name, address in (("c", "10.0.0.1"), ("s", "10.0.0.2"))
    }
    kmod = manifest.model_copy(update={"targets": ["kmod"]})
    client = {"thread": "t", "process": "p", "executable": "/bin/p", "uid": 0,
              "local": "10.0.0.0/24", "local_port": 1000, "local_port_last": 2000}  # fmt: skip
    server = {"thread": "u", "process": "q", "executable": "/bin/q", "uid": 9}
    plan = plan_of(
        kmod, hosts, port=80, port_last=89,
        client=[{"host": "c", **client}],
        server=[{"host": "s", **server, "peers": "10.0.0.0/16"}],
    )  # fmt: skip
    at_server, at_client = plan.customizations
    assert at_client.match == Match.model_validate(
        {"transport": "udp", **client, "remote": "10.0.0.2/32", "remote_port": 80,
         "remote_port_last": 89}
    )  # fmt: skip
    assert at_server.match == Match.model_validate(
        {"transport": "udp", **server, "remote": "10.0.0.0/16", "local_port": 80,
         "local_port_last": 89}
    )  # fmt: skip


def test_the_policy_keeps_intents_off_hosts(manifest: Manifest) -> None:
    policy = Policy.model_validate({"endpoints": {"deny": ["a1"]}})
    plan = plan_of(manifest, policy=policy, **LABELS)
    assert {c.host for c in plan.customizations if c.side == "client"} == {"a2"}
    assert plan.skipped == (Skipped("a1", "client", "the network's policy keeps intents off a1"),)
    with pytest.raises(Invalid, match="host a1: the network's policy keeps intents off a1"):
        plan_of(manifest, policy=policy, **{**LABELS, "client": [{"host": "a1"}]})


def test_what_is_new_in_a_plan(any_family: Manifest) -> None:
    less = {name: facts for name, facts in SITES.items() if name != "a1"}
    running = plan_of(any_family, less, **LABELS).customizations
    new = changes(running, plan_of(any_family, **LABELS))
    assert [c.host for c in new.added] == ["a1", "a1"]
    assert new.removed == ()
    assert set(new.kept) == set(running)
    back = changes((*new.kept, *new.added), plan_of(any_family, less, **LABELS))
    assert (back.added, len(back.removed)) == ((), 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("h1", {"host": "h1"}),
        ("h1:dig", {"host": "h1", "process": "dig"}),
        ("site=B", {"label": ["site=B"]}),
        ("site=B,role=web:dig", {"label": ["site=B", "role=web"], "process": "dig"}),
        ("10.0.0.0/8:dig", {"prefix": "10.0.0.0/8", "process": "dig"}),
        ("2001:db8::/32", {"prefix": "2001:db8::/32"}),
        ("2001:db8::/32:dig", {"prefix": "2001:db8::/32", "process": "dig"}),
    ],
)
def test_endpoints_on_the_command_line(text: str, said: dict[str, Any]) -> None:
    assert endpoint(text, "--client") == said
    read = Client.model_validate(said)
    assert text.startswith(read.where)


@pytest.mark.parametrize("text", ["", ":", "h1:", ":dig"])
def test_endpoints_without_a_place_are_refused(text: str) -> None:
    with pytest.raises(CommandError, match="write HOST or HOST:PROCESS"):
        endpoint(text, "--client")
