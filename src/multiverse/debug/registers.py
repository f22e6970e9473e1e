"""The registers as gdb numbers them, and the target description that says so.

Extended state is an image in the standard form of XSAVE (Intel SDM volume 1, 13.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cffi

_FFI: Any = cffi.FFI()  # for its buffers only

# In the order of struct mv_frame.
_MV_FRAME = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "rip", "eflags", "rsp",
)  # fmt: skip
_GENERAL = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip",
)  # fmt: skip
_SEGMENTS = {"cs": 0x33, "ss": 0x2B, "ds": 0, "es": 0, "fs": 0, "gs": 0}
_X87 = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
_CONTROL = ("cr0", "cr2", "cr3", "cr4", "efer")

_FXSAVE = {"fctrl": (0, 2), "fstat": (2, 2), "fop": (6, 2), "fioff": (8, 4), "fiseg": (12, 2)}
_FXSAVE |= {"fooff": (16, 4), "foseg": (20, 2), "mxcsr": (24, 4)}
_ABRIDGED_TAG, _ST, _XMM, _XSTATE_BV, _YMM_HIGH = 4, 32, 160, 512, 576
_BV_X87, _BV_SSE, _BV_AVX = 1, 2, 4
_MXCSR_MASK = 0xFFFF
_CHANGED_REGISTERS, _CHANGED_XSAVE = 1, 2  # enum mv_debug_changed
_EMPTY = 3


@dataclass(frozen=True)
class Register:
    """One register: its name, bytes, and gdb's type."""

    name: str
    size: int
    type: str
    extra: str = ""


def _features(avx: bool) -> dict[str, tuple[str, list[Register]]]:
    """Types (XML) and registers by feature, in gdb's order."""
    pointers = {"rsp": "data_ptr", "rbp": "data_ptr", "rip": "code_ptr"}
    core = [Register(name, 8, pointers.get(name, "int64")) for name in _GENERAL]
    core.append(Register("eflags", 4, "i386_eflags"))
    core += [Register(name, 4, "int32") for name in _SEGMENTS]
    core += [Register(f"st{i}", 10, "i387_ext") for i in range(8)]
    core += [Register(name, 4, "int", 'group="float"') for name in _X87]
    bits = {
        "CF": 0,
        "": 1,
        "PF": 2,
        "AF": 4,
        "ZF": 6,
        "SF": 7,
        "TF": 8,
        "IF": 9,
        "DF": 10,
        "OF": 11,
    }
    bits |= {"NT": 14, "RF": 16, "VM": 17, "AC": 18, "VIF": 19, "VIP": 20, "ID": 21}
    flags = "".join(f'<field name="{n}" start="{b}" end="{b}"/>' for n, b in bits.items())
    vectors = {"v4f": "ieee_single", "v2d": "ieee_double", "v16i8": "int8", "v8i16": "int16"}
    vectors |= {"v4i32": "int32", "v2i64": "int64"}
    widths = {"v4f": 4, "v2d": 2, "v16i8": 16, "v8i16": 8, "v4i32": 4, "v2i64": 2}
    xmm = "".join(f'<vector id="{n}" type="{t}" count="{widths[n]}"/>' for n, t in vectors.items())
    names = {"v4_float": "v4f", "v2_double": "v2d", "v16_int8": "v16i8", "v8_int16": "v8i16"}
    names |= {"v4_int32": "v4i32", "v2_int64": "v2i64", "uint128": "uint128"}
    fields = "".join(f'<field name="{n}" type="{t}"/>' for n, t in names.items())
    mxcsr = ("IE", "DE", "ZE", "OE", "UE", "PE", "DAZ", "IM", "DM", "ZM", "OM", "UM", "PM")
    exceptions = "".join(f'<field name="{n}" start="{b}" end="{b}"/>' for b, n in enumerate(mxcsr))
    sse = [Register(f"xmm{i}", 16, "vec128") for i in range(16)]
    sse.append(Register("mxcsr", 4, "i386_mxcsr", 'group="vector"'))
    found = {
        "org.gnu.gdb.i386.core": (f'<flags id="i386_eflags" size="4">{flags}</flags>', core),
        "org.gnu.gdb.i386.sse": (
            f'{xmm}<union id="vec128">{fields}</union>'
            f'<flags id="i386_mxcsr" size="4">{exceptions}</flags>',
            sse,
        ),
        "org.gnu.gdb.i386.linux": ("", [Register("orig_rax", 8, "int")]),
        "org.gnu.gdb.i386.segments": ("", [Register(n, 8, "int") for n in ("fs_base", "gs_base")]),
    }
    if avx:
        high = [Register(f"ymm{i}h", 16, "uint128") for i in range(16)]
        found["org.gnu.gdb.i386.avx"] = ("", high)
    extra = 'save-restore="no"'
    found["org.multiverse.control"] = ("", [Register(n, 8, "uint64", extra) for n in _CONTROL])
    return found


