"""Messages between the Ryu application and the NCO service, over a Unix socket.

Frames are those of the control channel (`wire.frames`). The application connects; it sends
`Switches` first and whenever something in it changed (never a message per packet), and
`SteeringReport` after each generation and every few seconds. The service sends `Steering`: the
whole set of mirrors under a generation number; the application converges the switches to it.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from wire.messages import Generation, Message, Text

MAX_MIRRORS = 1024
"""Mirrors of all intents together."""


def _canonical(text: str) -> str:
    return str(ip_address(text))


Dpid = Annotated[int, Field(ge=0, lt=2**64)]
SwitchPort = Annotated[int, Field(ge=1, lt=2**32)]
Address = Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,3}){3}$")]
ServerAddress = Annotated[str, AfterValidator(_canonical)]
"""IPv4 or IPv6, as switches report it."""


class SeenHost(Message):
    """Where a host is attached: the switch port that is no link to another switch."""

    mac: Annotated[str, Field(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]
    address: Address
    dpid: Dpid
    port: SwitchPort


class Switches(Message):
    """What the application knows of the network: the whole of it, each time."""

    type: Literal["switches"] = "switches"
    connected: list[Dpid] = Field(default=[], max_length=4096)
    hosts: list[SeenHost] = Field(default=[], max_length=65536)


class Mirror(Message):
    """A service whose traffic a middlebox gets a copy of, in both directions."""

    id: Text
    """The intent's name."""
    transport: Literal["udp", "tcp"]
    server: ServerAddress
    known_as: Address | None = None
    """An IPv4 address of the server's host, by which switches know where it is; None: `server`."""
    port: Annotated[int, Field(ge=1, le=65535)]
    middlebox: Address


class Steering(Message):
    """The whole set of mirrors that the switches should have."""

    type: Literal["steering"] = "steering"
    generation: Generation
    control: tuple[Address, Annotated[int, Field(ge=1, le=65535)]] | None = None
    """The NCO's control channel: never steered nor mirrored."""
    mirrors: list[Mirror] = Field(default=[], max_length=MAX_MIRRORS)


class MirrorStatus(Message):
    """One mirror as the switches really have it."""

    id: Text
    state: Literal["installed", "pending", "impossible"]
    reason: Text = ""
    """Why it is not installed: a host not seen yet, a switch away, no common switch."""
    dpid: Dpid | None = None
    port: SwitchPort | None = None
    packets: int = 0
    bytes: int = 0


class SteeringReport(Message):
    """How far the switches are."""

    type: Literal["steering_report"] = "steering_report"
    generation: Generation
    mirrors: list[MirrorStatus] = Field(default=[], max_length=MAX_MIRRORS)


FROM_APP: TypeAdapter[Switches | SteeringReport] = TypeAdapter(
    Annotated[Switches | SteeringReport, Field(discriminator="type")]
)
FROM_SERVICE: TypeAdapter[Steering] = TypeAdapter(Steering)
