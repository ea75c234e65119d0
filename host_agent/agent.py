"""The agent: joins the control channel, the convergence logic, the taps and the disk.

One task takes events from the inbox and asks the converger; nothing else touches it. Calls of the
taps and of the disk block, so one worker thread makes them, one after the other. Whatever ends the
agent, the kernel goes on with the customizations it has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from host_agent import challenge, host
from host_agent.channel import Address, Asked, Channel
from host_agent.complaints import Complaints
from host_agent.converge import (
    Applied,
    Apply,
    Connected,
    Converger,
    Disconnected,
    Event,
    Failed,
    Observed,
    Output,
    Started,
)
from host_agent.flow_reports import REPORT_SECONDS, FlowReporter, Pace
from host_agent.metrics import AgentMetrics
from host_agent.renewal import Renewal
from host_agent.store import Store
from host_agent.tap import TapError
from host_agent.taps import Taps
from wire import credential_files
from wire.artifact import ArtifactError, verified
from wire.identity import Credentials
from wire.messages import (
    MAX_TEXT,
    Challenge,
    Flow,
    Heartbeat,
    Hello,
    Report,
    Status,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

OBSERVE_SECONDS = 1.0
"""How often counters are read; `REPORT_SECONDS` says how often they are reported."""

INBOX = 8
"""Messages taken from the NCO before the agent has dealt with them; each may be a whole frame."""


class Agent:
    """A host's DCA."""

    def __init__(
        self,
        nco: Address,
        credentials: Credentials,
        store: Store,
        taps: Taps,
        metrics: AgentMetrics | None = None,
    ) -> None:
        """Serve the host that `credentials` names with those of its `taps` that work.

        What happens is counted in `metrics`.

        Raises IdentityError where the credentials cannot be used.
        """
        credential_files.finish(credentials)
        self._name = host.name(credentials)
        self._signer = credentials.signer_key()
        self._boot_id = host.boot_id()
        self._store = store
        self._taps = taps
        self._converger = Converger(self._signer)
        self._inbox: asyncio.Queue[Event] = asyncio.Queue(INBOX)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="tap")
        self._channel = Channel(
            nco,
            credentials.client_context(),
            hello=self._hello,
            heartbeat=lambda: Heartbeat(generation=self._converger.generation),
            deliver=self._inbox.put,
            asked=self._answer,
        )
        self._renewal = Renewal(
            credentials,
            self._name,
            send=self._channel.send,
            replaced=lambda: self._channel.use(credentials.client_context()),
        )
        self._metrics = metrics or AgentMetrics()
        self._flows = FlowReporter(time.monotonic)
        self._pace = Pace(REPORT_SECONDS, time.monotonic)
        self._told: str | None = None
        self._complaints = Complaints()
        self._unsaved: Apply | None = None
        """What was applied last, until it is on the disk."""

    async def run(self) -> None:
        """Run until cancelled; what the tap is doing then is finished first."""
        with self._worker:
            started = await self._in_worker(self._start)
            async with asyncio.TaskGroup() as tasks:
                self._act(self._converger.handle(started), tasks)
                tasks.create_task(self._channel.run())
                tasks.create_task(self._observe())
                tasks.create_task(self._renewal.run())
                while True:
                    event = await self._inbox.get()
                    self._note(event)
                    self._act(self._converger.handle(event), tasks)
                    self._metrics.generation.set(self._converger.generation)

    def _note(self, event: Event) -> None:
        """Take note of what is not the converger's alone to know."""
        if isinstance(event, Connected):
            self._flows.connected()
            self._renewal.tell()
            self._metrics.session(there=True)
        elif isinstance(event, Disconnected):
            self._metrics.session(there=False)
        elif isinstance(event, Observed | Applied):
            self._metrics.observed(event.running)
        elif isinstance(event, Failed):
            self._metrics.refused.inc()

    def _act(self, outputs: list[Output], tasks: asyncio.TaskGroup) -> None:
        for output in outputs:
            if isinstance(output, Apply):
                tasks.create_task(self._apply(output))
                continue
            if isinstance(output, Report):
                self._log_change(output)
                self._pace.sent()
            self._channel.send(output)

    async def _apply(self, action: Apply) -> None:
        await self._inbox.put(await self._in_worker(lambda: self._apply_now(action)))

    async def _answer(self, message: Asked) -> None:
        """Deal with what is not about the set of customizations."""
        if not isinstance(message, Challenge):
            self._renewal.take(message)
            return
        one = self._converger.in_force(message.customization)
        proof = await self._in_worker(lambda: challenge.answer(message, one, self._taps.prove))
        self._channel.send(proof)

    async def _observe(self) -> None:
        """Tell the converger what runs, again and again; what cannot be read counts as gone."""
        while self._taps.names:
            await asyncio.sleep(OBSERVE_SECONDS)
            await self._in_worker(self._save_again)
            running = await self._in_worker(self._running)
            await self._inbox.put(Observed(running, counters_due=self._pace.due()))
            self._tell_of_flows(await self._in_worker(self._read_flows))

    def _tell_of_flows(self, flows: Sequence[Flow]) -> None:
        self._metrics.flows.set(len(flows))
        message = self._flows.look(flows) if self._channel.is_connected else None
        if message is not None:
            self._channel.send(message)
            self._flows.sent(message)

    async def _hello(self) -> Hello:
        addresses = await self._in_worker(host.addresses)
        return Hello(
            host=self._name,
            boot_id=self._boot_id,
            kernel=host.kernel_release(),
            tap=", ".join(self._taps.names) or None,
            tap_error=self._tap_error,
            targets=list(self._taps.targets),
            addresses=addresses,
            generation=self._converger.generation,
        )

    def _log_change(self, report: Report) -> None:
        """Log what a report says besides counters, when it is not what the last one said."""
        now = f"generation {report.generation} in force" if report.generation else "none in force"
        told = f"{now}, {report.refused} refused" if report.refused is not None else now
        told = f"{told}: {report.error}" if report.error else told
        if told != self._told:
            self._told = told
            level = logging.ERROR if report.error else logging.INFO
            log.log(level, "state=%r customizations=%d", told, len(report.customizations))

    async def _in_worker(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    # In the worker thread.

    def _start(self) -> Started:
        self._taps.start()
        self._metrics.taps(self._taps.names, self._taps.failing)
        return Started(
            self._taps.targets,
            self._tap_error,
            self._store.load(self._signer),
            self._boot_id,
            self._running(),
        )

    @property
    def _tap_error(self) -> str | None:
        """Why the taps that do not work do not, as far as a message takes it."""
        return self._taps.error[:MAX_TEXT] if self._taps.error else None

    def _running(self) -> tuple[Status, ...]:
        return self._read("customizations", self._taps.customizations)

    def _read_flows(self) -> tuple[Flow, ...]:
        return self._read("flows", self._taps.flows)

    def _read(self, what: str, read: Callable[[], Sequence[T]]) -> tuple[T, ...]:
        """Return what the taps say, or nothing where they cannot say it."""
        try:
            found = tuple(read())
        except Exception as error:  # a driver's fault must not end the agent
            if self._complaints.is_new(what, str(error)):
                log.exception("%s not read", what)
            return ()
        self._complaints.is_over(what)
        return found

    def _apply_now(self, action: Apply) -> Applied | Failed:
        try:
            for artifact in action.artifacts:
                # Verified where the kernel's door is.
                self._taps.load_artifact(verified(artifact, self._signer))
            with self._metrics.applied.time():
                self._taps.apply(action.desired.customizations)
            running = tuple(self._taps.customizations())
        except (TapError, ArtifactError) as error:
            return Failed(str(error))
        except Exception as error:  # as above; the NCO would only ask again
            log.exception("tap driver failed generation=%d", action.desired.generation)
            return Failed(f"the tap driver failed: {error!r}; the agent's log has the traceback")
        if action.confirmed:
            self._save(action)
        return Applied(running)

    def _save(self, action: Apply) -> None:
        self._unsaved = action
        self._save_again()

    def _save_again(self) -> None:
        """Save what is not saved yet, if the disk takes it by now."""
        if self._unsaved is None:
            return
        try:
            self._store.save(self._unsaved, self._boot_id)
        except OSError as error:
            if self._complaints.is_new("state", str(error)):
                log.error("state not saved, a reboot will not restore it reason=%r", str(error))
            return
        if self._complaints.is_over("state"):
            log.info("state saved after all generation=%d", self._unsaved.desired.generation)
        self._unsaved = None
