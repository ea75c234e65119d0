"""What `nco plan` is shown: the steps of an intent, and what belongs to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from controller.api import PlanBuild, PlanLine, PlanSkipped, PlanStep, PlanView
from controller.durations import written
from controller.endpoints import socket_text
from controller.facts import Platform
from controller.intent import Intent
from controller.phases import Phase, wanted
from controller.plan import Plan, Planned
from controller.plan_checks import changes
from wire.messages import ModuleName

UNBUILT = "0" * 64
"""Stands for the digest of what is not compiled yet."""


def plan_view(
    intent: Intent,
    plan: Plan,
    running: Sequence[Planned],
    built: Mapping[Platform, bool],
    stricter: Sequence[str],
) -> PlanView:
    """Return what a plan does; `intent` is as it is carried out, `running` what it has already.

    `built` says for each platform whether the module was compiled for it before.
    """
    new = changes(running, plan)
    return PlanView(
        name=intent.name,
        running=bool(running),
        kept=len(new.kept),
        builds=_builds(intent.module, new.added, built),
        steps=[*_up(new.added), *_down(new.removed)],
        skipped=[PlanSkipped(host=s.host, side=s.side, reason=s.reason) for s in plan.skipped],
        mirrors=[
            f"{mirror.transport} {socket_text(mirror.server, mirror.port)} -> {mirror.middlebox}"
            for mirror in plan.mirrors
        ],
        security=security_words(intent),
        rotation=rotation_words(intent),
        stricter=list(stricter),
    )


def security_words(intent: Intent) -> str:
    """Return how an intent's customizations are challenged."""
    every = intent.security.challenge_every
    if every is None:
        return "not challenged"
    then = "revoked on both ends"
    if intent.security.on_failure == "quarantine":
        then += " (to be quarantined by switches, too: not built yet)"
    return f"challenged every {written(every)}; where the answer is wrong or missing: {then}"


def rotation_words(intent: Intent) -> str:
    """Return when and by what an intent's deployment is replaced."""
    rotation = intent.rotation
    when = f"every {written(rotation.every)}" if rotation.every else "by hand"
    what = " -> ".join((intent.module, *rotation.modules, intent.module))
    if not rotation.modules:
        return f"rotated {when}, its keys only"
    keys = ", with new keys" if rotation.keys else ""
    away = "cut off" if rotation.cut_off else "waited for"
    return f"rotated {when}, {what}{keys}; hosts that cannot be reached are {away}"


def _builds(
    module: ModuleName, added: Iterable[Planned], built: Mapping[Platform, bool]
) -> list[PlanBuild]:
    hosts = Counter(platform for _, platform in {(one.host, one.platform) for one in added})
    return [
        PlanBuild(
            module=module,
            target=platform.target,
            kernel=platform.kernel,
            hosts=hosts[platform],
            built=built.get(platform, False),
        )
        for platform in sorted(hosts, key=str)
    ]


def _up(added: Sequence[Planned]) -> list[PlanStep]:
    senders = [one for one in added if one.sends]
    steps = [(Phase.RECEIVE, added), (Phase.SEND, senders)]
    return [_step(phase, items) for phase, items in steps if items]


def _down(removed: Sequence[Planned]) -> list[PlanStep]:
    senders = [one for one in removed if one.sends]
    steps = [(Phase.STOP_SEND, senders), (Phase.REMOVE, removed)]
    return [_step(phase, items) for phase, items in steps if items]


def _step(phase: Phase, items: Iterable[Planned]) -> PlanStep:
    return PlanStep(phase=phase, changes=[_line(item, phase) for item in items])


def _line(planned: Planned, phase: Phase) -> PlanLine:
    want = wanted(replace(planned, digest=planned.digest or UNBUILT), phase)
    return PlanLine(
        host=planned.host,
        side=planned.side,
        module=planned.module,
        target=planned.target,
        match=planned.match,
        receive=want is not None and want.receive,
        send=want is not None and want.send,
    )
