"""Names for addresses: files that were mapped, the AeroKernel, the core, what a JIT has told."""

from __future__ import annotations

import bisect
import functools
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from multiverse.crash.raw import Mapping, Raw

SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym: name, info, other, shndx, value, size
STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC = 0, 2, 10
SHF_EXECINSTR = 4
TABLE_BYTES_MAX = 64 << 20
PERF_MAP_BYTES_MAX = 64 << 20
FAR = 1 << 16  # a symbol without a size names nothing further behind it
PAGE = 4096
AEROKERNEL_MEMORY = 64 << 20  # what its view of page tables shows
SHARED_PAGES = ("entry page", "vector page", "IDT", "control page")
WINDOW_PAGES = (
    "entry page", "frame, trap and slots", "doorbell", "GDT and TSS", "IST stacks", "stack",
)  # fmt: skip
IMAGE = "aerokernel.elf"  # beside the core
HANDLERS_CALLER = "ak_upcall"  # its frame pointer's frame has the address of the fault
MANGLED = ("itanium", "rust")  # C++ and older Rust; Rust
DEBUG_FILES = Path("/usr/lib/debug/.build-id")

# What reading a file may raise whose content is anyone's.
BROKEN = (OSError, ELFError, ValueError, KeyError, IndexError, struct.error, OverflowError,
          AttributeError, TypeError, UnicodeError, AssertionError, MemoryError)  # fmt: skip


@functools.cache
def readable(symbol: str) -> str:
    """What C++ and Rust call a function whose symbol is mangled; else the symbol as it is.

    It does not get out of hand for symbols that are made to.
    """
    import demangle  # late: few need it, and it takes some time

    return demangle.demangle(symbol, language=MANGLED)


@dataclass(frozen=True, slots=True)
class Place:
    """What lies at an address. module: a file's path, or words; symbol: a function, if known."""

    address: int
    module: str
    symbol: str | None
    offset: int  # behind the symbol; without one, behind the module's beginning

    @property
    def name(self) -> str | None:
        """The symbol, readable."""
        return readable(self.symbol) if self.symbol else None

    def __str__(self) -> str:
        name = f"{self.name}+{self.offset:#x}" if self.symbol else f"+{self.offset:#x}"
        return f"{name} ({self.module})" if self.symbol else f"{self.module}{name}"


class Table:
    """Symbols by address."""

    def __init__(self, symbols: list[tuple[int, int, str]]) -> None:
        """symbols: value, size, name."""
        self.symbols = sorted(symbols)
        self.values = [value for value, _, _ in self.symbols]

    def find(self, address: int) -> tuple[str, int] | None:
        """The function that an address lies in, and how far."""
        at = bisect.bisect_right(self.values, address)
        for value, size, name in reversed(self.symbols[max(0, at - 8) : at]):
            if address - value < (size or FAR):
                return name, address - value
        return None


def _symbols(elf: Any, name: str) -> Iterator[tuple[int, int, str]]:
    section = elf.get_section_by_name(name)
    if section is None or section["sh_size"] > TABLE_BYTES_MAX:
        return
    names = elf.get_section(section["sh_link"]).data()
    code = {i for i, s in enumerate(elf.iter_sections()) if s["sh_flags"] & SHF_EXECINSTR}
    data = section.data()
    data = data[: len(data) - len(data) % SYMBOL.size]
    for at, info, _, shndx, value, size in SYMBOL.iter_unpack(data):
        kind = info & 15
        if shndx not in code or kind not in (STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC):
            continue
        text = names[at : names.index(b"\0", at)].decode(errors="replace")
        if text:
            yield value, size, text


