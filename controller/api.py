"""What the REST API answers; the `nco` command reads the same classes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from controller.facts import Side
from controller.intent import Intent
from controller.model import Kind
from controller.phases import Phase
from controller.policy import Policy
from wire.manifest import Parameter
from wire.match import Match
from wire.messages import Counters, ModuleName, Target


class StatusView(BaseModel):
    """The service as a whole."""

    pid: int
    control: str
    """Where agents reach the control channel."""
    listen: str
    """Where the service listens for them."""
    enrol_port: int
    """Where it listens for hosts that enrol."""
    rest_port: int | None
    """Where it listens for callers with tokens, if the settings want that."""
    hosts: int
    hosts_connected: int
    intents: int
    application_connected: bool
    """Whether a Ryu application is connected."""
    switches: list[int]


class HostView(BaseModel):
    """A host whose agent has connected at least once."""

    name: str
    labels: list[str]
    connected: bool
    addresses: list[str]
    kernel: str
    tap: str | None
    tap_error: str | None
    targets: list[Target]
    generation_wanted: int
    generation_confirmed: int | None
    """What the agent confirmed on this connection."""
    error: str | None
    """Why it refuses the wanted generation."""
    switch: str | None
    """Switch and port where it was seen."""
    customizations: int


class ModuleView(BaseModel):
    """A module in the modules folder."""

    name: str
    version: str | None = None
    summary: str | None = None
    transport: str | None = None
    targets: list[Target] = []
    server_port: int | None = None
    parameters: list[Parameter] = []
    error: str | None = None
    """Why its manifest cannot be used."""


class CustomizationView(BaseModel):
    """One customization: as it should be and as it is."""

    id: str
    side: Side
    module: str
    target: Target
    kernel: str | None
    """The kernel release that it is compiled for; None where that does not matter."""
    digest: str | None
    match: Match
    priority: int
    receive_wanted: bool
    receive: bool | None
    """What the host says; None while it says nothing of this customization."""
    send_wanted: bool
    send: bool | None
    flows: int | None
    """Sockets that have it; None where the host does not say."""
    counters: Counters | None
    error: str | None


class IntentHostView(BaseModel):
    """A host as far as one intent goes."""

    name: str
    connected: bool
    generation_wanted: int
    generation_confirmed: int | None
    waiting: str | None
    """Why the intent waits for this host."""
    error: str | None
    customizations: list[CustomizationView]


class MirrorView(BaseModel):
    """A copy of the traffic for a middlebox: as wanted and as the switches have it."""

    id: str
    transport: str
    server: str
    known_as: str | None
    """The address by which switches find an IPv6 server's host."""
    port: int
    middlebox: str
    state: Literal["installed", "pending", "impossible", "not wanted yet", "unknown"]
    reason: str
    switch: int | None
    switch_port: int | None
    packets: int
    bytes: int


class EventView(BaseModel):
    """Something that happened to an intent."""

    at: float
    """Unix time in seconds."""
    phase: Phase
    host: str | None
    text: str


class DeploymentView(BaseModel):
    """Customizations of an intent that go up and down together."""

    number: int
    kind: Kind
    """Why there is one: first, rotation, joined (hosts came), left (hosts go)."""
    succession: int
    """Which of the intent's modules or keys it carries; a rotation has the next."""
    module: str
    parameters: dict[str, int]
    phase: Phase
    error: str | None
    hosts: int
    unconfirmed: list[str]
    """Some of the hosts that have not confirmed the phase."""


class IntentView(BaseModel):
    """An intent, how far it is, and why it is not further."""

    name: str
    phase: Phase
    error: str | None
    waiting: dict[str, str]
    """Hosts that have not confirmed the phase, with the reason."""
    spec: Intent
    """As it was applied; what it has now stands in the deployments."""
    module: str
    priority: int
    deprecated: bool
    left_out: dict[str, str]
    """Hosts that it does without, each with the reason."""
    unfollowed: str | None = None
    """Why hosts that came, went or moved are not followed."""
    deployments: list[DeploymentView]
    hosts: list[IntentHostView]
    mirrors: list[MirrorView]
    history: list[EventView]


class PlanLine(BaseModel):
    """What one step changes on one host."""

    host: str
    side: Side
    module: str
    target: Target
    match: Match
    receive: bool
    send: bool


class PlanStep(BaseModel):
    """Changes that must be confirmed by every host before the next step begins."""

    phase: Phase
    changes: list[PlanLine]


class PlanBuild(BaseModel):
    """A compilation that an intent needs."""

    module: ModuleName
    target: Target
    kernel: str | None
    """The kernel release; None where that does not matter."""
    hosts: int
    """How many get it."""
    built: bool
    """Whether it was compiled before."""


class PlanSkipped(BaseModel):
    """A host that an intent means and leaves out."""

    host: str
    side: Side
    reason: str


class PlanView(BaseModel):
    """What an intent would do, in order."""

    name: str
    running: bool
    """Whether the intent is there; the steps are then what is new."""
    kept: int
    """Customizations that run already, and stay."""
    builds: list[PlanBuild]
    steps: list[PlanStep]
    skipped: list[PlanSkipped]
    mirrors: list[str]
    security: str
    """How the customizations are challenged, in words."""
    rotation: str
    """When and by what they are replaced, in words."""
    stricter: list[str]
    """What the network's policy asks for beyond the intent."""


class PolicyChange(BaseModel):
    """What a change of the network's policy means for the intents that are running."""

    policy: Policy
    """As it is now."""
    broken: dict[str, list[str]]
    """Intents that contradict it, with its sentences; they are revoked."""
    changed: dict[str, list[str]]
    """Intents that it makes stricter, or takes hosts out of."""


class ErrorView(BaseModel):
    """Why a request was refused, and what to do."""

    detail: str
