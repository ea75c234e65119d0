"""`ryu-manager apps/nco.py`: the NCO, in an ordinary Ryu.

It brings link and host discovery, forwarding (tables 1 and 2) and steering (table 0), checks what
switches send, and runs the NCO service, which does all the rest in a process of its own.

* `L45_STATE`: state folder, made by `nco init` (default /var/lib/l45).
* `L45_FORWARDING=off`: leave our forwarding out, for an application of your own, named after this
  file on the command line. Table 0 stays ours; what is not steered goes on to table 1, where
  yours begins. Hosts are learnt from the packets that your entries send to the controller.

Ctrl-C (SIGINT) and SIGTERM end the NCO as a whole, the service too; the switches keep their
entries, and go on forwarding. After `kill -9` the service waits a while (its `--grace`) for a new
ryu-manager, which takes it over.
"""

from __future__ import annotations

import logging
import signal
from typing import Any, ClassVar

import eventlet
from eventlet import hubs
from ryu import cfg
from ryu.base import app_manager
from ryu.controller.handler import set_ev_cls

from apps import openflow_guard, preflight
from apps.background import BackgroundApp
from apps.discovery import Discovery, EventNetworkChange
from apps.service_link import ServiceLink
from apps.service_process import ServiceCannotRunError
from apps.steering import FORWARDING, EventSteeringReport, EventSteeringWanted
from controller.config import find_state
from controller.switch_link import Steering, Switches

log = logging.getLogger(__name__)

COALESCE_SECONDS = 0.2
MAX_SWITCHES_TOLD = 4096

ECHOES_UNANSWERED = 3
"""Ryu asks every 15 s; without a limit a switch that lost its power stays connected for ever."""

_main = eventlet.getcurrent()
"""Ryu's main green thread, which loads its applications."""

preflight.check()
openflow_guard.install()
cfg.CONF.set_default("maximum_unreplied_echo_requests", ECHOES_UNANSWERED)
app_manager.require_app("apps.steering")
if FORWARDING:
    app_manager.require_app("apps.forwarding")


class Nco(BackgroundApp):
    """Joins the Ryu applications to the NCO service."""

    _CONTEXTS: ClassVar = {"discovery": Discovery}
    _EVENTS: ClassVar = [EventSteeringWanted]
    period = COALESCE_SECONDS

    def __init__(self, *args: Any, discovery: Discovery, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._discovery = discovery
        self._changed = False
        self._link = ServiceLink(find_state(None), self._switches, self._wanted)

    def start(self) -> None:
        """Start the link to the service; called by Ryu in the main green thread."""
        super().start()
        _end_in_order_on_signals()
        self.spawn(self._keep_service)

    def stop(self) -> None:
        """End the service with us; called by Ryu."""
        self._link.end()
        super().stop()

    def tick(self) -> None:
        """Send what has changed."""
        if self._changed:
            self._changed = False
            self._link.put(self._switches())
        self._link.flush()

    @set_ev_cls(EventNetworkChange)
    def network_changed(self, _event: EventNetworkChange) -> None:
        """Have the service told which switches and hosts there are."""
        self._changed = True

    @set_ev_cls(EventSteeringReport)
    def steering_report(self, event: EventSteeringReport) -> None:
        """Tell the service how far the switches are."""
        self._link.put(event.report)

    def _keep_service(self) -> None:
        try:
            self._link.run()
        except ServiceCannotRunError as error:
            _end_main_with(SystemExit(f"the NCO ends: {error}"))

    def _wanted(self, wanted: Steering) -> None:
        log.info("steering generation=%d mirrors=%d", wanted.generation, len(wanted.mirrors))
        self.send_event_to_observers(EventSteeringWanted(wanted))

    def _switches(self) -> Switches:
        return Switches(
            connected=sorted(self._discovery.datapaths)[:MAX_SWITCHES_TOLD],
            hosts=self._discovery.hosts.seen(),
        )


def _end_in_order_on_signals() -> None:
    """Have Ctrl-C and SIGTERM interrupt the main green thread, where Ryu closes everything.

    Left to itself, Ctrl-C interrupts whichever green thread runs, where Ryu logs and swallows it,
    and SIGTERM ends the process on the spot.
    """

    def interrupt(_number: int, _frame: object) -> None:
        _end_main_with(KeyboardInterrupt())

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def _end_main_with(reason: BaseException) -> None:
    """Raise it in the main green thread, wherever that waits."""
    hubs.get_hub().schedule_call_global(0, _main.throw, reason)