class Binary:
    """An ELF file: from offsets in it to addresses, and from these to names."""

    def __init__(self, path: str) -> None:
        """Raises one of BROKEN."""
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(f"{path}: not a regular file")
        self.file: IO[bytes] = open(path, "rb")
        elf = ELFFile(self.file)
        self.loads = [
            (int(s["p_offset"]), int(s["p_filesz"]), int(s["p_vaddr"]))
            for s in elf.iter_segments("PT_LOAD")
        ]
        found = list(_symbols(elf, ".symtab")) or self._separate(elf)
        self.table = Table(found or list(_symbols(elf, ".dynsym")))

    @staticmethod
    def _separate(elf: Any) -> list[tuple[int, int, str]]:
        """The symbols of a debug file that a package has installed."""
        note = elf.get_section_by_name(".note.gnu.build-id")
        if note is None:
            return []
        build_id = next(n["n_desc"] for n in note.iter_notes() if n["n_type"] == "NT_GNU_BUILD_ID")
        path = DEBUG_FILES / build_id[:2] / f"{build_id[2:]}.debug"
        if not path.is_file():
            return []
        with path.open("rb") as file:
            return list(_symbols(ELFFile(file), ".symtab"))

    def address_of(self, offset: int) -> int | None:
        for start, size, address in self.loads:
            if start <= offset < start + size:
                return offset - start + address
        return None

    def value_of(self, name: str) -> int | None:
        return next((value for value, _, text in self.table.symbols if text == name), None)

    def read(self, offset: int, size: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(size)


class Symbolizer:
    """Names for the addresses of one crashed process."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.mappings = sorted(raw.mappings, key=lambda m: m.start)
        self.starts = [mapping.start for mapping in self.mappings]
        self.binaries: dict[str, Binary | None] = {}
        self.jitted: Table | None = None

    def mapping(self, address: int) -> Mapping | None:
        at = bisect.bisect_right(self.starts, address) - 1
        return self.mappings[at] if at >= 0 and self.mappings[at].holds(address) else None

    def binary(self, path: str) -> Binary | None:
        if path not in self.binaries:
            try:
                self.binaries[path] = Binary(path)
            except BROKEN:
                self.binaries[path] = None
        return self.binaries[path]

    def place(self, address: int, *, is_return: bool = False) -> Place | None:
        """What lies at an address; is_return: it is behind a call, and so may be its end."""
        looked_up = address - 1 if is_return and address else address
        found = self._aerokernel(looked_up) or self._core(looked_up) or self._mapped(looked_up)
        if found is None:
            return None
        return Place(address, found.module, found.symbol, found.offset + address - looked_up)

    def is_code(self, address: int) -> bool:
        """True if the program may execute what lies there."""
        mapping = self.mapping(address)
        return mapping is not None and mapping.executable and not self._in_region(address)

    def begins_handler(self, address: int) -> bool:
        """True if the AeroKernel calls handlers of faults there (core/aerokernel/switch.S)."""
        place = self._aerokernel(address)
        return place is not None and place.symbol == HANDLERS_CALLER

    def follows_call(self, address: int) -> bool | None:
        """True if a call ends right before the address; None if that cannot be known."""
        mapping = self.mapping(address - 1)
        if mapping is None or not mapping.path.startswith("/"):
            return None
        binary = self.binary(mapping.path)
        if binary is None:
            return None
        length = min(7, address - mapping.start)
        try:
            before = binary.read(address - mapping.start + mapping.offset - length, length)
        except BROKEN:
            return None
        if len(before) >= 5 and before[-5] == 0xE8:
            return True
        # FF /2 with the lengths that its operand may have.
        return any(
            len(before) >= n and before[-n] == 0xFF and before[1 - n] >> 3 & 7 == 2
            for n in (2, 3, 4, 6, 7)
        )

    def _in_region(self, address: int) -> bool:
        return len(self.raw.region) == 2 and self.raw.region[0] <= address < self.raw.region[1]

    def _core_symbol(self, address: int) -> tuple[str, int] | None:
        core = self.binary(self.raw.text.get("core", ""))
        return core.table.find(address) if core else None

    def _core(self, address: int) -> Place | None:
        if not self._in_region(address):
            return None
        offset = address - self.raw.region[0]
        name, behind = self._core_symbol(offset) or (None, offset)
        return Place(address, "multiverse-core", name, behind)

    def _aerokernel(self, address: int) -> Place | None:
        if len(self.raw.aerokernel) != 6 or not all(self.raw.aerokernel):
            return None
        base, windows, stride, _own, image, view = self.raw.aerokernel
        if not base <= address < view + AEROKERNEL_MEMORY:
            return None
        if address >= view:
            return Place(address, "AeroKernel: view of its memory", None, address - view)
        if address >= image:
            file = self.binary(str(Path(self.raw.text.get("core", "")).with_name(IMAGE)))
            known = file.table.find(address) if file else None
            return Place(address, "AeroKernel: image", *(known or (None, address - image)))
        in_window = address >= windows
        offset = (address - windows) % stride if in_window else address - base
        owner = f", window {(address - windows) // stride}" if in_window else ""
        page, behind = divmod(offset, PAGE)
        names = WINDOW_PAGES if in_window else SHARED_PAGES
        if page >= len(names):
            return Place(address, f"AeroKernel{owner}: nothing", None, offset)
        module = f"AeroKernel{owner}: {names[page]}"
        if page == 0:
            core = self.binary(self.raw.text.get("core", ""))
            start = core.value_of("ak_entry_page") if core else None
            found = self._core_symbol(start + behind) if start is not None else None
            if found:
                return Place(address, f"{module} +{behind:#x}", *found)
        if page == 1 and not in_window:
            return Place(address, f"{module} +{behind:#x}", f"vector {behind // 8}", behind % 8)
        return Place(address, module, None, behind)

    def _mapped(self, address: int) -> Place | None:
        mapping = self.mapping(address)
        if mapping is None:
            return None
        offset = address - mapping.start + mapping.offset
        if not mapping.path.startswith("/"):
            found = self._perf_map().find(address) if mapping.executable else None
            module = mapping.path or "anonymous memory"
            name, behind = found or (None, address - mapping.start)
            return Place(address, module, name, behind)
        binary = self.binary(mapping.path)
        at = binary.address_of(offset) if binary else None
        found = binary.table.find(at) if binary and at is not None else None
        if found:
            return Place(address, mapping.path, *found)
        return Place(address, mapping.path, None, offset if at is None else at)

    def _perf_map(self) -> Table:
        """What a compiler in the program has written for perf: /tmp/perf-PID.map."""
        if self.jitted is None:
            self.jitted = Table(list(_read_perf_map(self.raw.number.get("pid", 0))))
        return self.jitted


def _read_perf_map(pid: int) -> Iterator[tuple[int, int, str]]:
    path = Path(f"/tmp/perf-{pid}.map")
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return
        if found.st_size > PERF_MAP_BYTES_MAX:
            return
        text = path.read_text(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        start, _, rest = line.partition(" ")
        size, _, name = rest.partition(" ")
        try:
            yield int(start, 16), int(size, 16), name
        except ValueError:
            continue
