"""Which sockets a customization applies to."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

COMM_MAX = 15
"""Longest thread or process name in bytes (Linux TASK_COMM_LEN less the NUL)."""

Transport = Literal["udp", "tcp"]
Comm = Annotated[str, Field(min_length=1, max_length=COMM_MAX, pattern=r"^[\x21-\x7e]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Prefix = Annotated[IPv4Network, PlainSerializer(str, return_type=str)]


class Match(BaseModel):
    """What a socket must be for a customization to attach; a field left out matches all.

    `thread` is the name (`comm`) of the thread that made or used the socket, `process` that of
    its thread-group leader. `local` and `remote` are seen from the host.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    transport: Transport
    thread: Comm | None = None
    process: Comm | None = None
    local: Prefix | None = None
    local_port: Port | None = None
    remote: Prefix | None = None
    remote_port: Port | None = None
