"""A Ryu application that also does something at regular times."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from ryu.base import app_manager
from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3 as ofp

log = logging.getLogger(__name__)


class BackgroundApp(app_manager.RyuApp):
    """Calls `tick` every `period` seconds, from start to stop, whatever a call raises."""

    OFP_VERSIONS: ClassVar = [ofp.OFP_VERSION]
    period: ClassVar[float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Ryu's own
        super().__init__(*args, **kwargs)
        self._background: list[Any] = []

    def start(self) -> None:
        """Start the green threads; called by Ryu."""
        super().start()
        self.spawn(self._tick_forever)

    def spawn(self, function: Any) -> None:  # noqa: ANN401 - any callable
        """Run a function in a green thread that ends with the application."""
        self._background.append(hub.spawn(function))

    def stop(self) -> None:
        """End the green threads; called by Ryu."""
        for thread in self._background:
            hub.kill(thread)
        super().stop()

    def tick(self) -> None:
        """Do what is to be done now."""
        raise NotImplementedError

    def _tick_forever(self) -> None:
        while self.is_active:
            try:
                self.tick()
            except Exception:
                log.exception("tick failed app=%s", self.name)
            hub.sleep(self.period)
