"""The stream core in this process: endpoints (kernel_tap/user/l45_user.h) of libl45.so."""

from __future__ import annotations

import ctypes
import enum
import errno
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wire.manifest import load, pack_parameters

ATTACHED_MAX = 16
HOLD_NS = 3_000_000_000
WIRE_ROOM = 65536
TOKEN = bytes(range(8))

SEND, RECEIVE = 1, 2


class Role(enum.IntEnum):
    CONNECT = 0
    ACCEPT = 1
    JOIN = 2


class SendState(enum.IntEnum):
    BROKEN = 0
    NEW = 1
    PLAIN = 2
    FRAMED = 3


class ReceiveState(enum.IntEnum):
    BROKEN = 0
    LOOK = 1
    PLAIN = 2
    FRAMED = 3


class Fault(enum.IntEnum):
    NONE = 0
    FRAME = 1
    TOO_LONG = 2
    UNKNOWN = 3
    MODULE = 4
    CUT = 5
    LATE = 6
    SILENT = 7
    MEMORY = 8


class _Instance(ctypes.Structure):
    _fields_ = (
        ("module", ctypes.c_void_p),
        ("epoch", ctypes.c_uint16),
        ("token", ctypes.c_uint8 * 8),
        ("parameters_size", ctypes.c_uint32),
        ("parameters", ctypes.c_uint8 * 64),
    )


class _Frame(ctypes.Structure):
    _fields_ = (
        ("buffer", ctypes.c_void_p),
        ("head", ctypes.c_void_p),
        ("head_size", ctypes.c_uint32),
        ("body", ctypes.c_void_p),
        ("body_size", ctypes.c_uint32),
        ("taken", ctypes.c_uint32),
        ("delay_ms", ctypes.c_uint32),
        ("again_head", ctypes.c_uint32),
        ("room", ctypes.c_uint8 * 279),
    )

    def wire(self) -> bytes:
        return ctypes.string_at(self.head, self.head_size) + (
            ctypes.string_at(self.body, self.body_size) if self.body_size else b""
        )


@dataclass(frozen=True)
class Module:
    """A stream module of a build folder (tests.user_target.build)."""

    library: Path
    manifest: Path

    @classmethod
    def of(cls, built: Path, modules: Path, name: str) -> Module:
        return cls(built / f"{name}.so", modules / name / "manifest.toml")

    @property
    def address(self) -> int:
        return ctypes.addressof(ctypes.c_char.in_dll(ctypes.CDLL(str(self.library)), "l45_module"))


@dataclass(frozen=True)
class Customization:
    """What both ends of a stream must agree on."""

    module: Module
    epoch: int = 1
    token: bytes = TOKEN
    parameters: tuple[tuple[str, int], ...] = ()

    def _instance(self) -> _Instance:
        packed = pack_parameters(_manifest(self.module.manifest), dict(self.parameters))
        return _Instance(
            self.module.address,
            self.epoch,
            (ctypes.c_uint8 * 8)(*self.token),
            len(packed),
            (ctypes.c_uint8 * 64)(*packed),
        )


@dataclass(frozen=True)
class Sent:
    """One frame: its bytes, and how many of the application's it took."""

    wire: bytes
    taken: int
    delay_ms: int


class StreamError(OSError):
    """A call of the core was refused."""


