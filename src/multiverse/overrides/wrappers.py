"""The C between what the program calls and what is called instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from multiverse.overrides.definition import Definition, Function, Import, Override, Syscall
from multiverse.overrides.errors import Mistake, Place
from multiverse.overrides.module import resolver
from multiverse.overrides.prototypes import CType, Prototype, definitions

GENERATED = "wrappers.c"
#: What the compiler knows the TOML file as, whatever its name is.
TOML = "<overrides>"
ERRNO_MAX = 4095
ERRNO = "__errno_location"


@dataclass(frozen=True)
class Called:
    """A function that is called instead, as the compiler knows it."""

    text: str  # its prototype
    result: CType
    parameters: int | None  # None: any number


@dataclass(frozen=True)
class Line:
    """A line of C, and where what it says comes from."""

    text: str
    place: Place | None = None


@dataclass
class Wrappers:
    """Generated code, and under which names the rest finds things in it."""

    lines: list[Line] = field(default_factory=list)
    symbols: dict[Override, str] = field(default_factory=dict)  # of the wrappers
    originals: dict[Override | Import, str] = field(default_factory=dict)  # of the variables
    errno: str | None = None  # of the variable with __errno_location

    def add(self, *texts: str, place: Place | None = None) -> None:
        self.lines += (Line(text, place) for text in texts)

    def source(self, with_lines: bool) -> str:
        """The text; with_lines: for the compiler, whose messages then name the TOML file."""
        if not with_lines:
            return "".join(f"{line.text}\n" for line in self.lines)
        text: list[str] = []
        before: Place | None = None
        for line in self.lines:
            if line.place:
                text.append(f'#line {line.place.line} "{TOML}"')
            elif before:
                text.append(f'#line {len(text) + 2} "{GENERATED}"')
            before = line.place
            text.append(line.text)
        return "\n".join(text) + "\n"


def can_fall_back(result: CType) -> bool:
    """Whether AK_FALLBACK is among the values of a type."""
    return result.bits == 64 and result.kind in ("integer", "pointer")


def falls_back(override: Override, called: Called) -> bool:
    if override.result == "linux":
        return False
    if isinstance(override, Function) and override.new:
        return False
    return can_fall_back(called.result) if override.fallback is None else override.fallback


def check_call(override: Override, called: Called) -> Iterable[Mistake]:
    """Mistakes about the called function that the compiler would not find, or not understand."""
    call, place = override.call, override.call_place
    if called.parameters is not None and called.parameters != call.arguments:
        arguments = "1 argument" if call.arguments == 1 else f"{call.arguments} arguments"
        takes = called.parameters or "none"
        yield Mistake(place, f"call: {arguments}, but it takes {takes}; it is {called.text}")
    result = called.result
    if override.fallback and not can_fall_back(result):
        yield Mistake(
            place,
            f"fallback: the result of {called.text} cannot be AK_FALLBACK; make it int64_t,"
            " or use `when`",
        )
    text = _result_mismatch(override, called)
    if text:
        yield Mistake(override.result_place, f"result: {text}; it is {called.text}")


def _result_mismatch(override: Override, called: Called) -> str | None:
    result, legacy = called.result, override.prototype.result
    name, mapping = override.prototype.name, override.result
    if result.kind == "structure":
        return "a structure cannot be a result here"
    if mapping in ("none", "linux") or (mapping == "value" and legacy.kind == "void"):
        return None
    if result.kind == "void":
        return f'the function returns nothing, {name} does; add result = "none" to return 0'
    if mapping in ("errno", "error"):
        if result.kind == "pointer" and mapping == "errno":
            return None
        if result.kind != "integer" or not result.signed:
            return "a negative errno needs a signed integer"
        return None
    if mapping != "value":
        return None
    if {result.kind, legacy.kind} == {"pointer", "integer"}:
        if isinstance(override, Syscall) or falls_back(override, called):
            return None if {result.bits, legacy.bits} == {64} else f"too narrow for {name}"
        return f"{name} returns {_kind(legacy)}, the function {_kind(result)}"
    if result.kind != legacy.kind:
        return f"{name} returns {_kind(legacy)}, the function {_kind(result)}"
    if result.bits > legacy.bits and not falls_back(override, called):
        return f"{name} returns {legacy.bits} bits, the function {result.bits}: some would be lost"
    return None


def _kind(ctype: CType) -> str:
    return {"integer": "an integer", "pointer": "a pointer"}.get(ctype.kind, "floating point")


def preamble(definition: Definition) -> Wrappers:
    """What stands before the wrappers: headers, sources, types."""
    out = Wrappers()
    out.add(
        f"// Generated by `multiverse override` from {definition.path.name}.",
        "#include <aerokernel.h>",
        "#include <aerokernel/override.h>",
    )
    for header in definition.headers:
        out.add(f"#include {header}" if header.startswith("<") else f'#include "{header}"')
    for i, imported in enumerate(definition.imports):
        if i == 0:
            out.add(*definitions([i.prototype for i in definition.imports], definition.types))
        pointer = _original(imported.prototype, i, "import")
        legacy = imported.prototype
        arguments = ", ".join(legacy.names)
        returned = "" if legacy.result.kind == "void" else "return "
        out.add("", f"// {imported.place}: {imported.legacy}")
        out.add(f"{legacy.declare(pointer, pointer=True)};")
        out.add(f"__typeof__({pointer}) (*{resolver(pointer)})(void); // of an IFUNC")
        out.add(f"{legacy};", f"{legacy}", "{", place=imported.place)
        out.add(f"    if (!{pointer})", f"        {pointer} = {resolver(pointer)}();")
        out.add(f"    {returned}{pointer}({arguments});", "}")
        out.originals[imported] = pointer
    if definition.sources:
        out.add("")
    for source in definition.sources:
        out.add(f'#include "{source.relative_to(definition.path.parent)}"')
    prototypes = [override.prototype for override in definition.overrides]
    texts = definitions(prototypes, definition.types)
    if texts:
        out.add("", *texts)
    if any("MAP_FAILED" in (f.failure or "") for f in definition.functions):
        out.add("", "#ifndef MAP_FAILED", "#define MAP_FAILED ((void *)-1)", "#endif")
    out.add("", '#pragma GCC diagnostic warning "-Wconversion"')
    for ignored in ("sign-conversion", "sign-compare"):
        out.add(f'#pragma GCC diagnostic ignored "-W{ignored}"')
    return out


def generate(definition: Definition, called: Mapping[str, Called]) -> Wrappers:
    """The wrappers of a definition without mistakes. called: all functions that it calls."""
    out = preamble(definition)
    if any(f.result == "errno" for f in definition.functions):
        out.errno = "mv_errno"
        if not any(i.prototype.name == ERRNO for i in definition.imports):
            out.add("", f"// The C library's {ERRNO}().")
            out.add(f"int *(*{out.errno})(void);")
        else:
            out.errno = None
    for call in definition.syscalls:
        _syscall(out, call, called[call.call.function or ""])
    for i, function in enumerate(definition.functions):
        out.add("", f"// {function.place}: {function.legacy}")
        _function(out, function, called[function.call.function or ""], i)
    return out


def _original(prototype: Prototype, i: int, kind: str) -> str:
    return f"mv_{kind}_{i}_{prototype.name}"


def _syscall(out: Wrappers, override: Syscall, called: Called) -> None:
    symbol = f"mv_call_{override.wrapper}"
    out.symbols[override] = symbol
    if override.wrapper != override.nr:
        return
    out.add("", f"// {override.place}: {override.name}")
    out.add(f"bool {symbol}(struct ak_call *call);")
    out.add(f"bool {symbol}(struct ak_call *call)", "{")
    texts = [override.call, override.when]
    used = {name for text in texts if text for name in text.names}
    if override.result == "linux":
        out.add("    (void)call;")
    for i, parameter in enumerate(override.prototype.parameters):
        if parameter.name in used:
            value = f"({parameter.cast})call->arg[{i}]"
            space = "" if parameter.cast.endswith("*") else " "
            declaration = f"{parameter.cast}{space}{parameter.name}"
            out.add(f"    {declaration} = {value};", place=override.place)
    if override.when:
        out.add(f"    if (!({override.when.text}))", place=override.when_place)
        out.add("        return false;")
    _call(out, override, called)
    if override.result == "linux":
        out.add("    return false;", "}")
        return
    if falls_back(override, called):
        out.add(f"    if ({_as_integer(called)} == AK_FALLBACK)", "        return false;")
    values = {
        "value": "(int64_t)result" if called.result.kind == "pointer" else "result",
        "error": "-(int64_t)result",
        "none": "0",
    }
    value = values.get(override.result, f"(int64_t)({override.result})")
    place = override.result_place if override.result not in values else None
    out.add(f"    call->result = {value};", place=place)
    out.add("    return true;", "}")


def _call(out: Wrappers, override: Override, called: Called) -> None:
    """The call itself, with its result in `result` if that is needed."""
    text = override.call.text
    needed = called.result.kind != "void" and (
        override.result not in ("none", "linux") or falls_back(override, called)
    )
    if isinstance(override, Function) and override.prototype.result.kind == "void":
        needed = falls_back(override, called)
    result = "const __auto_type result = " if needed else ""
    out.add(f"    {result}{text};", place=override.call_place)


def _as_integer(called: Called) -> str:
    plain = called.result.kind == "integer" and called.result.signed
    return "result" if plain else "(int64_t)result"


def _function(out: Wrappers, override: Function, called: Called, i: int) -> None:
    legacy = override.prototype
    symbol = _original(legacy, i, "function")
    out.symbols[override] = symbol
    fallback = falls_back(override, called)
    original = ""
    if not override.new:  # the core keeps there what the resolver of an IFUNC has chosen, too
        variable = _original(legacy, i, "original")
        out.originals[override] = variable
        out.add(f"{legacy.declare(variable, pointer=True)};")
        if fallback or override.when:
            original = f"{variable}({', '.join(legacy.names)})"
    out.add(f"{legacy.declare(symbol)};")
    out.add(legacy.declare(symbol), "{")
    void = legacy.result.kind == "void"
    if override.when:
        out.add(f"    if (!({override.when.text}))", place=override.when_place)
        _return_original(out, original, void)
    texts = [override.call, override.when]
    used = {name for text in texts if text for name in text.names} | (
        set(legacy.names) if original else set()
    )
    for name in legacy.names:
        if name not in used:
            out.add(f"    (void){name};")
    if not override.signal_safe:
        out.add("    ak_hold();")
    _call(out, override, called)
    if not override.signal_safe:
        out.add("    ak_release();")
    if fallback:
        out.add(f"    if ({_as_integer(called)} == AK_FALLBACK)")
        _return_original(out, original, void)
    if not void:
        _return_result(out, override, called, fallback)
    out.add("}")


def _return_original(out: Wrappers, original: str, void: bool) -> None:
    if void:
        out.add("    {", f"        {original};", "        return;", "    }")
    else:
        out.add(f"        return {original};")


def _return_result(out: Wrappers, override: Function, called: Called, cast: bool) -> None:
    legacy = override.prototype
    as_legacy = f"({legacy.result_text})"
    value = _as_integer(called)
    failed = f"    if ({value} < 0 && {value} >= -{ERRNO_MAX}) {{"
    if override.result == "errno":
        errno = out.errno or ERRNO
        failure = override.failure or ("NULL" if legacy.result.kind == "pointer" else "-1")
        out.add(failed, f"        *{errno}() = (int)-{value};")
        out.add(f"        return {failure};", place=override.result_place)
        out.add("    }", f"    return {as_legacy}result;")
    elif override.result == "error":
        out.add(f"    return {as_legacy}({value} < 0 ? -{value} : {value});")
    elif override.result == "none":
        out.add("    return 0;")
    elif override.result == "value":
        out.add(f"    return {as_legacy if cast else ''}result;", place=override.result_place)
    else:
        out.add(f"    return {override.result};", place=override.result_place)


def probe(definition: Definition, functions: Mapping[str, Place]) -> Wrappers:
    """Code whose debug information describes the functions that are called."""
    out = preamble(definition)
    for i, (name, place) in enumerate(functions.items()):
        out.add(f"__typeof__({name}) *mv_probe_{i};", place=place)
    return out
