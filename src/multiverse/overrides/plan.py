"""Modules together, and with a program: who takes over what."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from multiverse.overrides.build import build
from multiverse.overrides.errors import Mistake, Mistakes, Place, Unusable, similar
from multiverse.overrides.image import Taken, assemble
from multiverse.overrides.kept import Kept
from multiverse.overrides.module import Module, TakenFunction
from multiverse.overrides.program import Program
from multiverse.overrides.sets import installed, locate

Warn = Callable[[str], None]
INSTEAD = "take over a function that calls it, or the system call that it makes, instead"


def load(what: str, warn: Warn) -> Module:
    """The module for a TOML file, a built module or a set's name. Raises Mistakes, Unusable."""
    return _load(_file(what), what, warn)


def _file(what: str) -> Path:
    """What is read for a TOML file, a built module or a set's name. Raises Unusable."""
    path = locate(what)
    return path if path == Path(what) else installed(what)


def load_all(whats: Iterable[str], warn: Warn) -> list[Module]:
    """The modules for several, each with the installed sets that it names behind it.

    Raises Mistakes, Unusable.
    """
    modules = []
    for what in whats:
        module = load(what, warn)
        modules.append(module)
        modules += [_load(installed(name), name, warn) for name in module.description.sets]
    return modules


def _load(path: Path, what: str, warn: Warn) -> Module:
    if path.suffix == ".toml":
        built = build(path, what if path == Path(what) else None)
        if built.messages:
            warn(built.messages)
        return built.module
    try:
        return Module(path.read_bytes())
    except OSError as error:
        raise Unusable(f"{what}: {error.strerror}; check the file") from None
    except Unusable as error:
        raise Unusable(f"{what}: {error}") from None


def check_together(modules: Sequence[Module]) -> None:
    """Raises Mistakes for what two modules take over, and for cycles between functions."""
    mistakes = []
    first: dict[str, Place] = {}
    for module in modules:
        for call in module.description.calls:
            place = Place(call.file, call.line)
            other = first.setdefault(call.name, place)
            if other is not place:
                mistakes.append(_twice(f"the system call {call.name}", place, other))
    taken: dict[Hashable, TakenFunction] = {}
    for module in modules:
        for function in module.description.functions:
            if function.symbol:
                key = (function.name, function.library)
                known = taken.setdefault(key, function)
                if known is not function:
                    what = f"the function {function.name}"
                    mistakes.append(_twice(what, function.place, known.place))
    if mistakes:
        raise Mistakes(mistakes)
    by_name: dict[Hashable, TakenFunction] = {f.name: f for f in taken.values()}
    check_cycles(by_name, {f.name: f.uses for f in taken.values()})


def _twice(what: str, place: Place, other: Place) -> Mistake:
    return Mistake(place, f"{what} is taken over twice, also at {other}; take one of them out")


def check_cycles(
    taken: Mapping[Hashable, TakenFunction], uses: Mapping[Hashable, Iterable[Hashable]]
) -> None:
    """Raises Mistakes if a function that is taken over ends up calling itself."""
    mistakes = []
    reported: set[Hashable] = set()
    for start in taken:
        path = _cycle(start, uses, taken)
        if path and not reported & set(path):
            reported |= set(path)
            shown = " -> ".join(taken[key].name for key in [*path, path[0]])
            hint = (
                "the function that is called instead calls it again; return AK_FALLBACK to have"
                " the original called"
            )
            mistakes.append(Mistake(taken[start].place, f"a cycle: {shown}: {hint}"))
    if mistakes:
        raise Mistakes(mistakes)


def _cycle(
    start: Hashable, uses: Mapping[Hashable, Iterable[Hashable]], taken: Iterable[Hashable]
) -> list[Hashable] | None:
    known = set(taken)
    paths = [[start]]
    seen: set[Hashable] = set()
    while paths:
        path = paths.pop()
        for used in uses.get(path[-1], ()):
            if used == start:
                return path
            if used in known and used not in seen:
                seen.add(used)
                paths.append([*path, used])
    return None


def resolve(modules: Sequence[Module], program: Program, warn: Warn) -> list[Taken]:
    """Where in the program the modules' functions are. Raises Mistakes, Unusable."""
    mistakes: list[Mistake] = []
    found: list[Taken] = []
    for number, module in enumerate(modules):
        functions = module.description.functions
        needed: set[str] = set()
        # What is imported for functions that are not taken over need not be there.
        for function in sorted(functions, key=lambda function: not function.symbol):
            if not function.symbol and function.name not in needed:
                continue
            taken = find(number, function, program)
            if isinstance(taken, Taken):
                found.append(taken)
                needed.update(function.uses)
                if function.symbol and not function.optional:
                    _warn_unused(taken, program, warn)
            elif not function.optional:
                mistakes.append(taken)
    mistakes += _same_place(found)
    if mistakes:
        raise Mistakes(mistakes)
    _check_resolved_cycles(found)
    return found


