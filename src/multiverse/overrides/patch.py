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
_SHORT = frozenset({x86_const.X86_INS_LOOP, x86_const.X86_INS_LOOPE, x86_const.X86_INS_LOOPNE,
                    x86_const.X86_INS_JRCXZ, x86_const.X86_INS_JECXZ, x86_const.X86_INS_JCXZ,
                    x86_const.X86_INS_XBEGIN})  # fmt: skip
_CALLS_SYSTEM = frozenset({x86_const.X86_INS_SYSCALL, x86_const.X86_INS_SYSENTER,
                           x86_const.X86_INS_INT})  # fmt: skip


@dataclass(frozen=True)
class Beginning:
    """The instructions that a jump replaces; they can be executed elsewhere with these changes."""

    code: bytes
    displacements: tuple[tuple[int, int], ...]  # offset of 32 bits, and of their instruction's end


def beginning(code: bytes, size: int) -> Beginning:
    """Of a function. code: all of it; size: in bytes, 0 if it is not known.

    Raises Unusable, saying why the function cannot be taken over.
    """
    if not size:
        raise Unusable("does not say how long it is")
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    decoder.skipdata = True
    length = 0
    displacements: list[tuple[int, int]] = []
    for instruction in decoder.disasm(code[:CODE_MAX], 0):
        if length >= JUMP_BYTES:
            break
        if instruction.id == NO_INSTRUCTION:
            raise Unusable("does not begin with code")
        length += instruction.size
        found = _displacement(instruction)
        if found:
            displacements.append((instruction.address + found, length))
        ends = instruction.group(capstone.CS_GRP_RET) or instruction.id in (
            x86_const.X86_INS_JMP,
            x86_const.X86_INS_UD2,
            x86_const.X86_INS_HLT,
        )
        if ends and length < JUMP_BYTES:
            raise Unusable(f"is only {length} bytes long, a jump is {JUMP_BYTES}")
    if length < JUMP_BYTES:
        raise Unusable(f"is only {size} bytes long, a jump is {JUMP_BYTES}")
    if len(displacements) > DISPLACEMENTS_MAX:
        raise Unusable("begins with instructions that cannot be moved")
    _check_branches(decoder, code, length)
    return Beginning(code[:length], tuple(displacements))


def _displacement(instruction: Any) -> int | None:
    """Offset in an instruction of a 32-bit displacement relative to its end. Raises Unusable."""
    if instruction.id in _CALLS_SYSTEM:
        raise Unusable("makes a system call in its first instructions")
    if instruction.group(capstone.CS_GRP_BRANCH_RELATIVE) or instruction.id in _SHORT:
        if instruction.imm_size != 4:
            raise Unusable("begins with a short branch, which cannot be moved")
        return int(instruction.imm_offset)
    for operand in instruction.operands:
        if operand.type == x86_const.X86_OP_MEM and operand.mem.base == x86_const.X86_REG_RIP:
            return int(instruction.disp_offset)
    return None


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
