"""Messages of the control channel between the NCO and an agent.

Each frame is a map with a `type`. A type or field that this side does not know is ignored, so
that either end may be newer; a known type with a bad field ends the connection (MessageError).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from wire.match import Match, Transport

M = TypeVar("M")

PROTOCOL_VERSION = 1

DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
HostName = Annotated[str, Field(pattern=DNS_LABEL)]
"""One DNS label (RFC 1123): the identity of a host, in its certificate and in intents."""

ModuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
"""A C identifier: the folder, the C symbols and the Wireshark fields of a module."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal."""


def _without_nul(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


MAX_TEXT = 4096
Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_without_nul)]
"""Whatever somebody says; but NUL, which PostgreSQL does not store, is not passed on."""

Generation = Annotated[int, Field(ge=0, lt=2**63)]
Target = Literal["bpf", "kmod", "user"]
Count = Annotated[int, Field(ge=0, lt=2**63)]
CustomizationId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Address = Annotated[str, Field(max_length=64), AfterValidator(_without_nul)]
Name = Annotated[str, Field(max_length=64)]
"""A thread's or process's name as the kernel has it, whatever bytes were in it."""
FlowPort = Annotated[int, Field(ge=0, le=65535)]
Time = Annotated[float, Field(ge=0, lt=2**53)]
"""Unix time in seconds."""
Nonce = Annotated[bytes, Field(min_length=16, max_length=64)]
"""Chosen by who asks, used once; `wire.challenge` has the bounds."""

MAX_CUSTOMIZATIONS = 16
"""Customizations of one host; the tap's tables have this many places a namespace."""

MAX_FLOWS = 512
"""Flows that one message tells of."""

MAX_AUTHORITIES = 8
"""Certification authorities that an agent says it trusts."""

MAX_PARAMETERS = 64
"""Bytes of packed parameters of one customization."""

TOKEN_SIZE = 8
KEY_SIZE = 32


class MessageError(ValueError):
    """A frame is a message that this side knows, with a field that it cannot accept."""


class Message(BaseModel):
    """Base of all messages: immutable, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Hello(Message):
    """First frame of the agent: who it is and what it can do."""

    type: Literal["hello"] = "hello"
    versions: list[int] = Field(default=[PROTOCOL_VERSION], max_length=16)
    host: HostName
    boot_id: Text
    kernel: Text
    tap: Text | None = None
    """Names of the taps that run here."""
    tap_error: Text | None = None
    """Why the others, or all, do not; what needs one of them is refused with it."""
    targets: list[Target] = Field(default=[], max_length=8)
    """What those taps run, the preferred first."""
    addresses: list[Address] = Field(default=[], max_length=64)
    """The host's own IPv4 and IPv6 addresses, without loopback and link-local ones."""
    generation: Generation = 0
    """Last applied; 0 where nothing ever was."""


class Welcome(Message):
    """First frame of the NCO: the version both speak from here on."""

    type: Literal["welcome"] = "welcome"
    version: int
    heartbeat: Annotated[float, Field(gt=0, le=3600)]
    """Seconds between heartbeats of the agent."""


class Refused(Message):
    """Last frame of the NCO before it closes: why this agent cannot be served."""

    type: Literal["refused"] = "refused"
    reason: Text


