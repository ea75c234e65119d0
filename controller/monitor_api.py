"""What REST answers about what was monitored; the `nco` command reads the same classes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from controller.monitor_kinds import Alarm, Kind
from wire.messages import Counters


class EventRecord(BaseModel):
    """Something that happened."""

    id: int
    """Grows from event to event; what `Last-Event-ID` says."""
    at: float
    """Unix time in seconds."""
    kind: Kind
    intent: str | None
    host: str | None
    phase: str | None
    text: str


class FlowCounters(BaseModel):
    """What a customization did on a flow."""

    id: str
    counters: Counters


class FlowView(BaseModel):
    """A flow, as its host told of it last."""

    host: str
    transport: str
    number: int
    local: str
    local_port: int
    remote: str | None
    remote_port: int | None
    pid: int | None
    tgid: int | None
    thread: str | None
    process: str | None
    executable: str | None
    uid: int | None
    opened: float | None
    seen: float
    """When the host told of it last."""
    ended: float | None
    last_sent: float | None
    last_received: float | None
    state: str | None
    intents: list[str]
    customizations: list[FlowCounters]

    @classmethod
    def of(cls, row: dict[str, Any]) -> FlowView:
        """Return the view of a row of the table."""
        opened = row["opened"] or None
        return cls.model_validate({**row, "opened": opened, "intents": row["intents"].split()})


class SampleView(BaseModel):
    """What a customization had counted at some time."""

    at: float
    customization: str
    intent: str
    host: str
    module: str
    flows: int | None
    counters: Counters


class AlertView(BaseModel):
    """An alert; raised as long as it is not cleared."""

    id: int
    kind: Alarm
    subject: str
    text: str
    raised: float
    cleared: float | None
