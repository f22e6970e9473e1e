"""From a sampled stack to the functions that were called."""

from __future__ import annotations

import bisect
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from elftools.dwarf.callframe import FDE, CallFrameInfo
from elftools.dwarf.structs import DWARFStructs
from elftools.elf.elffile import ELFFile

from multiverse.crash.symbols import BROKEN
from multiverse.profile.raw import WORD, Sample

FRAMES_MAX = 64
SCANS_MAX = 6  # return addresses that are only found, one after the other
RBP, RSP = 6, 7  # as DWARF numbers them (System V ABI for AMD64, figure 3.36)
# What linkers write: a table of pairs of 32-bit offsets from the header (LSB, .eh_frame_hdr).
HEADER = struct.Struct("<BBBBiI")
HEADER_ENCODING = (1, 0x1B, 0x03, 0x3B)


@dataclass(frozen=True, slots=True)
class Rule:
    """How to get from a function's registers to its caller's.

    start: of the function; cfa: register and offset; rbp: where the caller's lies relative to the
    CFA, None where it is still in its register. The return address is right below the CFA.
    """

    start: int
    cfa: tuple[int, int]
    rbp: int | None


class CallFrames:
    """The unwinding tables of an ELF file (.eh_frame), read as far as they are asked for."""

    def __init__(self, file: Any) -> None:
        """Raises one of BROKEN."""
        elf = ELFFile(file)
        section = elf.get_section_by_name(".eh_frame")
        if section is None:
            raise ValueError("no unwinding tables")
        self.data = section.data()
        self.address = int(section["sh_addr"])
        self.structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=8)
        self.decoded: dict[int, tuple[int, int, list[dict[Any, Any]]] | None] = {}
        pairs = sorted(self._table(elf.get_section_by_name(".eh_frame_hdr")) or self._walk())
        self.starts = [start for start, _ in pairs]
        self.entries = [entry for _, entry in pairs]

    @staticmethod
    def _table(header: Any) -> list[tuple[int, int]]:
        """Where functions begin and their entries are, as the linker has noted it, if it has."""
        if header is None:
            return []
        data = header.data()
        *encoding, _pointer, count = HEADER.unpack_from(data)
        if tuple(encoding) != HEADER_ENCODING:
            return []
        pairs = struct.unpack_from(f"<{2 * count}i", data, HEADER.size)
        base = int(header["sh_addr"])
        return [(base + a, base + b) for a, b in zip(pairs[0::2], pairs[1::2], strict=True)]

    def _walk(self) -> Iterator[tuple[int, int]]:
        """The same from the entries themselves, as in many static programs."""
        offset = 0
        while offset + 8 <= len(self.data):
            length, back = struct.unpack_from("<II", self.data, offset)
            if length and back:
                try:
                    start, _end, _rows = self._decode(self.address + offset)
                    yield start, self.address + offset
                except BROKEN:
                    pass
            offset += 4 + length

    def start(self, address: int) -> int | None:
        """Where the function begins that an address lies in."""
        found = self._function(address)
        return found[0] if found else None

    def rule(self, address: int) -> Rule | None:
        found = self._function(address)
        if found is None:
            return None
        start, _end, rows = found
        row = next((row for row in reversed(rows) if row["pc"] <= address), None)
        if row is None:
            return None
        cfa = (RSP, WORD) if row["cfa"].reg is None else (row["cfa"].reg, row["cfa"].offset)
        saved = row.get(RBP)
        return Rule(start, cfa, saved.arg if saved is not None and saved.type == "OFFSET" else None)

    def _function(self, address: int) -> tuple[int, int, list[dict[Any, Any]]] | None:
        at = bisect.bisect_right(self.starts, address) - 1
        if at < 0:
            return None
        if at not in self.decoded:
            try:
                self.decoded[at] = self._decode(self.entries[at])
            except BROKEN:
                self.decoded[at] = None
        found = self.decoded[at]
        return found if found and found[0] <= address < found[1] else None

    def _decode(self, entry: int) -> tuple[int, int, list[dict[Any, Any]]]:
        """One entry by itself: with its CIE right in front, in a section of their own."""
        offset = entry - self.address
        length, back = struct.unpack_from("<II", self.data, offset)
        cie_offset = offset + 4 - back
        (cie_length,) = struct.unpack_from("<I", self.data, cie_offset)
        cie = self.data[cie_offset : cie_offset + 4 + cie_length]
        fde = bytearray(self.data[offset : offset + 4 + length])
        struct.pack_into("<I", fde, 4, len(cie) + 4)
        both = cie + bytes(fde)
        info = CallFrameInfo(
            io.BytesIO(both), len(both), entry - len(cie), self.structs, for_eh_frame=True
        )
        found = info.get_entries()[1]
        if not isinstance(found, FDE):
            raise ValueError("not an FDE")
        start = int(found["initial_location"])
        return start, start + int(found["address_range"]), found.get_decoded().table