class Customization(Message):
    """One instance of a module on one host, as the NCO wants it to be."""

    id: CustomizationId
    intent: Text
    module: ModuleName
    digest: Digest
    """The artifact to run."""
    target: Target
    match: Match
    priority: Annotated[int, Field(ge=0, lt=2**20)] = 100
    """Lowest first; an intent's priority, and the order of its deployments below that."""
    parameters: Annotated[bytes, Field(max_length=MAX_PARAMETERS)] = b""
    """Packed as `wire.manifest.pack_parameters` says."""
    receive: bool
    send: bool
    active: bool = True
    """Whether it acts; one that does not stays attached and is passed over."""
    deprecated: bool = False
    """Whether new sockets do without it; those that have it keep it."""
    epoch: Annotated[int, Field(ge=0, le=65535)] = 0
    """Of streams: tells customizations of one module apart; the same on both ends."""
    token: Annotated[bytes, Field(max_length=TOKEN_SIZE, repr=False)] = b""
    """Of streams, TOKEN_SIZE bytes: what begins them; a secret that both ends share."""
    key: Annotated[bytes, Field(max_length=KEY_SIZE, repr=False)] = b""
    """For challenges, KEY_SIZE bytes; this customization's alone, a secret."""

    @field_validator("token", "key")
    @classmethod
    def _whole(cls, secret: bytes, info: ValidationInfo) -> bytes:
        size = TOKEN_SIZE if info.field_name == "token" else KEY_SIZE
        if len(secret) not in (0, size):
            raise ValueError(f"it has {size} bytes, or none")
        return secret


class Desired(Message):
    """The whole set of customizations that the host should have."""

    type: Literal["desired"] = "desired"
    generation: Generation
    customizations: list[Customization] = Field(max_length=MAX_CUSTOMIZATIONS)


class Need(Message):
    """The agent asks for artifacts that a desired state names and it does not have."""

    type: Literal["need"] = "need"
    digests: list[Digest] = Field(max_length=MAX_CUSTOMIZATIONS)


class ArtifactData(Message):
    """A module compiled for one target, signed by the NCO."""

    type: Literal["artifact"] = "artifact"
    digest: Digest
    name: ModuleName
    version: Text
    target: Target
    kernel: Text | None = None
    """The one kernel release that it is for; None where it runs on all."""
    signature: Annotated[bytes, Field(min_length=64, max_length=64)]
    data: Annotated[bytes, Field(min_length=1)]


class Counters(Message):
    """What a customization did since it was created: messages, but where it says bytes."""

    sent: Count = 0
    """Messages customized on their way out."""
    received: Count = 0
    """Messages restored on their way in."""
    passed: Count = 0
    """Messages the module saw and left for the next, or unchanged."""
    dropped: Count = 0
    errors: Count = 0
    too_big: Count = 0
    """Messages left unchanged because the wire form would not fit the MTU."""
    sent_bytes: Count = 0
    """Of the application, in what was customized; 0 from a tap that does not count them."""
    received_bytes: Count = 0
    """Of the application, in what was restored; likewise."""


MESSAGE_COUNTERS = tuple(name for name in Counters.model_fields if not name.endswith("_bytes"))
"""Names of those that count messages."""


class Status(Message):
    """One customization as it really is on the host."""

    id: CustomizationId
    module: ModuleName
    digest: Digest
    receive: bool
    send: bool
    active: bool = True
    deprecated: bool = False
    flows: Count | None = None
    """Sockets that have it; None from a tap that does not know."""
    error: Text | None = None
    counters: Counters = Counters()


class Report(Message):
    """What is so on the host, after each generation, and again when something changed."""

    type: Literal["report"] = "report"
    generation: Generation
    """The last generation that was applied."""
    refused: Generation | None = None
    """A newer generation that was refused as a whole: the last applied one stays in force."""
    error: Text | None = None
    """Why it was refused."""
    customizations: list[Status] = Field(default=[], max_length=MAX_CUSTOMIZATIONS)


class Heartbeat(Message):
    """The agent is alive and nothing changed."""

    type: Literal["heartbeat"] = "heartbeat"
    generation: Generation


class FlowCustomization(Message):
    """What a customization did on one flow."""

    id: CustomizationId
    counters: Counters = Counters()


