"""Waiting for an intent: what happens to it is printed as it happens, until it is as asked for.

The service's events say when to look at the intent. They may not come (a proxy cuts streams off,
too many listen, the service is restarted), so there is a look now and then in any case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import typer

from controller import cli_events
from controller.api import IntentView, MirrorView
from controller.cli_client import CommandError, NcoClient, Unreachable, connected, intent_path
from controller.cli_print import event_text, line, mirror_text, note
from controller.config import find_state
from controller.phases import GOING_UP, OVER, Phase

LOOK_SECONDS = 1.0
"""Between two looks at an intent of which no events come."""

PAUSE_SECONDS = 0.05
"""Between two looks at one of which many come."""

RESTART_SECONDS = 0.5
"""Between two looks at a service that is away."""

WORTH_SAYING = 1.0
"""Seconds after which it is said for whom an intent waits."""

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


@contextmanager
def going_on(how: str) -> Iterator[None]:
    """Say, after Ctrl-C in the block, how it goes on at the NCO, and what to do about it."""
    try:
        yield
    except KeyboardInterrupt as error:
        note(f"nco: not waited for any longer: {how}")
        raise typer.Exit(INTERRUPTED) from error


@contextmanager
def following(
    state: Path | None, name: str, timeout: float, how: str
) -> Iterator[tuple[NcoClient, Follower]]:
    """Return the service, and who follows an intent there.

    Who ends that by Ctrl-C is told `how` it goes on. Raises CommandError where the name is none.
    """
    intent_path(name)
    folder = find_state(state)
    with connected(folder) as nco:
        yield nco, Follower(nco, name, timeout, how, lambda: NcoClient(folder))


class Follower:
    """Prints what happens to an intent, as it happens, until it is where it should be."""

    def __init__(
        self,
        client: NcoClient,
        name: str,
        timeout: float,
        how: str,
        listener: Callable[[], NcoClient],
    ) -> None:
        """Wait for `timeout` seconds at most; after Ctrl-C it is said `how` it goes on.

        What `listener` returns is read in a thread that ends with this process, and never closed.
        """
        self._client = client
        self._listener = listener
        self._name = name
        self._timeout = timeout
        self._how = how
        self._began = time.time()
        self._printed = self._began
        self._said = ""
        self._quiet_until = time.monotonic() + WORTH_SAYING
        self._happened = threading.Event()

    def until_active(self) -> None:
        """Wait until the intent is active and its mirrors stand; raises CommandError."""
        view = self.until(lambda v: v.phase in OVER or (v.phase == Phase.ACTIVE and _mirrored(v)))
        for mirror in view.mirrors:
            line(mirror_text(mirror))
        if view.phase == Phase.ACTIVE and _mirrored(view):
            line(f"{self._name} is active", "green")
        elif view.phase == Phase.ACTIVE:
            raise CommandError(
                f"{self._name} is active on its hosts, but a mirror is not installed after "
                f"{self._timeout:g} s; `nco show {self._name}` shows how far it is"
            )
        else:
            raise CommandError(self._not_active(view))

    def until_gone(self) -> None:
        """Wait until nothing is left of the intent; raises CommandError."""
        view = self.until(lambda v: v.phase in OVER)
        if view.phase != Phase.GONE:
            raise CommandError(
                f"{self._name} is not gone after {self._timeout:g} s: phase {view.phase}"
                f"{_waits(view)}; it goes on by itself, `nco show {self._name}` shows how far it is"
            )
        line(f"{self._name} is gone", "green")

    def until_rotated(self, number: int) -> None:
        """Wait until a rotation's deployment is the only one; raises CommandError."""
        view = self.until(lambda v: _is_rotated(v) or not _has_rotation(v, number))
        if view.phase in OVER:
            raise CommandError(f"{self._name} was taken away: phase {view.phase}")
        if not _has_rotation(view, number):
            raise CommandError(
                f"{view.error or 'the rotation was taken back'}; {self._name} is as before"
            )
        if not _is_rotated(view):
            raise CommandError(
                f"{self._name} is still being rotated after {self._timeout:g} s{_waits(view)}; it "
                f"goes on by itself: `nco show {self._name}` shows how far it is, "
                f"`nco rotate {self._name} --cancel` takes it back"
            )
        line(f"{self._name} has {view.module}", "green")

    def until(self, arrived: Callable[[IntentView], bool]) -> IntentView:
        """Print what happens until it has arrived, or the time is over; return how it is then."""
        deadline = time.monotonic() + self._timeout
        threading.Thread(target=self._listen, daemon=True).start()
        with going_on(self._how):
            while True:
                self._happened.clear()  # before the look: what happens after it is another reason
                view = self._look(deadline)
                self._print_news(view)
                if arrived(view) or time.monotonic() >= deadline:
                    return view
                time.sleep(PAUSE_SECONDS)
                self._happened.wait(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))

    def _listen(self) -> None:
        """Have the service's events be a reason to look."""
        query, heard = f"kind=intent&intent={self._name}", self._happened.set
        with suppress(CommandError):  # refused, or nobody there: then there are the looks
            for _ in cli_events.follow(
                self._listener(), query, None, say=lambda _: None, listens=heard
            ):
                heard()

    def _look(self, deadline: float) -> IntentView:
        """Return the intent; a service that is being restarted is waited for."""
        while True:
            try:
                return self._client.intent(self._name, hosts=False)
            except Unreachable:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(RESTART_SECONDS)

    def _print_news(self, view: IntentView) -> None:
        for event in view.history:
            if event.at > self._printed:
                self._printed = event.at
                self._quiet_until = time.monotonic() + WORTH_SAYING
                line(event_text(event, self._began))
        missing = [one for one in view.mirrors if view.phase == Phase.ACTIVE and not _stands(one)]
        held_up = "; ".join(
            [f"{host}: {reason}" for host, reason in sorted(view.waiting.items())]
            + [mirror_text(mirror) for mirror in missing]
        )
        if held_up and held_up != self._said and time.monotonic() > self._quiet_until:
            self._said = held_up
            line(f"            waiting for {held_up}", "yellow")

    def _not_active(self, view: IntentView) -> str:
        if view.phase == Phase.FAILED:
            return f"{self._name} failed, and nothing of it is left on any host: {view.error}"
        if view.phase in GOING_UP or view.phase == Phase.BUILDING:
            return (
                f"{self._name} is not active after {self._timeout:g} s: phase {view.phase}"
                f"{_waits(view)}; it goes on by itself: `nco show {self._name}` shows how far it "
                f"is, `nco revoke {self._name}` takes it away"
            )
        return f"{self._name} was taken away: phase {view.phase}"


def _mirrored(view: IntentView) -> bool:
    return all(map(_stands, view.mirrors))


def _stands(mirror: MirrorView) -> bool:
    return mirror.state == "installed"


def _has_rotation(view: IntentView, number: int) -> bool:
    return any(one.kind == "rotation" and one.number == number for one in view.deployments)


def _is_rotated(view: IntentView) -> bool:
    return all(one.phase == Phase.ACTIVE or one.kind == "left" for one in view.deployments)


def _waits(view: IntentView) -> str:
    reasons = [f"{host} ({reason})" for host, reason in sorted(view.waiting.items())]
    return f", waiting for {', '.join(reasons)}" if reasons else ""