class Layout:
    """Which registers there are, in which order. xcr0: extended state components in use."""

    def __init__(self, xcr0: int) -> None:
        self._features = _features(avx=bool(xcr0 & _BV_AVX))
        self._components = xcr0 & (_BV_X87 | _BV_SSE | _BV_AVX) or _BV_X87 | _BV_SSE
        self.registers = [r for _, registers in self._features.values() for r in registers]
        self.number = {register.name: i for i, register in enumerate(self.registers)}

    def description(self) -> str:
        """The target description, target.xml."""
        parts = []
        for name, (types, registers) in self._features.items():
            lines = [
                f'<reg name="{r.name}" bitsize="{r.size * 8}" type="{r.type}" {r.extra}/>'
                for r in registers
            ]
            parts.append(f'<feature name="{name}">{types}{"".join(lines)}</feature>')
        return (
            '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">'
            "<architecture>i386:x86-64</architecture><osabi>GNU/Linux</osabi>"
            f"{''.join(parts)}</target>"
        )

    def normal(self, slot: Any) -> bytearray:
        """A slot's image with what its header leaves out written out as it initially is."""
        image = bytearray(_FFI.buffer(slot.xsave))
        present = int.from_bytes(image[_XSTATE_BV : _XSTATE_BV + 8], "little")
        if not present & _BV_X87:
            image[0:24] = bytes.fromhex("7f03") + bytes(22)
            image[_ST:_XMM] = bytes(_XMM - _ST)
        if not present & _BV_SSE:
            image[_XMM : _XMM + 256] = bytes(256)
        if not present & _BV_AVX:
            image[_YMM_HIGH : _YMM_HIGH + 256] = bytes(256)
        return image

    def read(self, slot: Any, name: str, image: bytearray) -> bytes:
        """A register of a parked thread, as gdb wants it. image: normal() of the slot."""
        register = self.registers[self.number[name]]
        place = _place(name)
        if place is not None:
            offset, size = place
            return bytes(image[offset : offset + size]).ljust(register.size, b"\0")
        if name == "ftag":
            value = _full_tag(image)
        elif name in _MV_FRAME:
            value = int(slot.registers[_MV_FRAME.index(name)])
        elif name in _SEGMENTS:
            value = _SEGMENTS[name]
        elif name == "orig_rax":
            value = (1 << 64) - 1  # a call that was interrupted begins again: none is under way
        else:
            value = int(getattr(slot, name))
        return (value & ((1 << register.size * 8) - 1)).to_bytes(register.size, "little")

    def write(self, slot: Any, name: str, data: bytes) -> None:
        """Change a register of a parked thread.

        Those that are read-only stay as they are: gdb writes all back after it has called a
        function.
        """
        value = int.from_bytes(data, "little")
        place = _place(name)
        if place is not None or name == "ftag":
            image = self.normal(slot)
            if name == "ftag":
                tags = [value >> 2 * i & 3 for i in range(8)]
                image[_ABRIDGED_TAG] = sum(1 << i for i, tag in enumerate(tags) if tag != _EMPTY)
            elif place is not None:
                offset, size = place
                if name == "mxcsr":
                    data = (value & _MXCSR_MASK).to_bytes(4, "little")
                image[offset : offset + size] = data[:size]
            image[_XSTATE_BV : _XSTATE_BV + 8] = self._components.to_bytes(8, "little")
            _FFI.buffer(slot.xsave)[:] = bytes(image)
            slot.changed |= _CHANGED_XSAVE
        elif name in _MV_FRAME:
            slot.registers[_MV_FRAME.index(name)] = value
            slot.changed |= _CHANGED_REGISTERS
        elif name in ("fs_base", "gs_base"):
            setattr(slot, name, value)
            slot.changed |= _CHANGED_REGISTERS


def _place(name: str) -> tuple[int, int] | None:
    """Offset and size in the image."""
    if name in _FXSAVE:
        return _FXSAVE[name]
    if name.startswith("st") and name[2:].isdigit():
        return _ST + 16 * int(name[2:]), 10
    if name.startswith("xmm"):
        return _XMM + 16 * int(name[3:]), 16
    if name.startswith("ymm"):
        return _YMM_HIGH + 16 * int(name[3:-1]), 16
    return None


def _full_tag(image: bytearray) -> int:
    """The x87 tag word, of which FXSAVE keeps only what is empty."""
    top = image[3] >> 3 & 7
    word = 0
    for i in range(8):
        tag = _EMPTY
        if image[_ABRIDGED_TAG] >> i & 1:
            at = _ST + 16 * ((i - top) & 7)
            mantissa = int.from_bytes(image[at : at + 8], "little")
            exponent = int.from_bytes(image[at + 8 : at + 10], "little") & 0x7FFF
            if exponent == 0 and mantissa == 0:
                tag = 1
            else:
                tag = 0 if 0 < exponent < 0x7FFF and mantissa >> 63 else 2
        word |= tag << 2 * i
    return word


def rip_of(slot: Any) -> int:
    return int(slot.registers[_MV_FRAME.index("rip")])