def find(number: int, function: TakenFunction, program: Program) -> Taken | Mistake:
    """A function of a module in the program, or why it is of no use."""
    name, place = function.name, function.place
    if function.new:
        hint = "build a fat binary with it, or take it out"
        return Mistake(place, f"{name} is new: only linked programs can call it; {hint}")
    try:
        found = program.find(name, function.library)
    except Unusable as error:
        return Mistake(place, str(error))
    if not found:
        hint = similar(name, program.defined()) or "; see nm -D of its libraries"
        return Mistake(place, f"no file of {program.path} has a function {name}{hint}")
    taken = Taken(number, function, found)
    return _unsuitable(taken) or taken


def _warn_unused(taken: Taken, program: Program, warn: Warn) -> None:
    name, place = taken.function.name, taken.function.place
    later = taken.found.file not in program.files  # of a library that it loads by itself
    if not later and not program.uses(name):
        warn(
            f"{place}: warning: no file of {program.path} imports {name}; only calls within"
            f" {taken.found.file.name} are taken over"
        )


def _unsuitable(taken: Taken) -> Mistake | None:
    function, where = taken.function, taken.found
    if not function.symbol:
        return None
    try:
        taken.beginning()
        return None
    except Unusable as error:
        who = "its resolver (it is an IFUNC)" if where.function.indirect else "it"
        text = (
            f"{function.name} in {where.file.name} cannot be taken over: {who} {error}; {INSTEAD}"
        )
        return Mistake(function.place, text)


def describe(taken: Taken) -> str:
    """How a function of the program is taken over, or called."""
    function, where = taken.function, taken.found
    if where.function.indirect:
        what = "is called" if not function.symbol else "is taken over, whoever calls it"
        return f"in {where.file.name}, an IFUNC: what its resolver chooses {what}"
    if function.symbol:
        size = len(taken.beginning().code)
        return f"in {where.file.name}: a jump takes the place of its first {size} bytes"
    return f"in {where.file.name}"


def _key(taken: Taken) -> Hashable:
    return id(taken.found.file), taken.found.function.address


def _same_place(found: Sequence[Taken]) -> Iterable[Mistake]:
    first: dict[Hashable, Taken] = {}
    for taken in found:
        if taken.function.symbol:
            other = first.setdefault(_key(taken), taken)
            if other is not taken:
                name, where = taken.function.name, taken.found.file.name
                what = f"{name} is {other.function.name} in {where} and"
                yield _twice(what, taken.function.place, other.function.place)


def _check_resolved_cycles(found: Sequence[Taken]) -> None:
    taken = {_key(t): t.function for t in found if t.function.symbol}
    keys = {(t.module, t.function.name): _key(t) for t in found}
    uses = {
        _key(t): [keys[t.module, name] for name in t.function.uses if (t.module, name) in keys]
        for t in found
        if t.function.symbol
    }
    check_cycles(taken, uses)


def load_together(whats: Iterable[str], warn: Warn) -> list[Module]:
    """load_all() of what is to be used at the same time. Raises Mistakes, Unusable."""
    modules = load_all(whats, warn)
    check_together(modules)
    return modules


def make_blob(whats: Sequence[str], program: str, warn: Warn, kept: Kept) -> bytes:
    """What the core gets (core/abi/override.h). Raises Mistakes, Unusable.

    whats: TOML files, built modules and sets' names; program: the program's file;
    warn: called with lines that the user should see; kept: where the result is kept, unless there
    were such lines, or a compiler had a part in it.
    """
    warnings: list[str] = []

    def tell(line: str) -> None:
        warnings.append(line)
        warn(line)

    modules = load_together(whats, tell)
    functions = any(module.description.functions for module in modules)
    user = Program(program) if functions else None
    content = assemble(modules, resolve(modules, user, tell) if user else [])
    descriptions = [module.description for module in modules]
    # What libraries that are named by their paths would depend on is not known.
    by_path = any("/" in (f.library or "") for d in descriptions for f in d.functions)
    if not warnings and not by_path and not any(d.inputs for d in descriptions):
        sets = [name for d in descriptions for name in d.sets]
        loaded = [file.path for file in user.files] if user else []
        read = [*map(str, [*map(_file, whats), *map(installed, sets)]), *loaded]
        kept.keep(content, read, user.files[0].interpreter if user else None, loaded[1:])
    return content
