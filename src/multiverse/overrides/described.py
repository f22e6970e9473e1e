"""Prototypes of functions as debug information describes them."""

from __future__ import annotations

import io
from typing import Any

from elftools.elf.elffile import ELFFile

from multiverse.overrides.prototypes import CType
from multiverse.overrides.wrappers import Called

_QUALIFIERS = {
    "DW_TAG_const_type": "const ",
    "DW_TAG_volatile_type": "volatile ",
    "DW_TAG_restrict_type": "",
    "DW_TAG_atomic_type": "_Atomic ",
}
_ENCODINGS = {
    2: ("integer", False), 4: ("float", True), 5: ("integer", True), 6: ("integer", True),
    7: ("integer", False), 8: ("integer", False), 16: ("integer", False),
}  # fmt: skip


def described(object_file: bytes, prefix: str) -> dict[str, Any]:
    """Types that the variables `prefix`... point to, by the variables' names."""
    found = {}
    for unit in ELFFile(io.BytesIO(object_file)).get_dwarf_info().iter_CUs():
        for die in unit.get_top_DIE().iter_children():
            name = _name(die)
            if die.tag == "DW_TAG_variable" and name.startswith(prefix):
                found[name] = _type(_type(die))
    return found


def called(name: str, die: Any) -> Called | None:
    """The function; None if the type is not a function's."""
    if die is None or die.tag != "DW_TAG_subroutine_type":
        return None
    texts: list[str] = []
    variable = "DW_AT_prototyped" not in die.attributes
    for child in die.iter_children():
        if child.tag == "DW_TAG_formal_parameter":
            texts.append(text(_type(child)))
        elif child.tag == "DW_TAG_unspecified_parameters":
            texts.append("...")
            variable = True
    result = _type(die)
    shown = text(result)
    space = "" if shown.endswith("*") else " "
    prototype = f"{shown}{space}{name}({', '.join(texts) or 'void'})"
    return Called(prototype, ctype(result), None if variable else len(texts))


def ctype(die: Any) -> CType:
    while die is not None and (die.tag in _QUALIFIERS or die.tag == "DW_TAG_typedef"):
        die = _type(die)
    if die is None:
        return CType("void", 0)
    if die.tag == "DW_TAG_pointer_type":
        return CType("pointer", 64)
    bits = 8 * die.attributes["DW_AT_byte_size"].value if "DW_AT_byte_size" in die.attributes else 0
    if die.tag == "DW_TAG_enumeration_type":
        return CType("integer", bits)
    if die.tag != "DW_TAG_base_type":
        return CType("structure", bits)
    kind, signed = _ENCODINGS.get(die.attributes["DW_AT_encoding"].value, ("structure", False))
    return CType(kind, bits, signed)


def text(die: Any) -> str:
    """A type as C, short where that is long."""
    if die is None:
        return "void"
    if die.tag in _QUALIFIERS:
        inner = text(_type(die))
        return (
            f"{inner}{_QUALIFIERS[die.tag]}".rstrip()
            if inner.endswith("*")
            else (_QUALIFIERS[die.tag] + inner)
        )
    if die.tag == "DW_TAG_pointer_type":
        inner = text(_type(die))
        return f"{inner}*" if inner.endswith("*") else f"{inner} *"
    if die.tag == "DW_TAG_subroutine_type":
        return f"{text(_type(die))} (...)"
    words = {"DW_TAG_structure_type": "struct ", "DW_TAG_union_type": "union ",
             "DW_TAG_enumeration_type": "enum "}  # fmt: skip
    return words.get(die.tag, "") + (_name(die) or "(unnamed)")


def _name(die: Any) -> str:
    name = die.attributes.get("DW_AT_name")
    return name.value.decode(errors="replace") if name else ""


def _type(die: Any) -> Any:
    return die.get_DIE_from_attribute("DW_AT_type") if "DW_AT_type" in die.attributes else None
