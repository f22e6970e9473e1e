"""What lies at the addresses of a process, at one time or another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from multiverse.core import core_path
from multiverse.crash.raw import Mapping, Raw
from multiverse.crash.symbols import BROKEN, Binary, Symbolizer, readable
from multiverse.profile.raw import Range, RawProfile
from multiverse.profile.unwind import CallFrames, Rule

UPPER_HALF = 1 << 63


@dataclass(frozen=True, slots=True)
class Frame:
    """A function, as well as it is known.

    kind: file; jit: code in memory that no file is behind; aerokernel; unknown. found: the
    address only looks like a return address. symbol: what the file calls it, if that is mangled.
    """

    name: str
    module: str
    kind: str
    found: bool = False
    symbol: str | None = None


def _named(symbol: str, module: str, kind: str, found: bool) -> Frame:
    name = readable(symbol)
    return Frame(name, module, kind, found, symbol if symbol != name else None)


class Files:
    """ELF files, each opened once for all processes."""

    def __init__(self) -> None:
        self.binaries: dict[str, Binary | None] = {}
        self.call_frames: dict[str, CallFrames | None] = {}

    def frames(self, path: str) -> CallFrames | None:
        if path not in self.call_frames:
            binary = self.binaries.get(path)
            try:
                self.call_frames[path] = CallFrames(binary.file) if binary else None
            except BROKEN:
                self.call_frames[path] = None
        return self.call_frames[path]


class Names:
    """Names for the addresses of one process."""

    def __init__(self, raw: RawProfile, process: int, files: Files) -> None:
        self.files = files
        pid = next((p.pid for p in raw.processes if p.index == process), 0)
        self.snapshots: list[tuple[int, Symbolizer]] = []
        for tsc, mappings in raw.mappings.get(process, []):
            report = Raw(text={"core": str(core_path())}, number={"pid": pid}, mappings=mappings)
            symbols = Symbolizer(report)
            symbols.binaries = files.binaries
            self.snapshots.append((tsc, symbols))
        self.made = [r for r in raw.ranges if r.process == process and r.mapped]

    def _at(self, address: int, tsc: int) -> tuple[Symbolizer, Mapping] | None:
        """The mapping that an address lay in: by the first look after that time, else the last."""
        later = [s for when, s in self.snapshots if when >= tsc]
        earlier = [s for when, s in reversed(self.snapshots) if when < tsc]
        for symbols in (*later, *earlier):
            mapping = symbols.mapping(address)
            if mapping is not None:
                return symbols, mapping
        return None

    def rule(self, address: int, tsc: int) -> Rule | None:
        """How to unwind at an address, if its file says so."""
        at = self._at(address, tsc)
        if at is None or not at[1].path.startswith("/"):
            return None
        binary, where = self._in_file(at, address)
        frames = self.files.frames(at[1].path) if binary else None
        return frames.rule(where) if frames and where is not None else None

    @staticmethod
    def _in_file(at: tuple[Symbolizer, Mapping], address: int) -> tuple[Binary | None, int | None]:
        symbols, mapping = at
        binary = symbols.binary(mapping.path)
        if binary is None:
            return None, None
        return binary, binary.address_of(address - mapping.start + mapping.offset)

    def frame(self, address: int, tsc: int, found: bool = False) -> Frame:
        """The function that a call before this address was made in."""
        if address >= UPPER_HALF:
            return Frame("override module", "AeroKernel", "aerokernel")
        at = self._at(address - 1, tsc) if address else None
        if at is None:
            return Frame(f"{address:#x}" if address else "unknown", "", "unknown", found)
        symbols, mapping = at
        place = symbols.place(address, is_return=True)
        if not mapping.path.startswith("/"):
            if place is not None and place.symbol:
                kind = "file" if mapping.path.startswith("[v") else "jit"
                return _named(place.symbol, mapping.path or "JIT code", kind, found)
            if mapping.path.startswith("["):
                return Frame(mapping.path, mapping.path, "file", found)
            return Frame(f"JIT code {mapping.start:#x}", "JIT code", "jit", found)
        if place is not None and place.symbol:
            return _named(place.symbol, mapping.path, "file", found)
        binary, where = self._in_file(at, address - 1)
        frames = self.files.frames(mapping.path) if binary else None
        start = frames.start(where) if frames and where is not None else None
        name = PurePath(mapping.path).name
        if start is not None:
            return Frame(f"{name}+{start:#x}", mapping.path, "file", found)
        return Frame(name, mapping.path, "file", found)

    def memory(self, of: Range) -> str:
        """What kind of memory an event was about."""
        if of.kind == "merge":
            return f"window of {of.extent >> 20} MiB"
        if of.mapped:
            return "anonymous" if of.anonymous else self._mapped(of.address) or "file"
        known = self._mapped(of.address)
        if known is not None:
            return known
        for made in self.made:
            if made.address <= of.address < made.address + max(made.extent, 1):
                return "anonymous" if made.anonymous else "file"
        return "unmapped since"

    def _mapped(self, address: int) -> str | None:
        at = self._at(address, 0)
        if at is None:
            return None
        path = at[1].path
        if path == "[heap]":
            return "heap"
        if path.startswith("[stack"):
            return "stack"
        if path.startswith("/") and "memfd:" not in path and not path.startswith("/dev/zero"):
            return f"file {PurePath(path).name}"
        return path if path.startswith("[v") else "anonymous"