class Endpoint:
    """One end of a connection. Free it with `close`."""

    def __init__(self, built: Path, role: Role, process: str | None = "curl") -> None:
        self._core = _library(built / "libl45.so")
        self._self = self._core.l45_endpoint_new(role, process.encode() if process else None)
        self._flow = self._core.l45_endpoint_flow(self._self)
        self._instances: dict[Customization, int] = {}

    def close(self) -> None:
        self._core.l45_endpoint_free(self._self)

    # -- customizations

    def attach(self, what: Customization, priority: int, switches: int) -> None:
        instance = what._instance()
        copy = self._core.l45_endpoint_attach(
            self._self, ctypes.byref(instance), priority, switches
        )
        if not copy:
            number = ctypes.get_errno()
            raise StreamError(number, os.strerror(number))
        self._instances[what] = copy

    def set(self, what: Customization, priority: int, switches: int) -> None:
        _check(self._core.l45_flow_set(self._flow, self._instances[what], priority, switches))

    def detach(self, what: Customization) -> None:
        _check(self._core.l45_endpoint_detach(self._self, self._instances[what]))
        del self._instances[what]

    # -- live streams

    def arm(self, token: bytes, now: int, window: int) -> None:
        self._core.l45_flow_arm(self._flow, token, now, window)

    def go(self, now: int) -> None:
        _check(self._core.l45_flow_go(self._flow, now))

    def disarm(self) -> None:
        self._core.l45_flow_disarm(self._flow)

    def drain(self, until: int) -> None:
        self._core.l45_flow_drain(self._flow, until)

    def tick(self, now: int) -> int:
        """Return when to call again, 0 for never."""
        return int(self._core.l45_flow_tick(self._flow, now))

    # -- sending

    def send(self, app: bytes) -> Sent:
        """Make a frame of the begin of `app`, or several that are alike."""
        frame = _Frame()
        buffer = ctypes.create_string_buffer(app, len(app))
        _check(self._core.l45_endpoint_send(self._self, buffer, len(app), ctypes.byref(frame)))
        return Sent(frame.wire(), frame.taken, frame.delay_ms)

    def write(self, app: bytes) -> bytes:
        """Return all of `app` in its wire form."""
        wire = b""
        while app:
            sent = self.send(app)
            wire += sent.wire
            app = app[sent.taken :]
        return wire

    def control(self) -> bytes:
        """Return what goes out without waiting for the application."""
        frame = _Frame()
        _check(self._core.l45_send_control(self._flow, ctypes.byref(frame)))
        return frame.wire()

    # -- receiving

    def fill(self, wire: bytes) -> int:
        """Put bytes of the transport in; return how many there was room for."""
        room = ctypes.c_uint32()
        space = self._core.l45_endpoint_space(self._self, ctypes.byref(room))
        size = min(len(wire), room.value)
        ctypes.memmove(space, wire, size)
        self._core.l45_endpoint_filled(self._self, size)
        return size

    def end(self) -> None:
        """Say that the transport has ended."""
        self._core.l45_endpoint_ended(self._self)

    def read(self, room: int = WIRE_ROOM) -> bytes | None:
        """Return what can be read now, None at the end; StreamError where the format is broken."""
        app = ctypes.create_string_buffer(room)
        size = self._core.l45_endpoint_read(self._self, app, room)
        if size == -errno.ENODATA:
            return None
        return app.raw[: _check(size)]

    # -- state

    @property
    def sending(self) -> SendState:
        return SendState(self._core.l45_endpoint_state(self._self, 0))

    @property
    def receiving(self) -> ReceiveState:
        return ReceiveState(self._core.l45_endpoint_state(self._self, 1))

    @property
    def changes(self) -> tuple[int, int]:
        """Marks, switches and ends that were sent, and that were read."""
        return (
            self._core.l45_endpoint_changes(self._self, 0),
            self._core.l45_endpoint_changes(self._self, 1),
        )

    @property
    def faults(self) -> tuple[Fault, Fault]:
        """Of sending and receiving."""
        return (
            Fault(self._core.l45_endpoint_fault(self._self, 0)),
            Fault(self._core.l45_endpoint_fault(self._self, 1)),
        )


_manifest = functools.cache(load)


def _check(result: int) -> int:
    if result < 0:
        raise StreamError(-result, os.strerror(-result))
    return result


def _library(path: Path) -> Any:  # noqa: ANN401 - ctypes makes functions of names
    core = ctypes.CDLL(str(path), use_errno=True)
    pointer, size = ctypes.c_void_p, ctypes.c_uint32
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "l45_endpoint_new": (pointer, [ctypes.c_int, ctypes.c_char_p]),
        "l45_endpoint_free": (None, [pointer]),
        "l45_endpoint_flow": (pointer, [pointer]),
        "l45_endpoint_attach": (pointer, [pointer, pointer, size, ctypes.c_uint8]),
        "l45_endpoint_detach": (ctypes.c_int, [pointer, pointer]),
        "l45_endpoint_send": (ctypes.c_int, [pointer, pointer, size, pointer]),
        "l45_endpoint_space": (pointer, [pointer, pointer]),
        "l45_endpoint_filled": (None, [pointer, size]),
        "l45_endpoint_ended": (None, [pointer]),
        "l45_endpoint_read": (ctypes.c_int, [pointer, pointer, size]),
        "l45_endpoint_state": (ctypes.c_int, [pointer, ctypes.c_int]),
        "l45_endpoint_changes": (size, [pointer, ctypes.c_int]),
        "l45_endpoint_fault": (ctypes.c_int, [pointer, ctypes.c_int]),
        "l45_flow_set": (ctypes.c_int, [pointer, pointer, size, ctypes.c_uint8]),
        "l45_flow_arm": (None, [pointer, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64]),
        "l45_flow_go": (ctypes.c_int, [pointer, ctypes.c_uint64]),
        "l45_flow_disarm": (None, [pointer]),
        "l45_flow_drain": (None, [pointer, ctypes.c_uint64]),
        "l45_flow_tick": (ctypes.c_uint64, [pointer, ctypes.c_uint64]),
        "l45_send_control": (ctypes.c_int, [pointer, pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(core, name)
        function.restype, function.argtypes = result, arguments
    return core