@dataclass(frozen=True, slots=True)
class Step:
    """A return address, or where the innermost function is. found: it only looks like one."""

    address: int
    found: bool


class Stack:
    """A sampled stack, as unwinding reads it."""

    def __init__(self, sample: Sample) -> None:
        self.base = -(-sample.rsp // WORD) * WORD
        self.words = sample.words
        self.returns = sample.returns

    def word(self, address: int) -> int | None:
        index, rest = divmod(address - self.base, WORD)
        return self.words[index] if not rest and 0 <= index < len(self.words) else None

    def is_return(self, address: int) -> bool:
        return (address - self.base) // WORD in self.returns

    def next_return(self, address: int) -> int | None:
        """The next word from an address on that may be a return address."""
        index = max(0, -(-(address - self.base) // WORD))
        at = min((i for i in self.returns if i >= index), default=None)
        return None if at is None else self.base + at * WORD


class Unwinder:
    """Walks stacks by the tables of files, by frame pointers, or by what looks like a return."""

    def __init__(self, names: Any) -> None:
        """names: multiverse.profile.names.Names of the process."""
        self.names = names

    def walk(self, rip: int, sample: Sample) -> list[Step]:
        """The steps from where the program is outwards."""
        stack = Stack(sample)
        steps = [Step(rip, False)]
        rsp, rbp, scans = sample.rsp, sample.rbp, 0
        while len(steps) < FRAMES_MAX:
            address = steps[-1].address
            rule = self.names.rule(address - 1, sample.tsc)
            if rule is not None and rule.cfa[0] in (RSP, RBP):
                cfa = (rsp if rule.cfa[0] == RSP else rbp) + rule.cfa[1]
                at, scans = cfa - WORD, 0
                if not stack.is_return(at):
                    break
                saved = stack.word(cfa + rule.rbp) if rule.rbp is not None else rbp
                rsp, rbp = cfa, saved or 0
            elif len(steps) == 1 and stack.is_return(rsp):  # a function without a frame
                at = rsp
                rsp = at + WORD
            elif rbp >= rsp and stack.is_return(rbp + WORD):
                at, scans = rbp + WORD, 0
                rsp, rbp = rbp + 2 * WORD, stack.word(rbp) or 0
            else:
                found = stack.next_return(rsp) if scans < SCANS_MAX else None
                if found is None:
                    break
                at, scans = found, scans + 1
                rsp = at + WORD
            word = stack.word(at)
            if word is None:
                break
            steps.append(Step(word, scans > 0))
        return self._continue(steps, sample)

    @staticmethod
    def _continue(steps: list[Step], sample: Sample) -> list[Step]:
        """Beyond the part of the stack that was kept, frame pointers may have led further."""
        if steps[-1].address in sample.frames:
            further = sample.frames[sample.frames.index(steps[-1].address) + 1 :]
            steps += [Step(address, False) for address in further]
        return steps
