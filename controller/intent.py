"""What an operator asks for: the intent, as it comes from a TOML file or a REST caller.

docs/intents.md shows the file with every field.
"""

from __future__ import annotations

import re
import tomllib
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictInt,
    ValidationError,
    model_validator,
)

from controller.durations import Duration
from controller.errors import Invalid
from wire.manifest import explain
from wire.match import COMM_MAX, Comm, Executable, Port, Prefix, Uid, check_range
from wire.messages import HostName, ModuleName

T = TypeVar("T", bound=BaseModel)

Address = Annotated[IPv4Address | IPv6Address, PlainSerializer(str, return_type=str)]

LABEL = r"^[a-z][a-z0-9_.-]{0,62}=[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"


def _like_a_label(value: Any) -> Any:  # noqa: ANN401 - before validation it may be anything
    if isinstance(value, str) and not re.fullmatch(LABEL, value):
        raise ValueError(f"{value!r} is no label: write NAME=VALUE, like site=B")
    return value


Label = Annotated[str, BeforeValidator(_like_a_label), Field(max_length=127, pattern=LABEL)]
"""`NAME=VALUE`, as the operator gave it to hosts: `site=B`."""

Parameters = Annotated[dict[str, StrictInt], Field(max_length=64)]

NoTap = Literal["refuse", "skip"]
Reaction = Literal["revoke", "quarantine"]


def _short_enough(name: Any) -> Any:  # noqa: ANN401 - before validation it may be anything
    if isinstance(name, str) and len(name.encode()) > COMM_MAX:
        kept = name.encode()[:COMM_MAX].decode(errors="ignore")
        raise ValueError(
            f"{name!r} is longer than the {COMM_MAX} bytes that Linux keeps of a process name: "
            f"write {kept!r} (`ps -o comm` shows what it keeps)"
        )
    return name


ProcessName = Annotated[Comm, BeforeValidator(_short_enough)]


def _listed(value: Any) -> Any:  # noqa: ANN401 - before validation it may be anything
    """Take one where several may stand."""
    if value is None:
        return []
    return value if isinstance(value, list | tuple) else [value]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Endpoint(_Part):
    """Applications of one host, or of all hosts with some labels, or with an address in a prefix.

    What is left out of process, thread, executable and uid matches all.
    """

    host: HostName | None = None
    label: Annotated[tuple[Label, ...], BeforeValidator(_listed), Field(max_length=8)] = ()
    """One or more; a host must have them all."""
    prefix: Prefix | None = None
    plain: bool = False
    """With a prefix: whoever is there has no agent, and is only the peer of the other side."""
    process: ProcessName | None = None
    """Name of the process; None: every process."""
    thread: ProcessName | None = None
    executable: Executable | None = None
    """Path of the program."""
    uid: Uid | None = None
    """The user it runs as."""

    @property
    def where(self) -> str:
        """Which hosts are meant, as the command line takes it."""
        return self.host or ",".join(self.label) or str(self.prefix)

    @model_validator(mode="after")
    def _one_place(self) -> Endpoint:
        if sum((self.host is not None, bool(self.label), self.prefix is not None)) != 1:
            raise ValueError("say one of `host`, `label` and `prefix`: where the application runs")
        if self.plain and self.prefix is None:
            raise ValueError("`plain` goes with `prefix`: peers that have no agent have no name")
        if self.plain and (self.process or self.thread or self.executable or self.uid is not None):
            raise ValueError("of a `plain` prefix only the addresses are known: leave the rest out")
        return self


class Client(Endpoint):
    """Applications that talk to the servers."""

    local: Prefix | None = None
    """Only sockets with a local address in it."""
    local_port: Port | None = None
    local_port_last: Port | None = None
    """With it, `local_port` is the first of a range."""

    @model_validator(mode="after")
    def _range(self) -> Client:
        check_range(self.local_port, self.local_port_last)
        return self


