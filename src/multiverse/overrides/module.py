"""Modules: relocatable objects with a note that says what they take over."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import UnionType
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from multiverse import __version__
from multiverse.overrides.errors import Place, Unusable
from multiverse.syscalls import NAMES
from multiverse.toolchain.elf import PARSER_ERRORS

NOTE_SECTION = ".note.multiverse.override"
OWNER = "Multiverse"
NOTE_TYPE = 2
SHN_UNDEF, SHN_ABS = 0, 0xFFF1
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
#: Relocations that the compiler makes of code for the top 2 GiB, by number: size, relative, signed.
RELOCATIONS = {
    1: (8, False, False), 2: (4, True, True), 4: (4, True, True), 10: (4, False, False),
    11: (4, False, True), 24: (8, True, False),
}  # fmt: skip
_RELA = struct.Struct("<QQq")


@dataclass(frozen=True)
class TakenCall:
    """A system call."""

    name: str
    nr: int
    symbol: str
    file: str
    line: int
    call: str
    when: str | None
    fallback: bool
    result: str
    prototype: str
    called: str
    channel: str = "auto"


@dataclass(frozen=True)
class TakenFunction:
    """A function that is taken over, or, without a symbol, one whose address is needed."""

    name: str
    symbol: str | None
    original: str | None
    library: str | None
    file: str
    line: int
    prototype: str
    call: str | None = None
    when: str | None = None
    fallback: bool = False
    result: str = "value"
    failure: str | None = None
    signal_safe: bool = True
    optional: bool = False
    new: bool = False
    called: str = ""
    uses: tuple[str, ...] = ()  # legacy functions that the sources can call on its behalf

    @property
    def place(self) -> Place:
        return Place(self.file, self.line)


def resolver(variable: str) -> str:
    """The variable for the resolver of an imported IFUNC, beside that for an imported function."""
    return f"{variable}_resolver"


@dataclass(frozen=True)
class Description:
    """What a module's note says."""

    name: str
    summary: str
    multiverse: str
    calls: tuple[TakenCall, ...]
    functions: tuple[TakenFunction, ...]
    inputs: tuple[tuple[str, str], ...] = ()  # files, and SHA-256 of what was in them
    sets: tuple[str, ...] = ()  # installed ones that go with it

    def note(self) -> bytes:
        return json.dumps(asdict(self)).encode()


T = TypeVar("T")


def _record(kind: type[T], data: Any) -> T:
    """A record of the note, whose fields have the types that they should."""
    hints = get_type_hints(kind)
    for name, value in data.items():
        wanted = get_args(hints[name]) if isinstance(hints[name], UnionType) else (hints[name],)
        if get_origin(hints[name]) is tuple:
            if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
                raise ValueError(name)
            data[name] = tuple(value)
        elif type(value) not in wanted:
            raise ValueError(name)
    return kind(**data)


def _description(note: bytes) -> Description:
    data = json.loads(note)
    if data["multiverse"] != __version__:
        raise Unusable(f"made by Multiverse {data['multiverse']}; build it again")
    calls = tuple(_record(TakenCall, call) for call in data.pop("calls"))
    functions = tuple(_record(TakenFunction, function) for function in data.pop("functions"))
    inputs = tuple((str(path), str(digest)) for path, digest in data.pop("inputs"))
    sets = data.pop("sets")
    if not isinstance(sets, list) or not all(isinstance(name, str) for name in sets):
        raise ValueError("sets")
    if any(call.nr not in NAMES for call in calls):
        raise ValueError("nr")
    about = {name: str(value) for name, value in data.items()}
    return Description(**about, calls=calls, functions=functions, inputs=inputs, sets=tuple(sets))


@dataclass
class Section:
    """A part of a module's memory."""

    index: int
    flags: int
    align: int
    size: int
    content: bytes  # empty: zeros
    relocations: bytes = b""

    @property
    def writable(self) -> bool:
        return bool(self.flags & SHF_WRITE)

    @property
    def executable(self) -> bool:
        return bool(self.flags & SHF_EXECINSTR)


@dataclass(frozen=True)
class Symbol:
    name: str
    section: int  # an index, SHN_UNDEF or SHN_ABS
    value: int
    size: int
    weak: bool


