"""What the switches should have, applied to a small flow table that forwards as the text says."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from controller.steering import (
    ARP,
    CONTROLLER_PORT,
    FLOOD_PORT,
    IPV4,
    LLDP_ADDRESS,
    LLDP_TYPE,
    Diff,
    Entry,
    Installed,
    MatchValue,
    Plan,
    Priority,
    Table,
    diff,
    match,
    plan,
    report,
)
from controller.switch_link import Mirror, MirrorStatus, SeenHost, Steering

DNS = SeenHost(mac="00:00:00:00:00:03", address="10.10.0.3", dpid=1, port=1)
MIDDLEBOX = SeenHost(mac="00:00:00:00:00:06", address="10.10.0.6", dpid=1, port=4)
CLIENT = SeenHost(mac="00:00:00:00:00:01", address="10.10.0.1", dpid=2, port=1)
HOSTS = [DNS, MIDDLEBOX, CLIENT]

TAG = Mirror(id="tag", transport="udp", server="10.10.0.3", port=53, middlebox="10.10.0.6")
WANTED = Steering(generation=7, control=("10.10.0.5", 4545), mirrors=[TAG])

UPLINK = 5


class FlowTable:
    """Table 0 of a switch, as OpenFlow 1.3.5 says in 5.3.

    "The packet is matched against the table and only the highest priority flow entry that matches
    the packet must be selected."
    """

    def __init__(self) -> None:
        self.entries: dict[tuple[object, ...], Entry] = {}

    def apply(self, difference: Diff) -> None:
        for entry in difference.deletes:
            del self.entries[entry.key]
        for entry in difference.adds:
            self.entries[entry.key] = entry

    def steered(self, **packet: MatchValue) -> tuple[tuple[int, ...], int | None]:
        """Return where table 0 sends a packet to, and which table goes on with it."""
        selected = max(
            (e for e in self.entries.values() if e.table == 0 and _matches(e, packet)),
            key=lambda entry: entry.priority,
        )
        # "a packet is never sent out of the port it came in by" unless IN_PORT is named.
        outputs = tuple(port for port in selected.outputs if port != packet.get("in_port"))
        return outputs, selected.goto


def _matches(entry: Entry, packet: dict[str, MatchValue]) -> bool:
    return all(packet.get(name) == value for name, value in entry.match)


def converge(table: FlowTable, made: Plan, dpid: int = 1) -> Diff:
    difference = diff(made, dpid, table.entries.values())
    table.apply(difference)
    return difference


def steered_switch(wanted: Steering = WANTED, hosts: Iterable[SeenHost] = HOSTS) -> FlowTable:
    table = FlowTable()
    converge(table, plan(wanted, hosts, {1, 2}))
    return table


def udp(source: str, destination: str, sport: int, dport: int, **more: MatchValue) -> dict:
    return {
        "eth_type": IPV4, "ip_proto": 17, "ipv4_src": source, "ipv4_dst": destination,
        "udp_src": sport, "udp_dst": dport, **more,
    }  # fmt: skip


QUERY = udp("10.10.0.1", "10.10.0.3", 40000, 53)
ANSWER = udp("10.10.0.3", "10.10.0.1", 53, 40000)


def test_a_mirrored_service_is_copied_and_goes_on_in_both_directions() -> None:
    table = steered_switch()
    assert table.steered(in_port=UPLINK, **QUERY) == ((MIDDLEBOX.port,), Table.SOURCES)
    assert table.steered(in_port=DNS.port, **ANSWER) == ((MIDDLEBOX.port,), Table.SOURCES)


def test_other_traffic_only_goes_on() -> None:
    table = steered_switch()
    other = udp("10.10.0.1", "10.10.0.4", 40000, 53)
    assert table.steered(in_port=UPLINK, **other) == ((), Table.SOURCES)
    assert table.steered(in_port=UPLINK, **(QUERY | {"ip_proto": 6})) == ((), Table.SOURCES)
    assert table.steered(in_port=UPLINK, eth_type=0x86DD) == ((), Table.SOURCES)


def test_the_switch_without_the_server_mirrors_nothing() -> None:
    table = FlowTable()
    converge(table, plan(WANTED, HOSTS, {1, 2}), dpid=2)
    assert table.steered(in_port=1, **QUERY) == ((), Table.SOURCES)


def test_a_copy_that_comes_back_goes_nowhere() -> None:
    table = steered_switch()
    copy = table.steered(in_port=MIDDLEBOX.port, eth_src=CLIENT.mac, **QUERY)
    assert copy == ((), None)


def test_the_middlebox_may_ask_the_server_itself() -> None:
    table = steered_switch()
    own = udp("10.10.0.6", "10.10.0.3", 40000, 53)
    going = table.steered(in_port=MIDDLEBOX.port, eth_src=MIDDLEBOX.mac, **own)
    assert going == ((), Table.SOURCES)


def test_the_control_channel_is_not_mirrored_even_if_someone_asks_for_it() -> None:
    mirror = Mirror(id="spy", transport="tcp", server="10.10.0.5", port=4545, middlebox="10.10.0.6")
    nco = SeenHost(mac="00:00:00:00:00:05", address="10.10.0.5", dpid=1, port=3)
    wanted = WANTED.model_copy(update={"mirrors": [mirror]})
    table = steered_switch(wanted, [*HOSTS, nco])
    there = {"eth_type": IPV4, "ip_proto": 6, "ipv4_dst": "10.10.0.5", "tcp_dst": 4545}
    back = {"eth_type": IPV4, "ip_proto": 6, "ipv4_src": "10.10.0.5", "tcp_src": 4545}
    assert table.steered(in_port=1, **there) == ((), Table.SOURCES)
    assert table.steered(in_port=3, **back) == ((), Table.SOURCES)


def test_link_discovery_goes_to_the_controller_only() -> None:
    frame = {"eth_type": LLDP_TYPE, "eth_dst": LLDP_ADDRESS}
    assert steered_switch().steered(in_port=1, **frame) == ((CONTROLLER_PORT,), None)


def test_arp_goes_on_and_to_the_controller() -> None:
    assert steered_switch().steered(in_port=1, eth_type=ARP) == ((CONTROLLER_PORT,), Table.SOURCES)


def test_forwarding_has_its_permanent_entries_only_where_it_is_ours() -> None:
    ours = plan(WANTED, HOSTS, {1}, forwarding=True).entries[1].values()
    theirs = plan(WANTED, HOSTS, {1}, forwarding=False).entries[1].values()
    assert Entry(Table.DESTINATIONS, 0, outputs=(FLOOD_PORT,)) in ours
    assert {entry.table for entry in theirs} == {Table.STEERING}


def test_two_mirrors_of_one_service_share_an_entry_with_both_ports() -> None:
    second = SeenHost(mac="00:00:00:00:00:07", address="10.10.0.7", dpid=1, port=6)
    again = TAG.model_copy(update={"id": "again", "middlebox": second.address})
    wanted = WANTED.model_copy(update={"mirrors": [TAG, again]})
    table = steered_switch(wanted, [*HOSTS, second])
    assert table.steered(in_port=UPLINK, **QUERY) == ((4, 6), Table.SOURCES)


def test_converging_twice_changes_nothing_the_second_time() -> None:
    table = steered_switch()
    assert not converge(table, plan(WANTED, HOSTS, {1, 2}))


def test_a_revoked_mirror_is_taken_away_and_nothing_else() -> None:
    table = steered_switch()
    without = WANTED.model_copy(update={"mirrors": []})
    difference = converge(table, plan(without, HOSTS, {1, 2}))
    assert difference.adds == []
    assert {Priority(e.priority) for e in difference.deletes} == {
        Priority.MIRROR, Priority.RETURNED, Priority.MIDDLEBOX,
    }  # fmt: skip
    assert table.steered(in_port=UPLINK, **QUERY) == ((), Table.SOURCES)


def test_an_entry_that_somebody_changed_is_written_again() -> None:
    table = steered_switch()
    key, entry = next((k, e) for k, e in table.entries.items() if e.priority == Priority.MIRROR)
    table.entries[key] = Entry(*entry.key, outputs=(9,), foreign=True)
    assert converge(table, plan(WANTED, HOSTS, {1, 2})).adds == [entry]


def test_nothing_is_taken_away_until_the_service_has_spoken() -> None:
    table = steered_switch()
    assert diff(plan(None, [], {1}), 1, table.entries.values()).deletes == []


def test_a_mirror_stays_while_its_hosts_are_not_seen_again_yet() -> None:
    table = steered_switch()
    made = plan(WANTED, [], {1, 2})
    assert not converge(table, made)
    assert [place.state for place in made.places] == ["pending"]


def test_a_host_that_moved_takes_its_mirror_along() -> None:
    table = steered_switch()
    moved = MIDDLEBOX.model_copy(update={"port": 9})
    converge(table, plan(WANTED, [DNS, moved, CLIENT], {1, 2}))
    assert table.steered(in_port=UPLINK, **QUERY) == ((9,), Table.SOURCES)
    assert table.steered(in_port=4, eth_src=CLIENT.mac, **QUERY) == ((9,), Table.SOURCES)


def installed(table: FlowTable, packets: int = 0) -> dict:
    return {1: {key: Installed(e, packets, 100 * packets) for key, e in table.entries.items()}}


def reported(made: Plan, present: dict) -> MirrorStatus:
    result = report(made, present)
    assert result
    assert result.generation == WANTED.generation
    return result.mirrors[0]


def test_nothing_is_reported_until_the_service_has_spoken() -> None:
    assert report(plan(None, HOSTS, {1}), {}) is None


def test_a_mirror_is_reported_installed_with_what_its_two_entries_counted() -> None:
    table = steered_switch()
    status = reported(plan(WANTED, HOSTS, {1, 2}), installed(table, packets=3))
    assert (status.state, status.dpid, status.port) == ("installed", 1, 4)
    assert (status.packets, status.bytes) == (6, 600)


def test_a_mirror_that_the_switch_does_not_have_is_pending() -> None:
    status = reported(plan(WANTED, HOSTS, {1, 2}), {1: {}})
    assert status.state == "pending"
    assert "switch 1 has not confirmed" in status.reason


def state_and_reason(hosts: list[SeenHost], connected: set[int]) -> tuple[str, str]:
    status = reported(plan(WANTED, hosts, connected), {})
    return status.state, status.reason


def test_the_reason_names_who_has_not_been_seen() -> None:
    assert state_and_reason([MIDDLEBOX], {1}) == (
        "pending", "server 10.10.0.3 has not sent a packet yet",
    )  # fmt: skip
    assert "middlebox 10.10.0.6" in state_and_reason([DNS], {1})[1]


def test_hosts_on_two_switches_are_impossible_and_both_switches_are_named() -> None:
    elsewhere = MIDDLEBOX.model_copy(update={"dpid": 2})
    state, reason = state_and_reason([DNS, elsewhere], {1, 2})
    assert state == "impossible"
    assert "switch 1" in reason
    assert "switch 2" in reason


def test_a_middlebox_behind_the_port_of_the_server_is_impossible() -> None:
    same = MIDDLEBOX.model_copy(update={"port": DNS.port})
    assert state_and_reason([DNS, same], {1})[0] == "impossible"


def test_a_switch_that_is_away_is_waited_for() -> None:
    assert state_and_reason(HOSTS, {2}) == ("pending", "switch 1 is not connected")


entries = st.builds(
    Entry,
    table=st.integers(0, 2),
    priority=st.sampled_from([0, 100, 30000, 60000]),
    match=st.sampled_from([(), match(in_port=1), match(eth_type=IPV4)]),
    outputs=st.sampled_from([(), (1,), (2, 3)]),
    goto=st.none() | st.integers(1, 2),
)


@given(st.lists(entries, unique_by=lambda entry: entry.key))
def test_whatever_a_switch_has_it_converges_in_one_step(present: list[Entry]) -> None:
    table = FlowTable()
    table.entries = {entry.key: entry for entry in present}
    made = plan(WANTED, HOSTS, {1, 2})
    converge(table, made)
    assert table.entries == made.entries[1]


def test_an_ipv6_service_is_copied_where_its_host_is() -> None:
    six = TAG.model_copy(update={"server": "2001:db8::3", "known_as": "10.10.0.3"})
    made = plan(Steering(generation=1, mirrors=[six]), HOSTS, [1, 2])
    ip = {"eth_type": 0x86DD, "ip_proto": 17}
    for wanted in (
        match(**ip, ipv6_dst="2001:db8::3", udp_dst=53),
        match(**ip, ipv6_src="2001:db8::3", udp_src=53),
    ):
        entry = made.entries[1][Table.STEERING, Priority.MIRROR, wanted]
        assert (entry.outputs, entry.goto) == ((4,), Table.SOURCES)
    assert (
        Mirror.model_validate({**TAG.model_dump(), "server": "2001:DB8:0::3"}).server == six.server
    )
