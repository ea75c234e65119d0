"""What the kernel says of the code that a customization runs."""

from __future__ import annotations

import pytest

from host_agent.bpf_tap import BpfTap
from host_agent.tap import TapError
from mininet_topos.namespaces import inside
from tests.system.bpf.kit import Wire, one_wire

pytestmark = pytest.mark.system


@one_wire
def test_programs_of_one_module_have_its_tags_and_no_others(wire: Wire) -> None:
    client = wire.client
    one, same, other = (
        client.customization(module, number=number, send=True)
        for number, module in enumerate(("dns_app_tag", "dns_app_tag", "odd_mark"))
    )
    client.apply(one, same, other)
    with inside(client.namespace):
        tap = BpfTap(client.run)
        tags, same_tags, other_tags = (tap.evidence(each.id) for each in (one, same, other))
        with pytest.raises(TapError, match="not in force"):
            tap.evidence("f" * 32)
    assert len(tags) == 16
    assert tags == same_tags != other_tags
    assert tags[:8] != tags[8:]
