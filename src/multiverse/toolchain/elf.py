"""Executables as bytes: headers read and written through pyelftools, everything checked."""

from __future__ import annotations

import io
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

# What else pyelftools raises where headers lead nowhere.
PARSER_ERRORS = (ValueError, KeyError, AttributeError, TypeError, OverflowError)
PAGE = 4096
ELF_HEADER_BYTES = 64
PHDR_BYTES = 56


class Refused(Exception):
    """The file is not one for us; the message says why, and what to do."""


class Executable:
    """An x86-64 executable: its content, ELF header and program headers.

    Raises Refused for everything else.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        if content[:2] == b"#!":
            raise Refused("a script; give its interpreter")
        if content[:4] != b"\x7fELF":
            raise Refused("not an ELF file; give an executable")
        try:
            self.elf: Any = ELFFile(io.BytesIO(content))
            self.header: Any = self.elf.header
            if self.elf.elfclass != 64 or self.header.e_machine != "EM_X86_64":
                raise Refused("not for x86-64; give an x86-64 executable")
            if self.header.e_type not in ("ET_EXEC", "ET_DYN"):
                raise Refused("not an executable; link it first")
            table_end = self.header.e_phoff + self.header.e_phnum * PHDR_BYTES
            if self.header.e_phentsize != PHDR_BYTES or table_end > len(content):
                raise Refused("its program headers are damaged; build it again")
            table = content[self.header.e_phoff : table_end]
            parse = self.elf.structs.Elf_Phdr.parse
            self.segments: list[Any] = [
                parse(table[at : at + PHDR_BYTES]) for at in range(0, len(table), PHDR_BYTES)
            ]
        except (ELFError, ConstructError, *PARSER_ERRORS) as error:
            raise Refused("its headers are damaged; build it again") from error
        for segment in self.segments:
            if segment.p_offset + segment.p_filesz > len(content):
                raise Refused("truncated; build it again")
        if not self.loads:
            raise Refused("nothing in it is loaded; give an executable")

    @property
    def loads(self) -> list[Any]:
        return [segment for segment in self.segments if segment.p_type == "PT_LOAD"]

    def offset_of(self, address: int, size: int) -> int | None:
        """Where in the file `size` bytes at a virtual address are; None if they are not."""
        for load in self.loads:
            if load.p_vaddr <= address and address + size <= load.p_vaddr + load.p_filesz:
                return int(load.p_offset + address - load.p_vaddr)
        return None

    def build_header(self, **changes: int) -> bytes:
        """The ELF header with some fields changed."""
        return self._build(self.elf.structs.Elf_Ehdr, self.header, changes)

    def build_segment(self, segment: Any, **changes: Any) -> bytes:
        """A program header with some fields changed."""
        return self._build(self.elf.structs.Elf_Phdr, segment, changes)

    @staticmethod
    def _build(structure: Any, container: Any, changes: dict[str, Any]) -> bytes:
        before = {name: container[name] for name in container}
        container.update(changes)
        built: bytes = structure.build(container)
        container.update(before)
        return built
