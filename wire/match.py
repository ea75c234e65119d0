"""Which sockets a customization applies to."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    PlainSerializer,
    model_serializer,
    model_validator,
)

COMM_MAX = 15
"""Longest thread or process name in bytes (Linux TASK_COMM_LEN less the NUL)."""

EXECUTABLE_MAX = 255
"""Longest path of an executable in bytes."""

Transport = Literal["udp", "tcp"]
Comm = Annotated[str, Field(min_length=1, max_length=COMM_MAX, pattern=r"^[\x21-\x7e]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Prefix = Annotated[IPvAnyNetwork, PlainSerializer(str, return_type=str)]
Uid = Annotated[int, Field(ge=0, lt=2**32 - 1)]


def _short_enough(path: str) -> str:
    if len(path.encode()) > EXECUTABLE_MAX:
        raise ValueError(f"a path has at most {EXECUTABLE_MAX} bytes here")
    return path


Executable = Annotated[str, Field(pattern=r"^/[^\x00]*$"), AfterValidator(_short_enough)]


class Match(BaseModel):
    """What a socket must be for a customization to attach; a field left out matches all.

    `thread` is the name (`comm`) of the thread that made or used the socket, `process` that of
    its thread-group leader, `executable` the absolute path of its program, `uid` its effective
    user in the initial user namespace. `local` and `remote` are seen from the host. A port with a
    `_last` one is the first of a range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    transport: Transport
    thread: Comm | None = None
    process: Comm | None = None
    executable: Executable | None = None
    uid: Uid | None = None
    local: Prefix | None = None
    local_port: Port | None = None
    local_port_last: Port | None = None
    remote: Prefix | None = None
    remote_port: Port | None = None
    remote_port_last: Port | None = None

    @property
    def local_ports(self) -> range:
        """The local ports that match."""
        return _ports(self.local_port, self.local_port_last)

    @property
    def remote_ports(self) -> range:
        """The remote ports that match."""
        return _ports(self.remote_port, self.remote_port_last)

    @property
    def beyond_bpf(self) -> str | None:
        """What is asked for that the kernel tap does and the eBPF tap does not, or None."""
        return None if self.transport == "udp" else self.transport

    @model_validator(mode="after")
    def _ranges(self) -> Match:
        check_range(self.local_port, self.local_port_last)
        check_range(self.remote_port, self.remote_port_last)
        return self

    @model_serializer
    def _dumped(self) -> dict[str, Any]:
        return _given(self)


@lru_cache(maxsize=1024)
def _given(match: Match) -> dict[str, Any]:
    """Return what is asked for: an end that knows less fields takes the rest.

    Most hosts of an intent have the same match. Whoever dumps one gets a copy of this.
    """
    fields = ((name, getattr(match, name)) for name in Match.model_fields)
    return {
        name: str(value) if name in ("local", "remote") else value
        for name, value in fields
        if value is not None
    }


def check_range(first: int | None, last: int | None) -> None:
    """Raise ValueError where a range of ports ends with `last` and does not begin before it."""
    if last is not None and (first is None or last < first):
        raise ValueError(f"a range of ports ends with {last} and begins with {first}")


def _ports(first: int | None, last: int | None) -> range:
    if first is None:
        return range(65536)
    return range(first, (last or first) + 1)
