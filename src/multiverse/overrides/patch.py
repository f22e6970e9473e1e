"""What of a function's beginning a jump replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import capstone
from capstone import x86_const

from multiverse.overrides.errors import Unusable

JUMP_BYTES = 5
CODE_MAX = 32  # MV_OVERRIDE_CODE_MAX
DISPLACEMENTS_MAX = 2
NO_INSTRUCTION = 0  # what capstone calls bytes that are none
FUNCTION_ALIGN = 16  # bytes; what compilers align functions to when they optimize
_SHORT = frozenset({x86_const.X86_INS_LOOP, x86_const.X86_INS_LOOPE, x86_const.X86_INS_LOOPNE,
                    x86_const.X86_INS_JRCXZ, x86_const.X86_INS_JECXZ, x86_const.X86_INS_JCXZ,
                    x86_const.X86_INS_XBEGIN})  # fmt: skip
_CALLS_SYSTEM = frozenset({x86_const.X86_INS_SYSCALL, x86_const.X86_INS_SYSENTER,
                           x86_const.X86_INS_INT})  # fmt: skip
_ENDS = frozenset({x86_const.X86_INS_JMP, x86_const.X86_INS_UD2,
                   x86_const.X86_INS_HLT})  # fmt: skip
_PADDING = frozenset({x86_const.X86_INS_NOP, x86_const.X86_INS_INT3})


@dataclass(frozen=True)
class Beginning:
    """What of a function a jump replaces."""

    code: bytes
    moved: bytes  # its instructions, as they can be executed elsewhere
    #: Of `moved`: offset of 32 bits relative to their instruction's end, and where that is. Their
    #: values are those for `moved` at the function's place.
    displacements: tuple[tuple[int, int], ...]


def beginning(code: bytes, size: int, address: int = 0) -> Beginning:
    """Of a function. code: all of it, and what follows it; size: in bytes, 0 if it is not known;
    address: where it is in its file, as the linker has placed it.

    Raises Unusable, saying why the function cannot be taken over.
    """
    if not size:
        raise Unusable("does not say how long it is")
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    decoder.skipdata = True
    length = 0
    moved = b""
    displacements: list[tuple[int, int]] = []
    for instruction in decoder.disasm(code[: min(size, CODE_MAX)], 0):
        if instruction.id == NO_INSTRUCTION:
            raise Unusable("does not begin with code")
        length += instruction.size
        again, place = _elsewhere(instruction, len(moved))
        moved += again
        if place is not None:
            displacements.append((place, len(moved)))
        if length >= JUMP_BYTES:
            break
        if instruction.group(capstone.CS_GRP_RET) or instruction.id in _ENDS:
            length = _with_padding(decoder, code, length, address)
            break
    if length < JUMP_BYTES:
        raise _too_short(length)
    if len(displacements) > DISPLACEMENTS_MAX:
        raise Unusable("begins with instructions that cannot be moved")
    _check_branches(decoder, code[:size], length)
    return Beginning(code[:length], moved, tuple(displacements))


def _too_short(length: int) -> Unusable:
    size = "1 byte" if length == 1 else f"{length} bytes"
    return Unusable(f"is only {size} long, with no room behind it; a jump is {JUMP_BYTES}")


def _with_padding(decoder: Any, code: bytes, length: int, address: int) -> int:
    """A function that has ended too early may have the padding before the next one, too.

    It is padding if it goes on to where compilers begin functions: what does not is somebody's code
    that begins with a NOP. Raises Unusable.
    """
    at = length
    for instruction in decoder.disasm(code[length : length + FUNCTION_ALIGN], length):
        if instruction.id not in _PADDING or (address + at) % FUNCTION_ALIGN == 0:
            break
        at += instruction.size
    if at < JUMP_BYTES or (address + at) % FUNCTION_ALIGN:
        raise _too_short(length)
    return JUMP_BYTES


def _elsewhere(instruction: Any, at: int) -> tuple[bytes, int | None]:
    """An instruction as it is executed at another place, `at` bytes behind the function's.

    Short branches become long ones. With it, the offset of its displacement in what is moved.
    Raises Unusable.
    """
    raw = bytes(instruction.bytes)
    if instruction.id in _CALLS_SYSTEM:
        raise Unusable("makes a system call in its first instructions")
    if instruction.group(capstone.CS_GRP_BRANCH_RELATIVE) or instruction.id in _SHORT:
        target = instruction.operands[0].imm
        if instruction.imm_size == 4:
            opcode = raw[: instruction.imm_offset]
        elif instruction.size == 2 and instruction.id not in _SHORT:
            short = raw[instruction.imm_offset - 1]
            opcode = b"\xe9" if short == 0xEB else bytes([0x0F, short + 0x10])
        else:
            raise Unusable("begins with a branch that cannot be moved")
        end = at + len(opcode) + 4
        return opcode + (target - end).to_bytes(4, "little", signed=True), end - 4
    for operand in instruction.operands:
        if operand.type == x86_const.X86_OP_MEM and operand.mem.base == x86_const.X86_REG_RIP:
            place = instruction.disp_offset
            shift = instruction.address - at  # what came before may have grown
            displacement = int.from_bytes(raw[place : place + 4], "little", signed=True) + shift
            changed = displacement.to_bytes(4, "little", signed=True)
            return raw[:place] + changed + raw[place + 4 :], at + place
    return raw, None


def _check_branches(decoder: Any, code: bytes, length: int) -> None:
    """Refuse a function that jumps to what is replaced."""
    for instruction in decoder.disasm(code, 0):
        if instruction.id == NO_INSTRUCTION:
            continue
        relative = instruction.group(capstone.CS_GRP_BRANCH_RELATIVE)
        if not relative or instruction.id == x86_const.X86_INS_CALL:
            continue
        if 0 <= instruction.operands[0].imm < length:
            raise Unusable("jumps back to its first instructions")