class Flow(Message):
    """A socket that has customizations; what a tap does not know is None."""

    number: Count
    """The kernel's number of the socket, while it is open."""
    transport: Transport
    local: Address
    local_port: FlowPort
    remote: Address | None = None
    """None of a socket that is not connected and has had no peer yet."""
    remote_port: FlowPort | None = None
    pid: Count | None = None
    tgid: Count | None = None
    thread: Name | None = None
    process: Name | None = None
    executable: Text | None = None
    uid: Count | None = None
    opened: Time | None = None
    last_sent: Time | None = None
    last_received: Time | None = None
    state: Text | None = None
    """Of streams: what is customized in which direction."""
    customizations: list[FlowCustomization] = Field(default=[], max_length=MAX_CUSTOMIZATIONS)


class Flows(Message):
    """The flows of the host, sent when something changed: the newest that there is room for."""

    type: Literal["flows"] = "flows"
    flows: list[Flow] = Field(default=[], max_length=MAX_FLOWS)
    omitted: Count = 0
    """Flows that there was no room for."""


class Challenge(Message):
    """The NCO asks for proof that a customization runs."""

    type: Literal["challenge"] = "challenge"
    customization: CustomizationId
    nonce: Nonce


class ChallengeAnswer(Message):
    """The proof; `wire.challenge` says what it is computed over."""

    type: Literal["challenge_answer"] = "challenge_answer"
    customization: CustomizationId
    nonce: Nonce
    answer: Annotated[bytes, Field(max_length=32)] = b""
    """HMAC-SHA-256; empty where there is none."""
    strength: Literal["kernel", "agent"] = "agent"
    """Who computed it: the kernel that runs it, or the agent from what the kernel reports."""
    evidence: Annotated[bytes, Field(max_length=64)] = b""
    """What of the code the answer is over: its build id (kmod), its programs' tags (bpf)."""
    error: Text | None = None
    """Why there is no answer."""


class Renew(Message):
    """The agent asks for a new certificate before its own expires."""

    type: Literal["renew"] = "renew"
    request: Annotated[bytes, Field(max_length=8192)]
    """A PKCS #10 certificate signing request (RFC 2986), PEM."""


class Renewed(Message):
    """The new certificate, and what else of an agent's credentials may have changed."""

    type: Literal["renewed"] = "renewed"
    certificate: Annotated[bytes, Field(max_length=16384)] = b""
    """PEM; empty where it is refused."""
    ca: Annotated[bytes, Field(max_length=65536)] = b""
    """The certification authorities to trust from now on, PEM."""
    error: Text | None = None


class RenewNow(Message):
    """The NCO wants this agent to ask for a new certificate at once: authorities have changed."""

    type: Literal["renew_now"] = "renew_now"


class Holds(Message):
    """What credentials the agent has: said when a session begins, and when they have changed."""

    type: Literal["holds"] = "holds"
    authorities: list[Digest] = Field(max_length=MAX_AUTHORITIES)
    """The certification authorities that it trusts (`wire.identity.authority_id`)."""
    issuer: Digest | None = None
    """Which of them has issued its certificate."""


AgentMessage = Hello | Need | Report | Heartbeat | Flows | ChallengeAnswer | Renew | Holds
NcoMessage = Welcome | Refused | Desired | ArtifactData | Challenge | Renewed | RenewNow

FROM_AGENT: TypeAdapter[AgentMessage] = TypeAdapter(
    Annotated[AgentMessage, Field(discriminator="type")]
)
FROM_NCO: TypeAdapter[NcoMessage] = TypeAdapter(Annotated[NcoMessage, Field(discriminator="type")])


def parse(adapter: TypeAdapter[M], value: Any) -> M | None:  # noqa: ANN401 - untrusted
    """Return the message in a frame's `value`, or None for a type this side does not know.

    Raises MessageError where it is no message at all or one with a bad field.
    """
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise MessageError("frame is not a map with a type")
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "union_tag_invalid" or first["loc"] == ("type",):
            return None
        where = ".".join(str(part) for part in first["loc"])
        raise MessageError(f"{where}: {first['msg']}") from error


def dump(message: BaseModel) -> dict[str, Any]:
    """Return `message` as a map ready for a frame."""
    return message.model_dump(mode="python")