class Server(Endpoint):
    """Applications that answer."""

    address: Annotated[tuple[Address, ...], BeforeValidator(_listed), Field(max_length=16)] = ()
    """Where clients reach the host; may be left out where it has one of each family."""
    peers: Prefix | None = None
    """Only sockets whose peer is in it."""

    @model_validator(mode="after")
    def _address_of_one(self) -> Server:
        if self.address and self.host is None:
            raise ValueError("`address` goes with `host`: of a label or prefix all addresses count")
        return self


class Middlebox(_Part):
    """Who gets a copy of the traffic between clients and servers."""

    host: HostName
    mode: Literal["mirror"] = "mirror"
    address: Address | None = None


class Security(_Part):
    """How it is made sure that what should run runs; the network's policy may ask for more."""

    challenge_every: Duration | None = None
    """Seconds between two challenges of a customization; None: no challenges."""
    on_failure: Reaction = "revoke"
    """What a wrong or missing answer does: take it away on both ends, and quarantine the host."""


class Rotation(_Part):
    """What replaces the running deployment by another, and when; the policy may ask for more."""

    every: Duration | None = None
    """Seconds from one to the next; None: only by hand."""
    modules: Annotated[tuple[ModuleName, ...], Field(max_length=16)] = ()
    """What comes after the intent's own module, in turn."""
    parameters: Annotated[dict[ModuleName, Parameters], Field(max_length=16)] = {}
    """Of those modules."""
    keys: bool = False
    """Whether each rotation makes new keys; where there are no other modules it always does."""
    cut_off: bool = False
    """Whether a host that cannot be reached is left behind, instead of holding a rotation up."""

    @model_validator(mode="after")
    def _consistent(self) -> Rotation:
        if self.every is not None and not self.modules and not self.keys:
            raise ValueError("say what is rotated: `modules = [...]`, or `keys = true`")
        if unknown := sorted(set(self.parameters) - set(self.modules)):
            raise ValueError(f"parameters of {unknown[0]!r}, which is not among the modules")
        return self


def _each_once(endpoints: list[Any]) -> list[Any]:
    seen: set[Endpoint] = set()
    for endpoint in endpoints:
        if endpoint in seen:
            raise ValueError(f"{endpoint.where} is listed twice with the same content")
        seen.add(endpoint)
    return endpoints


class Intent(_Part):
    """One customization of the network: a module between client and server applications."""

    name: HostName
    """One DNS label; what `nco show` and `nco revoke` call it."""
    module: ModuleName
    clients: Annotated[
        list[Client],
        Field(alias="client", min_length=1, max_length=256),
        AfterValidator(_each_once),
    ]
    servers: Annotated[
        list[Server],
        Field(alias="server", min_length=1, max_length=256),
        AfterValidator(_each_once),
    ]
    port: Port | None = None
    """The servers' port; the manifest's where left out."""
    port_last: Port | None = None
    """With it, `port` is the first of a range."""
    swap_roles: bool = False
    """Clients do what the manifest says of the server side, and the reverse."""
    middlebox: Middlebox | None = None
    parameters: Parameters = {}
    priority: Annotated[int, Field(ge=0, le=65535)] = 100
    """Lowest first where several customizations are attached to one socket."""
    no_tap: NoTap = "refuse"
    """Where no tap of a host can run it: refuse the intent, or skip the host and say so."""
    security: Security = Security()
    rotation: Rotation = Rotation()

    @model_validator(mode="after")
    def _consistent(self) -> Intent:
        check_range(self.port, self.port_last)
        if all(end.plain for end in (*self.clients, *self.servers)):
            raise ValueError("all endpoints are `plain`: nobody is left to customize anything")
        if self.module in self.rotation.modules:
            raise ValueError(f"rotation.modules: {self.module} is the intent's own: it comes first")
        return self


def load(path: Path) -> Intent:
    """Read an intent from a TOML file; raises Invalid, naming the place and the fault."""
    return read_toml(path, Intent)


def read_toml(path: Path, kind: type[T]) -> T:
    """Read what a TOML file says; raises Invalid, naming the place and the fault."""
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{path}: {error}") from error
    except ValidationError as error:
        raise Invalid(f"{path}: {explain(error)}") from error
