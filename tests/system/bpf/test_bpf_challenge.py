"""Challenges of the real agent on the real tap: what runs is proven, what was swapped is not."""

from __future__ import annotations

import asyncio

import pytest

from host_agent.bpf_tables import Tables, place
from tests.system.bpf.kit import run
from tests.system.bpf.test_bpf_agent import Site, site, supply
from tests.unit.agent_kit import Session, scripted
from wire import challenge
from wire.messages import Challenge, ChallengeAnswer, Customization

__all__ = ["site"]

pytestmark = pytest.mark.system

KEY = bytes(range(32))


async def ask(session: Session, one: Customization, nonce: bytes) -> ChallengeAnswer:
    session.send(Challenge(customization=one.id, nonce=nonce))
    return await session.receive(ChallengeAnswer)


def is_right(said: ChallengeAnswer) -> bool:
    asked = challenge.Challenge(KEY, said.nonce, said.customization, said.evidence)
    return said.error is None and asked.is_answered(said.answer)


def test_the_agent_proves_what_runs_and_not_what_was_swapped_or_taken_away(site: Site) -> None:
    one = site.tags().model_copy(update={"key": KEY})

    async def play() -> None:
        async with scripted(site.network.nco) as nco, site.agent(nco) as (_, session, _hello):
            await supply(session, one, code=site.code)
            first, second = [await ask(session, one, bytes([n]) * 16) for n in (1, 2)]
            assert is_right(first)
            assert is_right(second)
            assert first.strength == "agent"
            assert len(first.evidence) == 16
            assert first.evidence == second.evidence
            assert first.answer != second.answer

            swap(site)
            swapped = await ask(session, one, b"3" * 16)
            assert is_right(swapped)
            assert swapped.evidence != first.evidence, "the kernel names other programs"

            absent = one.model_copy(update={"id": "f" * 32})
            assert "no such customization" in ((await ask(session, absent, b"4" * 16)).error or "")

    asyncio.run(play())


def swap(site: Site) -> None:
    """Put the module's program for receiving where the one for sending was."""
    with Tables.opened(site._run) as tables:
        (slot,) = tables.modules()
        sends, receives = (place(slot, receive=side).to_bytes(4, "little") for side in (0, 1))
        number = int.from_bytes(tables._dispatch.lookup(receives) or b"", "little")
    pinned = site._run / "bpf" / "maps" / "l45_dispatch"
    key = [str(byte) for byte in sends]
    run("bpftool", "map", "update", "pinned", str(pinned), "key", *key, "value", "id", str(number))
