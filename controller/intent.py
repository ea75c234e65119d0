"""What an operator asks for: the intent, as it comes from a TOML file or a REST caller."""

from __future__ import annotations

import tomllib
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
)

from controller.errors import Invalid
from wire.manifest import explain
from wire.match import COMM_MAX, Comm, Executable, Port, Uid
from wire.messages import HostName, ModuleName

Address = Annotated[IPv4Address, PlainSerializer(str, return_type=str)]


def _short_enough(name: Any) -> Any:  # noqa: ANN401 - before validation it may be anything
    if isinstance(name, str) and len(name.encode()) > COMM_MAX:
        kept = name.encode()[:COMM_MAX].decode(errors="ignore")
        raise ValueError(
            f"{name!r} is longer than the {COMM_MAX} bytes that Linux keeps of a process name: "
            f"write {kept!r} (`ps -o comm` shows what it keeps)"
        )
    return name


ProcessName = Annotated[Comm, BeforeValidator(_short_enough)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Client(_Part):
    """Applications of a host that talk to the servers."""

    host: HostName
    process: ProcessName | None = None
    """Name of the process; None: every process."""
    thread: ProcessName | None = None
    executable: Executable | None = None
    """Path of the program; only the kernel tap knows it, as the next."""
    uid: Uid | None = None
    """The user it runs as."""


class Server(_Part):
    """Applications of a host that answer."""

    host: HostName
    process: ProcessName | None = None
    executable: Executable | None = None
    uid: Uid | None = None
    address: Address | None = None
    """Where clients reach it; may be left out where the host has one address."""


class Middlebox(_Part):
    """Who gets a copy of the traffic between clients and servers."""

    host: HostName
    mode: Literal["mirror"] = "mirror"
    address: Address | None = None


def _each_once(endpoints: list[Any]) -> list[Any]:
    for position, endpoint in enumerate(endpoints):
        if endpoint in endpoints[:position]:
            raise ValueError(f"{endpoint.host} is listed twice with the same content")
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
    middlebox: Middlebox | None = None
    parameters: Annotated[dict[str, int], Field(max_length=64)] = {}
    priority: Annotated[int, Field(ge=0, le=65535)] = 100
    """Lowest first where several customizations are attached to one socket."""


def load(path: Path) -> Intent:
    """Read an intent from a TOML file; raises Invalid, naming the place and the fault."""
    try:
        return Intent.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{path}: {error}") from error
    except ValidationError as error:
        raise Invalid(f"{path}: {explain(error)}") from error
