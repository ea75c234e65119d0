"""libbpf 1.x, as much of it as the tap driver needs: objects, maps, links, iterators, pins.

File descriptors are plain integers that the caller closes; `Map` and `BpfObject` close their own.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

LOG_LINES = 12
"""How many of libbpf's last log lines an error carries (the verifier's verdict is the last)."""

MAP_TYPE_ARRAY = 2
BPF_TRACE_ITER = 28

_log: deque[str] = deque(maxlen=LOG_LINES)


class LibbpfError(RuntimeError):
    """libbpf or the kernel refused; the text has what failed, the errno and the last log lines."""

    def __init__(self, action: str, code: int, log: list[str] | None = None) -> None:
        self.code = code
        words = "".join(f"\n  {line}" for line in log or [])
        super().__init__(f"{action}: {os.strerror(code)}{words}")


class _OpenOptions(ctypes.Structure):
    """The head of struct bpf_object_open_opts; libbpf takes missing members as zero."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("object_name", ctypes.c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", ctypes.c_char_p),
    )


class _TestRunOptions(ctypes.Structure):
    """The head of struct bpf_test_run_opts; libbpf takes missing members as zero."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("data", ctypes.c_void_p * 2),
        ("data_sizes", ctypes.c_uint32 * 2),
        ("context", ctypes.c_void_p * 2),
        ("context_sizes", ctypes.c_uint32 * 2),
        ("result", ctypes.c_uint32),
    )


_LogCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


def _remember(level: int, template: bytes, arguments: int) -> int:
    """Format one message of libbpf and keep its lines; debug messages (level 2) are not kept."""
    if level < 2:
        text = ctypes.create_string_buffer(64 * 1024)
        ctypes.CDLL(None).vsnprintf(text, len(text), template, ctypes.c_void_p(arguments))
        lines = text.value.decode(errors="replace").splitlines()
        _log.extend(line.rstrip() for line in lines if _says_something(line))
    return 0


def _says_something(line: str) -> bool:
    """Tell the verifier's reason from the statistics and frames that libbpf prints after it."""
    return bool(line.strip()) and not line.startswith(("processed ", "-- ", "libbpf: -- "))


_keep_alive = _LogCallback(_remember)  # libbpf holds the pointer for good

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "bpf_object__open_mem": (
        ctypes.c_void_p,
        [ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(_OpenOptions)],
    ),
    "bpf_object__load": (ctypes.c_int, [ctypes.c_void_p]),
    "bpf_object__close": (None, [ctypes.c_void_p]),
    "bpf_object__next_program": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]),
    "bpf_object__next_map": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]),
    "bpf_map__name": (ctypes.c_char_p, [ctypes.c_void_p]),
    "bpf_program__name": (ctypes.c_char_p, [ctypes.c_void_p]),
    "bpf_program__fd": (ctypes.c_int, [ctypes.c_void_p]),
    "bpf_program__expected_attach_type": (ctypes.c_int, [ctypes.c_void_p]),
    "bpf_obj_pin": (ctypes.c_int, [ctypes.c_int, ctypes.c_char_p]),
    "bpf_obj_get": (ctypes.c_int, [ctypes.c_char_p]),
    "bpf_link_create": (
        ctypes.c_int,
        [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p],
    ),
    "bpf_iter_create": (ctypes.c_int, [ctypes.c_int]),
    "bpf_prog_test_run_opts": (ctypes.c_int, [ctypes.c_int, ctypes.POINTER(_TestRunOptions)]),
    "bpf_map_create": (
        ctypes.c_int,
        [ctypes.c_int, ctypes.c_char_p, *[ctypes.c_uint32] * 3, ctypes.c_void_p],
    ),
    "bpf_map_get_fd_by_id": (ctypes.c_int, [ctypes.c_uint32]),
    "bpf_prog_get_fd_by_id": (ctypes.c_int, [ctypes.c_uint32]),
    "bpf_map_lookup_elem": (ctypes.c_int, [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]),
    "bpf_map_update_elem": (
        ctypes.c_int,
        [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64],
    ),
    "bpf_map_delete_elem": (ctypes.c_int, [ctypes.c_int, ctypes.c_char_p]),
    "bpf_map_get_next_key": (ctypes.c_int, [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]),
    "libbpf_num_possible_cpus": (ctypes.c_int, []),
    "libbpf_set_print": (ctypes.c_void_p, [_LogCallback]),
}