class Module:
    """An object file with its note. Raises Unusable if it is not one."""

    description: Description
    sections: dict[int, Section]
    symbols: list[Symbol]

    @classmethod
    def without_code(cls, description: Description) -> Self:
        """A module that takes nothing over by itself."""
        module = cls.__new__(cls)
        module.description, module.sections, module.symbols = description, {}, []
        return module

    def __init__(self, content: bytes) -> None:
        try:
            self._read(ELFFile(io.BytesIO(content)))
        except (
            ELFError, ConstructError, struct.error, IndexError, RecursionError, *PARSER_ERRORS
        ) as error:  # fmt: skip
            raise Unusable("not an override module; build it with multiverse override") from error

    def _read(self, elf: Any) -> None:
        if elf.header.e_machine != "EM_X86_64" or elf.header.e_type != "ET_REL":
            raise Unusable("not an override module; build it with multiverse override")
        note = elf.get_section_by_name(NOTE_SECTION)
        notes = list(note.iter_notes()) if note else []
        if not notes or notes[0]["n_name"] != OWNER:
            raise Unusable("has no note of Multiverse; build it with multiverse override")
        described = notes[0]["n_desc"]
        self.description = _description(
            described.encode("latin-1") if isinstance(described, str) else bytes(described)
        )
        self.sections, self.symbols = {}, []
        for index, section in enumerate(elf.iter_sections()):
            kind, flags = section["sh_type"], section["sh_flags"]
            if kind in ("SHT_PROGBITS", "SHT_NOBITS") and flags & SHF_ALLOC:
                data = b"" if kind == "SHT_NOBITS" else section.data()
                align, size = section["sh_addralign"] or 1, section["sh_size"]
                if align & (align - 1) or align > 4096 or (data and len(data) != size):
                    raise Unusable("damaged; build it again")
                self.sections[index] = Section(index, flags, align, size, data)
            elif kind == "SHT_SYMTAB":
                self.symbols = [self._symbol(symbol) for symbol in section.iter_symbols()]
        for section in elf.iter_sections():
            if section["sh_type"] == "SHT_RELA" and section["sh_info"] in self.sections:
                self.sections[section["sh_info"]].relocations = section.data()

    @staticmethod
    def _symbol(symbol: Any) -> Symbol:
        where = symbol["st_shndx"]
        index = {"SHN_UNDEF": SHN_UNDEF, "SHN_ABS": SHN_ABS}.get(where, where)
        if not isinstance(index, int):
            raise Unusable("has a symbol in no section; build it again")
        return Symbol(
            symbol.name,
            index,
            symbol["st_value"],
            symbol["st_size"],
            symbol["st_info"]["bind"] == "STB_WEAK",
        )

    def undefined(self) -> list[str]:
        """Names that are needed and not there."""
        return [s.name for s in self.symbols if s.section == SHN_UNDEF and s.name and not s.weak]

    def relocations(self, section: Section) -> Iterator[tuple[int, int, Symbol, int]]:
        """Offset, kind, symbol and addend. Raises Unusable for those that do not make sense."""
        for offset, info, addend in _RELA.iter_unpack(section.relocations):
            kind, number = info & 0xFFFFFFFF, info >> 32
            if kind not in RELOCATIONS:
                raise Unusable(
                    f"needs what cannot be relocated (kind {kind}); thread-local variables and"
                    " -fPIC are not for modules"
                )
            if number >= len(self.symbols) or offset + RELOCATIONS[kind][0] > section.size:
                raise Unusable("damaged; build it again")
            yield offset, kind, self.symbols[number], addend

    def reaches(self, names: set[str]) -> dict[str, set[str]]:
        """Which of `names` the code of each function can get at, over any number of calls."""
        homes: dict[int, list[Symbol]] = {}
        for symbol in self.symbols:
            if symbol.name and symbol.section in self.sections:
                homes.setdefault(symbol.section, []).append(symbol)

        def at(section: int, offset: int) -> set[str]:
            here = homes.get(section, [])
            return {s.name for s in here if s.value <= offset < s.value + max(s.size, 1)}

        direct: dict[str, set[str]] = {}
        for section in self.sections.values():
            for offset, kind, symbol, addend in self.relocations(section):
                distance = addend + 4 if RELOCATIONS[kind][1] else addend
                # A section's own symbol has no name: what is meant is at the addend.
                to = {symbol.name} if symbol.name else at(symbol.section, distance)
                for name in at(section.index, offset):
                    direct.setdefault(name, set()).update(to)
        return {name: self._closure(name, direct) & names for name in direct}

    @staticmethod
    def _closure(name: str, direct: dict[str, set[str]]) -> set[str]:
        seen: set[str] = set()
        left = [name]
        while left:
            for nearer in direct.get(left.pop(), set()) - seen:
                seen.add(nearer)
                left.append(nearer)
        return seen
