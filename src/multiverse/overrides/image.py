"""The blob that the core gets: modules as one image, and what of the program they take over."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cffi

from multiverse.core import core_header
from multiverse.overrides.errors import Unusable
from multiverse.overrides.module import (
    RELOCATIONS,
    SHN_ABS,
    SHN_UNDEF,
    Module,
    Section,
    Symbol,
    TakenFunction,
    resolver,
)
from multiverse.overrides.program import File, Found

if TYPE_CHECKING:
    from multiverse.overrides.patch import Beginning

PAGE = 4096
BEHIND = 32  # bytes of code behind a function that it may be necessary to know
AK_BASE = 0xFFFFFFFF80000000


def _align(value: int, to: int) -> int:
    return (value + to - 1) & ~(to - 1)


def _mib(size: int) -> int:
    return _align(size, 1 << 20) >> 20


def place() -> int:
    """The address of the image: AK_MODULES."""
    return AK_BASE + _interface()["MV_OVERRIDE_PLACE"]


class Image:
    """Modules placed one behind the other: code, constants, then data. Raises Unusable."""

    def __init__(self, modules: Sequence[Module], base: int) -> None:
        self.base = base
        self.modules = modules
        self.places: list[dict[int, int]] = [{} for _ in modules]
        at = base
        for wanted in (_code, _constants):
            at = self._place(wanted, at)
        self.text_size = _align(at - base, PAGE)
        end = self._place(_data, base + self.text_size)
        self.data_size = _align(end - base, PAGE) - self.text_size
        size, most = self.text_size + self.data_size, _interface()["MV_OVERRIDE_IMAGE_MAX"]
        if size > most:
            raise Unusable(
                f"the modules need {_mib(size)} MiB, {_mib(most)} MiB are there; use fewer"
            )
        self.content = bytearray(self.text_size + self.data_size)
        for number, module in enumerate(modules):
            for section in module.sections.values():
                start = self.places[number][section.index] - base
                self.content[start : start + len(section.content)] = section.content
            for section in module.sections.values():
                self._relocate(number, section)

    def _place(self, wanted: Any, at: int) -> int:
        for number, module in enumerate(self.modules):
            for section in module.sections.values():
                if wanted(section):
                    at = _align(at, section.align)
                    self.places[number][section.index] = at
                    at += section.size
        return at

    def _value(self, number: int, symbol: Symbol) -> int:
        if symbol.section == SHN_UNDEF:
            if symbol.weak:
                return 0
            raise Unusable(f"needs {symbol.name}, which is not there; build it again")
        if symbol.section == SHN_ABS:
            return symbol.value
        place = self.places[number].get(symbol.section)
        if place is None:
            raise Unusable("damaged; build it again")
        return place + symbol.value

    def _relocate(self, number: int, section: Section) -> None:
        start = self.places[number][section.index]
        for offset, kind, symbol, addend in self.modules[number].relocations(section):
            size, relative, signed = RELOCATIONS[kind]
            value = self._value(number, symbol) + addend
            if relative:
                value -= start + offset
            low, high = (-(1 << 31), 1 << 31) if signed and size == 4 else (0, 1 << (8 * size))
            if size == 4 and signed and not relative:
                value = (value + (1 << 63)) % (1 << 64) - (1 << 63)
            if size == 8:
                value %= 1 << 64
            if not low <= value < high:
                raise Unusable(f"{symbol.name or 'a section'} is out of reach; build it again")
            at = start + offset - self.base
            self.content[at : at + size] = (value % (1 << (8 * size))).to_bytes(size, "little")

    def address(self, number: int, name: str) -> int:
        for symbol in self.modules[number].symbols:
            if symbol.name == name and symbol.section != SHN_UNDEF:
                return self._value(number, symbol)
        raise Unusable("damaged; build it again")


def _code(section: Section) -> bool:
    return section.executable and not section.writable


def _constants(section: Section) -> bool:
    return not section.executable and not section.writable


def _data(section: Section) -> bool:
    return section.writable


@functools.cache
def _interface() -> Mapping[str, int]:
    """The constants in core/abi/override.h."""
    text = core_header("override.h")
    return {name: int(value, 0) for name, value in re.findall(r"(MV_\w+) = (\w+),", text)}


@dataclasses.dataclass(frozen=True)
class Taken:
    """A function of a module, and where it is in the program."""

    module: int
    function: TakenFunction
    found: Found

    def beginning(self) -> Beginning:
        """Raises Unusable."""
        # Late: the disassembler takes longer to import than everything else.
        from multiverse.overrides.patch import beginning

        file, function = self.found.file, self.found.function
        code = file.code(function, function.size + BEHIND)
        return beginning(code, function.size, function.address)


def assemble(modules: Sequence[Module], taken: Sequence[Taken]) -> bytes:
    """The blob (core/abi/override.h). Raises Unusable."""
    limits = _interface()
    image = Image(modules, place())
    ffi: Any = cffi.FFI()
    ffi.cdef(core_header("override.h"))
    files = list({id(t.found.file): t.found.file for t in taken}.values())
    calls = [
        {
            "nr": call.nr,
            "exits": call.channel == "async",
            "wrapper": image.address(i, call.symbol),
        }
        for i, module in enumerate(modules)
        for call in module.description.calls
    ]
    tables = [
        ffi.new("struct mv_override_call[]", calls),
        ffi.new("struct mv_override_file[]", [_file(file) for file in files]),
        ffi.new("struct mv_override_function[]", [_function(image, t, files) for t in taken]),
    ]
    head = ffi.new("struct mv_override *")
    head.magic, head.version = limits["MV_OVERRIDE_MAGIC"], limits["MV_OVERRIDE_VERSION"]
    head.text_size, head.data_size = image.text_size, image.data_size
    body = b""
    at = ffi.sizeof("struct mv_override")
    for name, table in zip(("call", "file", "function"), tables, strict=True):
        setattr(head, f"{name}s", len(table))
        setattr(head, f"{name}_table", at + len(body))
        body += bytes(ffi.buffer(table))
    head.image = _align(at + len(body), PAGE)
    head.size = head.image + len(image.content)
    body += bytes(head.image - at - len(body))
    return bytes(ffi.buffer(head)) + body + bytes(image.content)


def _file(file: File) -> dict[str, int]:
    status = file.status
    return {
        "device": status.st_dev,
        "inode": status.st_ino,
        "size": status.st_size,
        "modified": status.st_mtime_ns,
    }


def _function(image: Image, taken: Taken, files: Sequence[File]) -> dict[str, Any]:
    function, found = taken.function, taken.found
    entry: dict[str, Any] = {
        "file": next(i for i, file in enumerate(files) if file is found.file),
        "offset": found.file.offset(found.function),
    }
    if function.original:
        called = not function.symbol and found.function.indirect
        variable = resolver(function.original) if called else function.original
        entry["original"] = image.address(taken.module, variable)
    if function.symbol:
        replaced = taken.beginning()
        entry["wrapper"] = image.address(taken.module, function.symbol)
        entry["length"] = len(replaced.code)
        entry["bytes"] = replaced.code
        entry["moved"] = replaced.moved
        entry["moved_length"] = len(replaced.moved)
        entry["indirect"] = found.function.indirect
        entry["displacement"] = [at for at, _ in replaced.displacements]
        entry["end"] = [end for _, end in replaced.displacements]
    return entry