@functools.cache
def library() -> ctypes.CDLL:
    """Return libbpf with its functions declared.

    Raises LibbpfError where it is not installed.
    """
    try:
        loaded = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise LibbpfError(f"cannot load libbpf.so.1 ({error}); install libbpf1", 2) from error
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    loaded.libbpf_set_print(_keep_alive)
    return loaded


def _checked(action: str, result: int) -> int:
    if result < 0:
        raise LibbpfError(action, -result)
    return result


class BpfObject:
    """An object file opened by libbpf; a context manager that closes it."""

    def __init__(self, data: bytes, name: str, pins: Path) -> None:
        """Open `data`; maps to be pinned by name are found, or will be pinned, in `pins`.

        Raises LibbpfError where it is no BPF object.
        """
        self._name = name
        self._data = data  # libbpf reads it again when it loads
        options = _OpenOptions(ctypes.sizeof(_OpenOptions), name.encode(), False, bytes(pins))
        _log.clear()
        self._object = library().bpf_object__open_mem(data, len(data), ctypes.byref(options))
        if not self._object:
            raise LibbpfError(f"{name}: not a BPF object", ctypes.get_errno(), list(_log))

    def __enter__(self) -> BpfObject:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        library().bpf_object__close(self._object)

    def load(self) -> None:
        """Make the kernel verify and load all programs; raises LibbpfError with its words."""
        _log.clear()
        code = library().bpf_object__load(self._object)
        if code < 0:
            raise LibbpfError(f"{self._name}: the kernel refused it", -code, list(_log))

    def _programs(self) -> Iterator[int]:
        program = library().bpf_object__next_program(self._object, None)
        while program:
            yield program
            program = library().bpf_object__next_program(self._object, program)

    @property
    def programs(self) -> dict[str, int]:
        """File descriptors of the programs by name, valid while this is open."""
        lib = library()
        return {lib.bpf_program__name(p).decode(): lib.bpf_program__fd(p) for p in self._programs()}

    @property
    def attach_types(self) -> dict[str, int]:
        """Where each program says, by its section, that it is to be attached."""
        lib = library()
        return {
            lib.bpf_program__name(p).decode(): lib.bpf_program__expected_attach_type(p)
            for p in self._programs()
        }

    @property
    def maps(self) -> list[str]:
        """Names of the maps that the object defines."""
        lib, names = library(), []
        current = lib.bpf_object__next_map(self._object, None)
        while current:
            names.append(lib.bpf_map__name(current).decode())
            current = lib.bpf_object__next_map(self._object, current)
        return names


