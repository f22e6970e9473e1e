"""Making a fat binary of an existing executable, without compiler and linker.

What is added goes to the end of the file, as one more segment, and the ELF header points to new
program headers and a new entry point there. Nothing else changes, so that it can be undone.
"""

from __future__ import annotations

from typing import Any

from multiverse.core import core_path
from multiverse.toolchain.elf import ELF_HEADER_BYTES, PAGE, PHDR_BYTES, Executable, Refused
from multiverse.toolchain.fat import PACKED_HEAD, carried

ALIGNMENT = 64  # of the core
ORIGINAL_ENTRY = 24  # offset in struct mv_fat_packed of what its distance is counted from
SEGMENTS_MAX = 62  # two more, and the core's loader takes no more
DF_1_PIE = 0x08000000


def _align(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment


def _is_program(executable: Executable) -> bool:
    """A shared library is ET_DYN as position-independent programs are."""
    if executable.header.e_type == "ET_EXEC":
        return True
    if any(segment.p_type == "PT_INTERP" for segment in executable.segments):
        return True
    for segment in executable.elf.iter_segments("PT_DYNAMIC"):
        for tag in segment.iter_tags("DT_FLAGS_1"):
            return bool(tag.entry.d_val & DF_1_PIE)
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


def pack(executable: Executable) -> bytes:
    """The fat binary. Raises Refused for what cannot be one, OSError if the core is not there."""
    _check(executable)
    added = bytearray(core_path().with_name("fat-packed.bin").read_bytes())
    entry, note, note_end, *_ = PACKED_HEAD.unpack_from(added)
    size = len(executable.content)
    first = executable.loads[0]
    # Before Linux 5.18 the program is told that its program headers lie as far from its first
    # segment as they do in the file. So addresses and offsets have to keep in step.
    delta = first.p_vaddr - first.p_offset
    end = max(load.p_vaddr + load.p_memsz for load in executable.loads)
    address = max(_align(end, PAGE), delta + _align(size, PAGE))
    offset = address - delta
    headers_size = (len(executable.segments) + 2) * PHDR_BYTES
    head = _align(headers_size, ALIGNMENT)
    field = address + head + ORIGINAL_ENTRY
    PACKED_HEAD.pack_into(
        added,
        0,
        entry,
        note,
        note_end,
        executable.header.e_entry - field,
        size,
        executable.header.e_phoff,
        executable.header.e_phnum,
    )
    total = head + len(added)
    load = {
        "p_type": "PT_LOAD",
        "p_flags": 5,  # readable, executable
        "p_offset": offset,
        "p_vaddr": address,
        "p_paddr": address,
        "p_filesz": total,
        "p_memsz": total,
        "p_align": PAGE,
    }
    at = head + note
    own_note = {
        "p_type": "PT_NOTE",
        "p_flags": 4,
        "p_offset": offset + at,
        "p_vaddr": address + at,
        "p_paddr": address + at,
        "p_filesz": note_end - note,
        "p_memsz": note_end - note,
        "p_align": 4,
    }
    table = _headers(executable, offset, address, headers_size, load, own_note)
    header = executable.build_header(
        e_entry=address + head + entry, e_phoff=offset, e_phnum=len(executable.segments) + 2
    )
    body = header + executable.content[ELF_HEADER_BYTES:] + bytes(offset - size)
    return body + table + bytes(head - len(table)) + bytes(added)


def _headers(
    executable: Executable,
    offset: int,
    address: int,
    size: int,
    load: dict[str, Any],
    note: dict[str, Any],
) -> bytes:
    """The program headers, with the new segment behind the others of its kind."""
    table = []
    last_load = max(i for i, s in enumerate(executable.segments) if s.p_type == "PT_LOAD")
    template = executable.segments[0]
    for i, segment in enumerate(executable.segments):
        moved = {"p_offset": offset, "p_vaddr": address, "p_paddr": address}
        own = {**moved, "p_filesz": size, "p_memsz": size} if segment.p_type == "PT_PHDR" else {}
        table.append(executable.build_segment(segment, **own))
        if i == last_load:
            table.append(executable.build_segment(template, **load))
    table.append(executable.build_segment(template, **note))
    return b"".join(table)
