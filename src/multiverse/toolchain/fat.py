"""What a fat binary carries (core/abi/fat.h), and taking it out again."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from multiverse.toolchain.elf import ELF_HEADER_BYTES, PAGE, PHDR_BYTES, Executable, Refused

VERSION = 2  # MV_FAT_VERSION
OWNER = b"Multiverse\0"
NOTE_TYPE = 1
MODULE_NOTE_TYPE = 2  # of an override module's description
LINKED, PACKED = 0, 1
NOTE_HEAD = struct.Struct("<III")
NOTE = struct.Struct("<IIqQII16sq")  # struct mv_fat_note
CORE_FIELD, CODE_FIELD = 8, 48  # offsets in it of what distances are counted from
PACKED_HEAD = struct.Struct("<8sQQQqQQQQQ")  # struct mv_fat_packed
PACKED_MAGIC = b"MVPACKED"
# endbr64; ret: a function that does nothing, where branches have to arrive at a mark, too.
RETURN = bytes.fromhex("f30f1efac3")


@dataclass(frozen=True)
class Carried:
    """What is in a fat binary; offsets and sizes in bytes of the file."""

    kind: str  # "linked" or "packed"
    abi_version: int
    aerokernel_version: int
    release: str
    note_offset: int
    note_size: int
    core_offset: int
    core_size: int
    core_crc32: int
    code_offset: int
    intact: bool  # the core's bytes are what the note says

    @property
    def current(self) -> bool:
        """Made for the interface that this installation knows."""
        return self.abi_version == VERSION


def _align4(size: int) -> int:
    return (size + 3) & ~3


def _note_areas(executable: Executable) -> Iterator[tuple[Any, int, int]]:
    """Where notes are: segment, file offset, size."""
    for segment in executable.segments:
        if segment.p_type == "PT_NOTE":
            yield segment, segment.p_offset, segment.p_filesz
    # What pack appends may have no program header for its notes, but is a segment itself.
    for segment in executable.loads:
        head = executable.content[segment.p_offset : segment.p_offset + PACKED_HEAD.size]
        if head.startswith(PACKED_MAGIC) and len(head) == PACKED_HEAD.size:
            _, _, note, note_end, *_ = PACKED_HEAD.unpack(head)
            if note < note_end <= segment.p_filesz:
                yield segment, segment.p_offset + note, note_end - note


@dataclass(frozen=True)
class _Note:
    """A note of ours: file offsets of itself, its end, and its description."""

    kind: int
    at: int
    end: int
    description: int
    size: int  # of the description


def _notes_in(content: bytes, at: int, size: int) -> Iterator[_Note]:
    end = at + size
    while at + NOTE_HEAD.size <= end:
        name_size, size, kind = NOTE_HEAD.unpack_from(content, at)
        name = at + NOTE_HEAD.size
        description = name + _align4(name_size)
        if description + size > end:
            break
        if content[name : name + name_size] == OWNER:
            yield _Note(kind, at, description + _align4(size), description, size)
        at = description + _align4(size)


def _find_note(executable: Executable) -> tuple[_Note, int] | None:
    """The note of what is carried, and its description's virtual address."""
    for segment, at, size in _note_areas(executable):
        for note in _notes_in(executable.content, at, size):
            if note.kind == NOTE_TYPE:
                return note, segment.p_vaddr + note.description - segment.p_offset
    return None


def overrides(executable: Executable) -> list[str]:
    """Names of the override modules that the executable carries. Raises Refused."""
    found = {}
    for _, at, size in _note_areas(executable):
        for note in _notes_in(executable.content, at, size):
            if note.kind == MODULE_NOTE_TYPE:
                found[note.at] = executable.content[note.description :][: note.size]
    try:
        return [str(json.loads(description)["name"]) for description in found.values()]
    except (ValueError, TypeError, KeyError) as error:
        raise Refused("what it says of its overrides is damaged; build it again") from error


def module_note(description: bytes) -> bytes:
    """The note that tells of an override module."""
    name = OWNER.ljust(_align4(len(OWNER)), b"\0")
    head = NOTE_HEAD.pack(len(OWNER), len(description), MODULE_NOTE_TYPE)
    return head + name + description.ljust(_align4(len(description)), b"\0")