class Map:
    """A map by its file descriptor; keys and values are bytes of the map's sizes."""

    def __init__(self, fd: int, key_size: int, value_size: int, copies: int = 1) -> None:
        """Take over the descriptor of a map, `copies` values for each key (per CPU: one each).

        Raises LibbpfError where the map's sizes are others: the kernel copies as much as its map
        has, whatever room there is.
        """
        self.fd = fd
        self._key_size = key_size
        self._value_size = value_size * copies
        if (sizes := _sizes(fd)) != (key_size, value_size):
            os.close(fd)
            raise LibbpfError(
                f"a map has keys and values of {sizes} bytes instead of {key_size, value_size}: "
                "another version of the tap is loaded; `dca tap unload`, then `dca tap load`",
                errno.EINVAL,
            )

    @classmethod
    def pinned(cls, path: Path, key_size: int, value_size: int, copies: int = 1) -> Map:
        """Open the map pinned at `path`."""
        return cls(obj_get(path), key_size, value_size, copies)

    @classmethod
    def by_id(cls, number: int, key_size: int, value_size: int) -> Map:
        """Open the map with this id, as an outer map gives it."""
        fd = _checked(f"map with id {number}", library().bpf_map_get_fd_by_id(number))
        return cls(fd, key_size, value_size)

    @classmethod
    def create_array(cls, name: str, value_size: int, entries: int) -> Map:
        """Make an array map, gone with its last reference."""
        made = library().bpf_map_create(MAP_TYPE_ARRAY, name.encode(), 4, value_size, entries, None)
        return cls(_checked(f"map {name}", made), 4, value_size)

    def close(self) -> None:
        """Give the file descriptor back."""
        os.close(self.fd)

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value, or None where there is none."""
        value = ctypes.create_string_buffer(self._value_size)
        code = library().bpf_map_lookup_elem(self.fd, key, value)
        return None if code == -2 else (_checked("map lookup", code), value.raw)[1]

    def update(self, key: bytes, value: bytes) -> None:
        """Put the value in place."""
        _checked("map update", library().bpf_map_update_elem(self.fd, key, value, 0))

    def delete(self, key: bytes) -> None:
        """Take the entry out, if it is there."""
        code = library().bpf_map_delete_elem(self.fd, key)
        if code != -2:
            _checked("map delete", code)

    def keys(self) -> Iterator[bytes]:
        """Yield the keys that are there."""
        key: bytes | None = None
        following = ctypes.create_string_buffer(self._key_size)
        while library().bpf_map_get_next_key(self.fd, key, following) == 0:
            key = following.raw
            yield key


def _said(fd: int) -> dict[str, str]:
    """Return what the kernel says of a descriptor, as lines of name and value."""
    info = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii")
    return dict(re.findall(r"^(\w+):\s*(\S+)$", info, re.MULTILINE))


def _sizes(fd: int) -> tuple[int, int]:
    """Return how many bytes a key and a value of a map have."""
    found = _said(fd)
    return int(found.get("key_size", 0)), int(found.get("value_size", 0))


def program_tag(number: int) -> bytes:
    """Return the kernel's tag of the program with this id: the begin of a hash of its code."""
    action = f"program with id {number}"
    fd = _checked(action, library().bpf_prog_get_fd_by_id(number))
    try:
        return bytes.fromhex(_said(fd)["prog_tag"])
    finally:
        os.close(fd)


def obj_pin(fd: int, path: Path) -> None:
    """Keep what `fd` is at `path` of a BPF file system."""
    _checked(f"pin {path}", library().bpf_obj_pin(fd, bytes(path)))


def obj_get(path: Path) -> int:
    """Return a new file descriptor of what is pinned at `path`."""
    return _checked(f"open pin {path}", library().bpf_obj_get(bytes(path)))


def link_create(program: int, target: int, attach_type: int) -> int:
    """Attach a program (to a cgroup: `target` its descriptor) and return the link's descriptor."""
    return _checked("attach", library().bpf_link_create(program, target, attach_type, None))


def run_iterator(program: int, room: int = 0) -> bytes:
    """Run an iterator program over all that it iterates, once, and return what it says.

    At most `room` bytes, and what the last read gives more; then the iterator is left.
    """
    link = link_create(program, 0, BPF_TRACE_ITER)
    try:
        reader = _checked("iterator", library().bpf_iter_create(link))
        try:
            return _read_all(reader, room)
        finally:
            os.close(reader)
    finally:
        os.close(link)


def _read_all(reader: int, room: int) -> bytes:
    said = bytearray()
    while len(said) <= room:
        try:
            piece = os.read(reader, 64 * 1024)
        except BlockingIOError:  # it went over a million things and had nothing to say: go on
            continue
        if not piece:
            break
        said += piece
    return bytes(said)


def run_once(program: int) -> int:
    """Run a raw tracepoint's program once, for what it does, and return its result."""
    options = _TestRunOptions(ctypes.sizeof(_TestRunOptions))
    ran = library().bpf_prog_test_run_opts(program, ctypes.byref(options))
    _checked("run of a program", ran)
    return int(options.result)


def possible_cpus() -> int:
    """How many values a per-CPU map has for each key."""
    return _checked("number of CPUs", library().libbpf_num_possible_cpus())
