"""A set of overrides as its TOML file defines it. Everything wrong in the file is found at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiverse.overrides import calls
from multiverse.overrides.errors import Mistake, Mistakes, Place, Unusable, similar
from multiverse.overrides.prototypes import (
    IDENTIFIER,
    Expression,
    Malformed,
    Prototype,
    expression,
    prototype,
)

#: What each table may have, and of which type.
KEYS: dict[str, dict[str, type]] = {
    "": {"summary": str, "sets": list, "sources": list, "headers": list, "types": dict,
         "syscall": list, "function": list, "import": list},
    "syscall": {"name": str, "names": list, "legacy": str, "call": str, "when": str,
                "fallback": bool, "result": str, "channel": str},
    "function": {"legacy": str, "library": str, "call": str, "when": str, "fallback": bool,
                 "result": str, "failure": str, "signal_safe": bool, "optional": bool,
                 "new": bool},
    "import": {"legacy": str, "library": str},
}  # fmt: skip
REQUIRED = {"syscall": ("call",), "function": ("legacy", "call"), "import": ("legacy",)}
CHANNELS = ("auto", "async")
RESULTS = {
    "syscall": ("value", "error", "none", "linux"),
    "function": ("value", "errno", "error", "none"),
}
#: Characters that a preprocessor would not take for part of a name.
NOT_IN_NAMES = re.compile(r'["\\\x00-\x1f]')
NAMES = {str: "a string", list: "an array", dict: "a table", bool: "true or false"}


@dataclass(frozen=True)
class Override:
    """A system call or a function that is taken over."""

    place: Place
    call_place: Place  # of `call`
    when_place: Place
    result_place: Place
    prototype: Prototype
    call: Expression
    when: Expression | None
    fallback: bool | None  # None: if the called function's result can say so
    result: str  # a word of RESULTS, or an expression of `result`


@dataclass(frozen=True)
class Syscall(Override):
    name: str
    nr: int
    wrapper: int  # the call that has the wrapper of all calls of an entry: the first
    channel: str  # a word of CHANNELS: which way it goes where the function falls back


@dataclass(frozen=True)
class Function(Override):
    legacy: str  # the prototype as it is written
    library: str | None
    failure: str | None
    signal_safe: bool
    optional: bool  # if it cannot be taken over nothing is lost
    new: bool


@dataclass(frozen=True)
class Import:
    place: Place
    prototype: Prototype
    legacy: str
    library: str | None


@dataclass
class Definition:
    """What a TOML file says."""

    path: Path
    summary: str = ""
    sets: list[str] = field(default_factory=list)  # installed ones that go with it
    sources: list[Path] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    syscalls: list[Syscall] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)  # in the rest of the file
    compilable: bool = True  # what the rest needs of the C is there

    @property
    def overrides(self) -> list[Override]:
        return [*self.syscalls, *self.functions]


def statements(text: str) -> list[tuple[int, list[str], bool]]:
    """Line, keys and kind (True: a table's header) of the statements of a valid TOML text.

    A statement is the fewest lines that are TOML by themselves.
    """
    found = []
    lines = text.split("\n")
    begin = 0
    while begin < len(lines):
        if not lines[begin].strip() or lines[begin].lstrip().startswith("#"):
            begin += 1
            continue
        for end in range(begin + 1, len(lines) + 1):
            try:
                value: Any = tomllib.loads("\n".join(lines[begin:end]))
            except tomllib.TOMLDecodeError:
                continue
            keys = []
            while isinstance(value, dict) and len(value) == 1:
                keys.append(next(iter(value)))
                value = value[keys[-1]]
                if isinstance(value, list) and value == [{}]:
                    break
            found.append((begin + 1, keys, lines[begin].lstrip().startswith("[")))
            begin = end
            break
        else:
            break
    return found


class _Lines:
    """Where the keys of a file are."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.tables: dict[tuple[str, int], int] = {}
        self.keys: dict[tuple[str, int, str], int] = {}
        counts: dict[str, int] = {}
        table, index = "", 0
        for line, keys, header in statements(text):
            if header:
                table = keys[0] if keys else ""
                index = counts.get(table, 0)
                counts[table] = index + 1
                self.tables[table, index] = line
            elif keys:
                self.keys.setdefault((table, index, keys[0]), line)

    def place(self, table: str, index: int, key: str | None = None) -> Place:
        """A key's line, or its table's."""
        whole = self.tables.get((table, index)) or self.keys.get(("", 0, table)) or 1
        return Place(self.file, self.keys.get((table, index, key or ""), whole))


class _Reader:
    def __init__(self, path: Path, name: str) -> None:
        self.file = name
        self.result = Definition(path)
        self.mistakes = self.result.mistakes
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise Unusable(f"{name}: {error.strerror}; check the name") from None
        except UnicodeDecodeError:
            raise Mistakes([Mistake(Place(name, 1), "not UTF-8 text; save it as UTF-8")]) from None
        try:
            self.data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise Mistakes([self._not_toml(str(error), text)]) from None
        except RecursionError:
            raise Mistakes([Mistake(Place(name, 1), "nested too deeply; write it flat")]) from None
        self.lines = _Lines(name, text)

    def _not_toml(self, message: str, text: str) -> Mistake:
        what, _, where = message.rpartition(" (at ")
        found = re.match(r"line (\d+)", where)
        line = int(found[1]) if found else text.rstrip().count("\n") + 1
        return Mistake(Place(self.file, line), f"not TOML: {what or message}; see https://toml.io")

    def wrong(self, place: Place, text: str) -> None:
        self.mistakes.append(Mistake(place, text))

    def read(self) -> Definition:
        self.check_keys("", 0, self.data)
        result = self.result
        result.summary = self.data.get("summary", "")
        self.read_sets()
        before = len(self.mistakes)
        self.read_files()
        self.read_types()
        result.compilable = len(self.mistakes) == before
        readers: dict[str, Callable[[int, dict[str, Any]], None]] = {
            "syscall": self.read_syscall,
            "function": self.read_function,
            "import": self.read_import,
        }
        for table, read in readers.items():
            for i, entry in enumerate(self.data.get(table, ())):
                if not isinstance(entry, dict):
                    self.wrong(self.lines.place(table, i), f"not a table; write [[{table}]]")
                elif self.check_keys(table, i, entry):
                    read(i, entry)
        if not any(self.data.get(key) for key in ("sets", "syscall", "function")):
            hint = "add [[syscall]], [[function]] or sets"
            self.wrong(Place(self.file, 1), f"overrides nothing; {hint}")
        self.check_twice()
        self.check_floating()
        return result

    def check_keys(self, table: str, index: int, entry: dict[str, Any]) -> bool:
        """Keys and their types. @return whether the entry can be read."""
        before = len(self.mistakes)
        where = f"[[{table}]]" if table else "the file"
        for key in list(entry):
            place = self.lines.place(table, index, key) if table else self.lines.place(key, 0)
            wanted = KEYS[table].get(key)
            if wanted is None:
                hint = similar(key, KEYS[table]) or f"; it can be {', '.join(KEYS[table])}"
                self.wrong(place, f"unknown key {key} in {where}{hint}")
            elif not isinstance(entry[key], wanted):
                self.wrong(place, f"{key} has to be {NAMES[wanted]}")
                del entry[key]
        for key in REQUIRED.get(table, ()):
            if key not in entry and len(self.mistakes) == before:
                self.wrong(self.lines.place(table, index), f"{where} has no {key}; add it")
        return len(self.mistakes) == before

    def read_sets(self) -> None:
        # Late: that module reads the sets' own files with this one.
        from multiverse.overrides.sets import names

        place = self.lines.place("sets", 0)
        there = names()
        for name in self.data.get("sets", ()):
            if not isinstance(name, str):
                self.wrong(place, "sets has to be an array of names of installed sets")
            elif name not in there:
                hint = similar(name, there) or f"; there are {', '.join(there) or 'none'}"
                self.wrong(place, f"no set {name} is installed{hint}")
            elif name in self.result.sets:
                self.wrong(place, f"{name} is in sets twice; take one out")
            else:
                self.result.sets.append(name)

    def read_files(self) -> None:
        place = self.lines.place("sources", 0)
        path = self.result.path
        beside = path.with_suffix(".c")
        sources = self.data.get("sources", [beside.name] if beside.exists() else [])
        headers = self.data.get("headers", [])
        for name in sources:
            if not isinstance(name, str) or NOT_IN_NAMES.search(name) or name.startswith("/"):
                self.wrong(place, "sources has to be an array of file names, as x.c")
            elif not (path.parent / name).is_file():
                self.wrong(place, f"no file {name} beside {path.name}; check the name")
            else:
                self.result.sources.append(path.parent / name)
        place = self.lines.place("headers", 0)
        for name in headers:
            if not isinstance(name, str) or NOT_IN_NAMES.search(name):
                self.wrong(place, "headers has to be an array of names, as x.h or <linux/x.h>")
            else:
                self.result.headers.append(name)

    def read_types(self) -> None:
        place = self.lines.place("types", 0)
        for name, text in self.data.get("types", {}).items():
            if not isinstance(text, str) or not IDENTIFIER.fullmatch(name):
                self.wrong(place, f'types.{name} has to be as my_t = "unsigned long"')
                continue
            try:
                prototype(f"void mv_f({text} *x)", self.result.types)
            except Malformed as error:
                self.wrong(place, f"types.{name}: {error}")
            else:
                self.result.types[name] = text

    def prototype(self, place: Place, text: str) -> Prototype | None:
        try:
            return prototype(text, self.result.types)
        except Malformed as error:
            hint = "" if ";" in str(error) else "; other types are given as types.my_t"
            self.wrong(place, f"legacy: {error}{hint if str(error).startswith('not C') else ''}")
            return None

    def expression(self, place: Place, key: str, text: str) -> Expression | None:
        try:
            return expression(text, self.result.types)
        except Malformed as error:
            self.wrong(place, f"{key}: {error}; write a C expression")
            return None

    def common(self, table: str, index: int, entry: dict[str, Any]) -> dict[str, Any] | None:
        """What system calls and functions have in common."""

        def place(key: str) -> Place:
            return self.lines.place(table, index, key)

        call = self.expression(place("call"), "call", entry["call"])
        when = self.expression(place("when"), "when", entry["when"]) if "when" in entry else None
        if call and not call.function:
            self.wrong(place("call"), "call: not a call; write it as function(argument, ...)")
            call = None
        result = entry.get("result", "value")
        if re.fullmatch(r"\w+", result) and result != "result":
            if result == "errno" and table == "syscall":
                hint = "a system call's result is a negative errno by itself; leave `result` out"
                self.wrong(place("result"), f"result: {hint}")
            elif result not in RESULTS[table]:
                words = RESULTS[table]
                hint = similar(result, words) or f"; it can be {', '.join(words)}"
                self.wrong(place("result"), f"unknown result {result}{hint}, or a C expression")
        else:
            mapping = self.expression(place("result"), "result", result)
            if mapping and "result" not in mapping.names:
                self.wrong(place("result"), "result: the expression does not use `result`")
        if not call:
            return None
        return {
            "place": place(next((k for k in ("name", "names") if k in entry), "legacy")),
            "call_place": place("call"),
            "when_place": place("when"),
            "result_place": place("result" if "result" in entry else "call"),
            "call": call,
            "when": when,
            "fallback": entry.get("fallback"),
            "result": " ".join(result.split()),
        }

    def read_syscall(self, index: int, entry: dict[str, Any]) -> None:
        if ("name" in entry) == ("names" in entry):
            place = self.lines.place("syscall", index, "names" if "names" in entry else None)
            hint = "both name and names; take one out" if "name" in entry else "no name; add it"
            self.wrong(place, f"[[syscall]] has {hint}")
            return
        common = self.common("syscall", index, entry)
        channel = entry.get("channel", "auto")
        if channel not in CHANNELS:
            hint = similar(channel, CHANNELS) or f"; it can be {' or '.join(CHANNELS)}"
            place = self.lines.place("syscall", index, "channel")
            self.wrong(place, f"unknown channel {channel}{hint}")
            return
        if common:
            common["channel"] = channel
        if "name" in entry:
            self.read_call(index, entry, entry["name"], common)
            return
        place = self.lines.place("syscall", index, "names")
        if "legacy" in entry:
            self.wrong(place, "names: several calls have no one prototype; leave legacy out")
        names = entry["names"]
        if not names or any(not isinstance(n, str) or names.count(n) > 1 for n in names):
            self.wrong(place, "names has to be an array of names, each of them once")
            return
        for name in names:
            self.read_call(index, {"legacy": f"long {name}(void)", **entry}, name, common)

    def read_call(
        self, index: int, entry: dict[str, Any], name: str, common: dict[str, Any] | None
    ) -> None:
        """One system call of an entry."""
        place = self.lines.place("syscall", index, "names" if "names" in entry else "name")
        nr = calls.NUMBERS.get(name)
        if nr is None:
            hint = similar(name, calls.NUMBERS) or "; see syscalls(2)"
            self.wrong(place, f"Linux has no system call {name} on x86-64{hint}")
            return
        if name in calls.NOT_ANSWERABLE and entry.get("result") != "linux":
            hint = 'result = "linux" has one called before it'
            self.wrong(place, f"{name} changes what executes; no function can answer it; {hint}")
            return
        if "legacy" in entry:
            place = self.lines.place("syscall", index, "legacy")
            parameters = self.prototype(place, entry["legacy"])
            if parameters and (parameters.floating or len(parameters.parameters) > 6):
                self.wrong(place, "legacy: a system call has at most six integers or pointers")
                return
        else:
            parameters = calls.parameters(name)
            if not parameters:
                hint = f'give them: legacy = "long {name}(...)"'
                self.wrong(place, f"the parameters of {name} are not known here; {hint}")
        if common and parameters:
            first = calls.NUMBERS.get(entry["names"][0], nr) if "names" in entry else nr
            self.result.syscalls.append(
                Syscall(**common, prototype=parameters, name=name, nr=nr, wrapper=first)
            )

    def read_function(self, index: int, entry: dict[str, Any]) -> None:
        place = self.lines.place("function", index, "legacy")
        legacy = self.prototype(place, entry["legacy"])
        common = self.common("function", index, entry)
        new = entry.get("new", False)
        if "failure" in entry and entry.get("result") != "errno":
            self.wrong(
                self.lines.place("function", index, "failure"),
                'failure is what `result = "errno"` returns; add that, or take it out',
            )
        if new and (entry.get("fallback") or "when" in entry or "library" in entry):
            self.wrong(place, "a new function has no legacy: no fallback, when or library")
        if not common or not legacy:
            return
        if legacy.result.kind == "void" and common["result"] not in ("value", "none"):
            self.wrong(common["result_place"], f"result: {legacy.name} returns nothing")
            return
        self.result.functions.append(
            Function(
                **common,
                prototype=legacy,
                legacy=" ".join(entry["legacy"].split()).rstrip("; "),
                library=entry.get("library"),
                failure=entry.get("failure"),
                signal_safe=entry.get("signal_safe", True),
                optional=entry.get("optional", False),
                new=new,
            )
        )

    def read_import(self, index: int, entry: dict[str, Any]) -> None:
        place = self.lines.place("import", index, "legacy")
        legacy = self.prototype(place, entry["legacy"])
        if legacy:
            text = " ".join(entry["legacy"].split()).rstrip("; ")
            self.result.imports.append(Import(place, legacy, text, entry.get("library")))

    def check_twice(self) -> None:
        places: dict[tuple[str, Any], Place] = {}
        named: list[tuple[str, str, Override | Import]] = [
            *(("system call", s.name, s) for s in self.result.syscalls),
            *(("function", f.prototype.name, f) for f in self.result.functions),
            *(("import", i.prototype.name, i) for i in self.result.imports),
        ]
        for kind, name, entry in named:
            library = getattr(entry, "library", None)
            first = places.setdefault((kind, (name, library)), entry.place)
            if first is not entry.place:
                self.wrong(entry.place, f"{name} is here twice, first at {first}; take one out")
                self.take_out(entry)

    def take_out(self, entry: Override | Import) -> None:
        """Leave out what is wrong, so that the rest can be compiled."""
        result = self.result
        result.syscalls = [other for other in result.syscalls if other is not entry]
        result.functions = [other for other in result.functions if other is not entry]
        result.imports = [other for other in result.imports if other is not entry]

    def check_floating(self) -> None:
        for function in list(self.result.functions) if self.result.syscalls else ():
            if function.prototype.floating:
                self.wrong(
                    function.place,
                    f"{function.prototype.name} has floating point, which answers to system calls"
                    " cannot use; put system calls and such functions into two files",
                )
                self.take_out(function)


def only_names_sets(path: Path) -> bool:
    """True if a file is well-formed, and has sets but no overrides of its own."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return bool(data.get("sets")) and not {"syscall", "function", "import"} & data.keys()


def read(path: Path, name: str | None = None) -> Definition:
    """Read a TOML file. name: what messages call it.

    What can be read is in the result, and so are mistakes in the rest.
    Raises Mistakes if it is not TOML at all, Unusable if there is no such file.
    """
    return _Reader(path, name or str(path)).read()
