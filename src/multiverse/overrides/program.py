"""The files that a program consists of, and the functions in them."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError

from multiverse.overrides.errors import Unusable
from multiverse.overrides.loading import libraries, past_scripts
from multiverse.toolchain.elf import PARSER_ERRORS, Executable, Refused

_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym
STB_LOCAL, STT_FUNC, STT_GNU_IFUNC = 0, 2, 10


@dataclass(frozen=True)
class Function:
    """Of a file: where it is, in bytes of the file."""

    name: str
    address: int
    size: int  # 0: not known
    indirect: bool  # an IFUNC: this is its resolver, which chooses the function


class Symbols:
    """A symbol table, which may be large: few of its names are looked at."""

    def __init__(self, elf: Any, table: str, versions: str | None) -> None:
        """Raises what pyelftools raises for damaged files."""
        section = elf.get_section_by_name(table)
        self._strings: bytes = elf.get_section(section["sh_link"]).data() if section else b""
        content = section.data() if section else b""
        self._rows = list(_SYMBOL.iter_unpack(content[: len(content) // 24 * 24]))
        version = elf.get_section_by_name(versions) if versions else None
        self._versions: bytes = version.data() if version else b""

    def _named(self, name: str) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Index and content of the symbols of that name."""
        wanted = name.encode() + b"\0"
        places = set()
        at = self._strings.find(wanted)
        while at >= 0:
            places.add(at)
            at = self._strings.find(wanted, at + 1)
        if places:
            yield from ((i, row) for i, row in enumerate(self._rows) if row[0] in places)

    def function(self, name: str) -> Function | None:
        """The function with the default version; a local one if there is no other."""
        found: Function | None = None
        for i, (_, info, _, section, value, size) in self._named(name):
            kind, local = info & 15, info >> 4 == STB_LOCAL
            # The highest bit of a version says that it is not the default one.
            hidden = self._versions[2 * i + 1 : 2 * i + 2] >= b"\x80"
            if section == 0 or kind not in (STT_FUNC, STT_GNU_IFUNC) or hidden:
                continue
            if not local or not found:
                found = Function(name, value, size, kind == STT_GNU_IFUNC)
            if not local:
                break
        return found

    def needs(self, name: str) -> bool:
        """Whether another file has to have it."""
        return any(row[3] == 0 for _, row in self._named(name))

    def names(self) -> set[str]:
        """All functions."""
        places = (row[0] for row in self._rows if row[3] and row[1] & 15 == STT_FUNC)
        strings = self._strings
        return {strings[at : strings.find(b"\0", at)].decode(errors="replace") for at in places}


class File:
    """An ELF file of the program. Raises Unusable if it cannot be read."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                self.status = os.fstat(file.fileno())
                self.executable = Executable(file.read())
        except OSError as error:
            raise Unusable(f"{path}: {error.strerror}; check the file") from None
        except Refused as error:
            raise Unusable(f"{path}: {error}") from None

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def interpreter(self) -> str | None:
        for segment in self.executable.segments:
            if segment.p_type == "PT_INTERP":
                content = self.executable.content
                text = content[segment.p_offset : segment.p_offset + segment.p_filesz]
                return os.fsdecode(text.split(b"\0")[0])
        return None

    def names(self, path: str) -> bool:
        """Whether `library` in a TOML file means this one: a path, or the file's name."""
        if "/" in path:
            return os.path.exists(path) and os.path.samestat(os.stat(path), self.status)
        return path in (self.name, self.soname)

    @cached_property
    def soname(self) -> str | None:
        with self._sound():
            for segment in self.executable.elf.iter_segments("PT_DYNAMIC"):
                for tag in segment.iter_tags("DT_SONAME"):
                    return str(tag.soname)
        return None

    @cached_property
    def dynamic(self) -> Symbols:
        """What other files can use, and what it needs of them. Raises Unusable."""
        with self._sound():
            return Symbols(self.executable.elf, ".dynsym", ".gnu.version")

    @cached_property
    def static(self) -> Symbols:
        """The symbol table that strip(1) takes away. Raises Unusable."""
        with self._sound():
            return Symbols(self.executable.elf, ".symtab", None)

    @contextlib.contextmanager
    def _sound(self) -> Iterator[None]:
        try:
            yield
        except (ELFError, ConstructError, IndexError, *PARSER_ERRORS):
            raise Unusable(f"{self.path}: its sections are damaged; build it again") from None

    def offset(self, function: Function) -> int:
        """Where in the file a function begins. Raises Unusable if it is not in it."""
        for load in self.executable.loads:
            if load.p_vaddr <= function.address < load.p_vaddr + load.p_filesz and load.p_flags & 1:
                return int(load.p_offset + function.address - load.p_vaddr)
        raise Unusable(f"{self.path}: {function.name} is not code in it; the file is damaged")

    def code(self, function: Function, size: int) -> bytes:
        at = self.offset(function)
        return self.executable.content[at : at + size]


@dataclass(frozen=True)
class Found:
    file: File
    function: Function


class Program:
    """A program's files, in the order in which the dynamic linker looks for symbols."""

    def __init__(self, path: str) -> None:
        path = past_scripts(path)
        first = File(path)
        self.path = path
        self.files = [first]
        interpreter = first.interpreter
        if interpreter:
            self.files += [File(library) for library in libraries(interpreter, path)]

    def find(self, name: str, library: str | None) -> Found | None:
        """The definition that the program's calls reach; of `library` if that is given.

        A library that is not loaded at the start is given by its path.
        Raises Unusable if the library is not one of the program's.
        """
        files = self.files
        if library is not None:
            files = [file for file in files if file.names(library)]
            if not files and "/" in library:
                files = [File(os.path.realpath(library))]
            if not files:
                loaded = ", ".join(file.name for file in self.files)
                raise Unusable(f"{self.path} does not load {library}; it loads {loaded}")
        for file in files:
            function = file.dynamic.function(name)
            if function:
                return Found(file, function)
        for file in files:
            function = file.static.function(name)
            if function:
                return Found(file, function)
        return None

    def defined(self) -> set[str]:
        return {name for file in self.files for name in file.dynamic.names()}

    def uses(self, name: str) -> bool:
        """Whether a file needs the function of another one, or is the program and has it."""
        own = self.files[0]
        return (
            any(file.dynamic.needs(name) for file in self.files)
            or own.dynamic.function(name) is not None
            or own.static.function(name) is not None
        )
