"""Making a fat binary of an existing executable, without compiler and linker.

What is added goes behind everything else, as one more segment, and the entry point moves there. A
segment needs a program header, and there is no room for one more; but linkers for x86-64 describe
the GNU property note twice, as PT_NOTE and as PT_GNU_PROPERTY, and the first is what loaders only
look at where the second is missing. Where it is, that one is used. Otherwise all program headers
move, too.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from multiverse.core import core_path
from multiverse.toolchain.elf import ELF_HEADER_BYTES, PAGE, PHDR_BYTES, Executable, Refused
from multiverse.toolchain.fat import PACKED_HEAD, PACKED_MAGIC, carried

ALIGNMENT = 64  # of the core
ORIGINAL_ENTRY = 32  # offset in struct mv_fat_packed of what its distance is counted from
SEGMENTS_MAX = 62  # two more, and the core's loader takes no more
SECTIONS_MAX = 0xFF00 - 2
DYNAMIC = struct.Struct("<QQ")
DT_FLAGS_1, DF_1_PIE = 0x6FFFFFFB, 0x08000000
SECTION = struct.Struct("<IIQQQQIIQQ")
SHT_PROGBITS, SHT_NOTE = 1, 7
SHF_ALLOC, SHF_EXECINSTR = 2, 4


def _align(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment


def _is_program(executable: Executable) -> bool:
    """A shared library is ET_DYN as position-independent programs are."""
    if executable.header.e_type == "ET_EXEC":
        return True
    if any(segment.p_type == "PT_INTERP" for segment in executable.segments):
        return True
    for segment in executable.segments:
        if segment.p_type == "PT_DYNAMIC":
            size = segment.p_filesz // DYNAMIC.size * DYNAMIC.size
            table = executable.content[segment.p_offset :][:size]
            flags = [value for tag, value in DYNAMIC.iter_unpack(table) if tag == DT_FLAGS_1]
            return any(value & DF_1_PIE for value in flags)
    return False


def _check(executable: Executable) -> None:
    if not _is_program(executable):
        raise Refused("a shared library; give a program")
    if not executable.header.e_entry:
        raise Refused("has no entry point; give a program")
    if carried(executable):
        raise Refused("is a fat binary already; multiverse strip takes out what it carries")
    if len(executable.segments) > SEGMENTS_MAX:
        raise Refused(f"has more than {SEGMENTS_MAX} program headers")


def pack(executable: Executable, modules: bytes = b"", notes: bytes = b"") -> bytes:
    """The fat binary. Raises Refused for what cannot be one, OSError if the core is not there.

    modules: a blob of override modules (core/abi/override.h); notes: what tells of them.
    """
    _check(executable)
    added = bytearray(core_path().with_name("fat-packed.bin").read_bytes())
    _, entry, note, *_ = PACKED_HEAD.unpack_from(added)
    added += notes
    note_end = len(added)
    added += bytes(-len(added) % ALIGNMENT)
    modules_at = len(added) if modules else 0
    added += modules
    size = len(executable.content)
    end = max(load.p_vaddr + load.p_memsz for load in executable.loads)
    spare = _spare_header(executable)
    if spare is not None:
        head = table_size = 0
        address, offset = _align(end, PAGE), _align(size, PAGE)
    else:
        # Before Linux 5.18 the program is told that its program headers lie as far from its first
        # segment as they do in the file. So addresses and offsets have to keep in step.
        first = executable.loads[0]
        delta = first.p_vaddr - first.p_offset
        table_size = (len(executable.segments) + 2) * PHDR_BYTES
        head = _align(table_size, PAGE)
        address = max(_align(end, PAGE), delta + _align(size, PAGE))
        offset = address - delta
    at, file_at = address + head, offset + head
    original_header = file_at + len(added)
    PACKED_HEAD.pack_into(
        added,
        0,
        PACKED_MAGIC,
        entry,
        note,
        note_end,
        executable.header.e_entry - at - ORIGINAL_ENTRY,
        size,
        zlib.crc32(executable.content),
        original_header,
        modules_at,
        len(modules),
    )
    load = _segment("PT_LOAD", 5, offset, address, head + len(added), PAGE)
    changes = {"e_entry": at + entry}
    if spare is not None:
        table = _headers_in_place(executable, spare, load)
    else:
        own_note = _segment("PT_NOTE", 4, file_at + note, at + note, note_end - note, 4)
        table = _headers_moved(executable, offset, address, table_size, load, own_note)
        changes |= {"e_phoff": offset, "e_phnum": len(executable.segments) + 2}
    phoff = executable.header.e_phoff
    original_table = executable.content[phoff : phoff + len(executable.segments) * PHDR_BYTES]

    body = bytearray(executable.content)
    if spare is not None:
        body[phoff : phoff + len(table)] = table
        table = b""
    body += bytes(offset - size) + table + bytes(head - len(table)) + added
    body += executable.content[:ELF_HEADER_BYTES] + original_table
    changes |= _add_sections(
        executable,
        body,
        (".multiverse", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, at, file_at, note, ALIGNMENT),
        (".note.multiverse", SHT_NOTE, SHF_ALLOC, at + note, file_at + note, note_end - note, 4),
    )
    body[:ELF_HEADER_BYTES] = executable.build_header(**changes)
    return bytes(body)


def _segment(
    kind: str, flags: int, offset: int, address: int, size: int, alignment: int
) -> dict[str, Any]:
    return {
        "p_type": kind,
        "p_flags": flags,
        "p_offset": offset,
        "p_vaddr": address,
        "p_paddr": address,
        "p_filesz": size,
        "p_memsz": size,
        "p_align": alignment,
    }


def _spare_header(executable: Executable) -> int | None:
    """The number of a program header that says what another says, too."""
    properties = [s.p_offset for s in executable.segments if s.p_type == "PT_GNU_PROPERTY"]
    for i, segment in enumerate(executable.segments):
        if segment.p_type == "PT_NOTE" and segment.p_offset in properties:
            same = executable.segments
            if any(s.p_type != "PT_NOTE" and s.p_filesz == segment.p_filesz for s in same):
                return i
    return None


def _last_load(executable: Executable) -> int:
    return max(i for i, s in enumerate(executable.segments) if s.p_type == "PT_LOAD")


def _headers_in_place(executable: Executable, spare: int, load: dict[str, Any]) -> bytes:
    """As many program headers as before, with the new segment behind the others of its kind."""
    last_load = _last_load(executable)
    table = []
    for i, segment in enumerate(executable.segments):
        if i != spare:
            table.append(executable.build_segment(segment))
        if i == last_load:
            table.append(executable.build_segment(segment, **load))
    return b"".join(table)


def _headers_moved(
    executable: Executable,
    offset: int,
    address: int,
    size: int,
    load: dict[str, Any],
    note: dict[str, Any],
) -> bytes:
    """The program headers at another place, with two more."""
    last_load = _last_load(executable)
    table = []
    for i, segment in enumerate(executable.segments):
        moved = {"p_offset": offset, "p_vaddr": address, "p_paddr": address}
        own = {**moved, "p_filesz": size, "p_memsz": size} if segment.p_type == "PT_PHDR" else {}
        table.append(executable.build_segment(segment, **own))
        if i == last_load:
            table.append(executable.build_segment(segment, **load))
    table.append(executable.build_segment(executable.segments[0], **note))
    return b"".join(table)


def _add_sections(
    executable: Executable, body: bytearray, *sections: tuple[str, int, int, int, int, int, int]
) -> dict[str, int]:
    """Append a section table that names what has been added, so that tools that write files keep
    it. Returns what changes in the ELF header: nothing where there are no sections."""
    header = executable.header
    count, index, size = header.e_shnum, header.e_shstrndx, SECTION.size
    table_end = header.e_shoff + count * size
    usable = 0 < index < count <= SECTIONS_MAX and header.e_shentsize == size
    if not usable or table_end > len(executable.content):
        return {}
    old = executable.content[header.e_shoff : table_end]
    table = [list(entry) for entry in SECTION.iter_unpack(old)]
    names = executable.content[table[index][4] : table[index][4] + table[index][5]]
    for name, kind, flags, address, offset, length, alignment in sections:
        table.append([len(names), kind, flags, address, offset, length, 0, 0, alignment, 0])
        names += name.encode() + b"\0"
    table[index][4:6] = len(body), len(names)
    body += names
    body += bytes(-len(body) % 8)
    start = len(body)
    for entry in table:
        body += SECTION.pack(*entry)
    return {"e_shoff": start, "e_shnum": len(table)}