def carried(executable: Executable) -> Carried | None:
    """What the executable carries, or None. Raises Refused if its note makes no sense."""
    found = _find_note(executable)
    if not found:
        return None
    note, address = found
    at, size = note.at, note.end - note.at
    description = executable.offset_of(address, NOTE.size)
    if description is None or size < NOTE_HEAD.size + _align4(len(OWNER)) + NOTE.size:
        raise Refused("its note is damaged; build it again")
    abi, aerokernel, core, core_size, crc32, kind, release, code = NOTE.unpack_from(
        executable.content, description
    )
    core_offset = executable.offset_of(address + CORE_FIELD + core, core_size)
    code_offset = executable.offset_of(address + CODE_FIELD + code, len(RETURN))
    if core_offset is None or code_offset is None or kind not in (LINKED, PACKED):
        raise Refused("its note is damaged; build it again")
    content = executable.content[core_offset : core_offset + core_size]
    return Carried(
        kind="packed" if kind == PACKED else "linked",
        abi_version=abi,
        aerokernel_version=aerokernel,
        release=release.split(b"\0")[0].decode(errors="replace"),
        note_offset=at,
        note_size=size,
        core_offset=core_offset,
        core_size=core_size,
        core_crc32=crc32,
        code_offset=code_offset,
        intact=zlib.crc32(content) == crc32,
    )


def strip(executable: Executable) -> bytes:
    """The executable without what it carries.

    A packed one becomes, byte for byte, what was packed. In a linked one the linker has put other
    things behind the core: the core's bytes and the note go, the code does nothing any more.
    Raises Refused if it carries nothing.
    """
    what = carried(executable)
    if what is None:
        raise Refused("carries nothing of Multiverse; nothing to take out")
    if not what.current:
        raise Refused(
            f"made for interface {what.abi_version}, this is {VERSION}; build it again without"
        )
    return _unpack(executable, what) if what.kind == "packed" else _blank(executable, what)


def _unpack(executable: Executable, what: Carried) -> bytes:
    content = executable.content
    head = content[what.code_offset : what.code_offset + PACKED_HEAD.size]
    if len(head) < PACKED_HEAD.size:
        raise Refused("truncated; pack it again")
    size, crc32, at = PACKED_HEAD.unpack(head)[5:8]
    header = content[at : at + ELF_HEADER_BYTES]
    original = b""
    if size <= what.code_offset and len(header) == ELF_HEADER_BYTES:
        (phoff,) = struct.unpack_from("<Q", header, 32)
        (phnum,) = struct.unpack_from("<H", header, 56)
        table = content[at + ELF_HEADER_BYTES :][: phnum * PHDR_BYTES]
        rest = content[ELF_HEADER_BYTES:phoff], content[phoff + len(table) : size]
        original = b"".join((header, rest[0], table, rest[1]))
    if zlib.crc32(original) != crc32:
        raise Refused("has been changed since it was packed; pack the original again")
    return original


def _blank(executable: Executable, what: Carried) -> bytes:
    content = bytearray(executable.content)
    core_end = what.core_offset + what.core_size
    content[what.core_offset : core_end] = bytes(what.core_size)
    # A note that says nothing, of nobody: notes of others may follow.
    size = what.note_size - NOTE_HEAD.size
    note = NOTE_HEAD.pack(0, size, 0) + bytes(size)
    content[what.note_offset : what.note_offset + what.note_size] = note
    content[what.code_offset : what.code_offset + len(RETURN)] = RETURN
    return bytes(content)


def holes(content: bytes) -> list[tuple[int, bytes]]:
    """The content as (offset, bytes) without pages of zeros, for a sparse file."""
    parts: list[tuple[int, bytes]] = []
    begin: int | None = None
    zero = bytes(PAGE)
    for at in range(0, len(content), PAGE):
        empty = content[at : at + PAGE] == zero
        if empty and begin is not None:
            parts.append((begin, content[begin:at]))
            begin = None
        elif not empty and begin is None:
            begin = at
    if begin is not None:
        parts.append((begin, content[begin:]))
    return parts
