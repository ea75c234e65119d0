"""The GNU build id of a kernel object, as the kernel reads it when it loads the object.

ELF64, little-endian: of the notes in the section `.note.gnu.build-id`, see elf(5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
NOTE = struct.Struct("<III")
SHT_NOTE = 7
NT_GNU_BUILD_ID = 3
MAX_BUILD_ID = 20


def build_id(code: bytes) -> bytes | None:
    """Return the build id, or None where there is none or it is no such file."""
    try:
        for offset, size in _notes(code):
            if found := _build_id_of(code[offset : offset + size]):
                return found
    except struct.error:
        return None
    return None


def _notes(code: bytes) -> Iterator[tuple[int, int]]:
    """Yield where sections of notes are, and their size."""
    header = HEADER.unpack_from(code)
    if header[0][:6] != b"\x7fELF\x02\x01":
        return
    table, entry_size, count = header[6], header[11], header[12]
    for index in range(count):
        section = SECTION.unpack_from(code, table + index * max(entry_size, SECTION.size))
        if section[1] == SHT_NOTE:
            yield section[4], section[5]


def _build_id_of(notes: bytes) -> bytes | None:
    offset = 0
    while offset + NOTE.size <= len(notes):
        name_size, size, kind = NOTE.unpack_from(notes, offset)
        name = offset + NOTE.size
        content = name + _aligned(name_size)
        if kind == NT_GNU_BUILD_ID and notes[name : name + name_size] == b"GNU\0":
            found = notes[content : content + size]
            return found if 0 < len(found) == size <= MAX_BUILD_ID else None
        offset = content + _aligned(size)
    return None


def _aligned(size: int) -> int:
    return (size + 3) & ~3
