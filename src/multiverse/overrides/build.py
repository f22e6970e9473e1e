"""From a TOML file and its C to a module; results are kept in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from elftools.common.exceptions import ELFError

from multiverse import __version__
from multiverse.core import core_path
from multiverse.files import write_whole
from multiverse.overrides import compiler, described
from multiverse.overrides.definition import Definition, Override, only_names_sets, read
from multiverse.overrides.errors import Mistake, Mistakes, Place, Unusable, similar
from multiverse.overrides.kept import cache_directory
from multiverse.overrides.module import (
    NOTE_SECTION,
    NOTE_TYPE,
    OWNER,
    Description,
    Module,
    TakenCall,
    TakenFunction,
)
from multiverse.overrides.wrappers import (
    ERRNO,
    GENERATED,
    Called,
    Wrappers,
    check_call,
    falls_back,
    generate,
    probe,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Built:
    """A module, its bytes, and what the compiler had to say about the user's C.

    There are no bytes of a module without code that is not to be kept.
    """

    module: Module
    content: bytes
    messages: str = ""


@dataclass(frozen=True)
class Checked:
    """A definition without mistakes as far as the compiler's probe can tell, and its wrappers."""

    definition: Definition
    called: dict[str, Called]
    wrappers: Wrappers


class _Work:
    """One TOML file on its way."""

    def __init__(self, definition: Definition, name: str, directory: str) -> None:
        self.definition = definition
        self.name = name
        self.directory = directory
        self.include = str(definition.path.parent.absolute())
        self.messages = ""

    def compile_c(self, wrappers: Wrappers, output: str, *options: str) -> compiler.Said:
        source = os.path.join(self.directory, GENERATED)
        text = wrappers.source(with_lines=True)
        Path(source).write_text(text, encoding="utf-8", errors="surrogateescape")
        if self.definition.syscalls:
            options += (compiler.GENERAL_REGISTERS,)
        said = compiler.compile_c(
            GENERATED, output, self.name, self.include, options, self.directory
        )
        self.messages = said.text
        if said.errors:
            raise Unusable(f"{said.text}\n{self.name}: its C does not compile; see above")
        return said

    def functions(self) -> tuple[dict[str, Called], list[Mistake]]:
        """What the called functions are; mistakes for those that there are not."""
        places: dict[str, Place] = {}
        for override in self.definition.overrides:
            places.setdefault(override.call.function or "", override.call_place)
        mistakes: list[Mistake] = []
        while True:
            said = self.compile_c(probe(self.definition, places), "probe.o")
            if not said.failed:
                break
            mistakes += said.mistakes
            lines = {mistake.place for mistake in said.mistakes}
            left = {name: place for name, place in places.items() if place not in lines}
            if len(left) == len(places):
                raise Mistakes([*mistakes, *self.definition.mistakes])
            places = left
        try:
            dies = described.described(Path(self.directory, "probe.o").read_bytes(), "mv_probe_")
        except ELFError:
            hint = "thread-local variables are not for modules; use ak_cpu_get()"
            raise Unusable(f"{self.name}: its debug information cannot be read; {hint}") from None
        found: dict[str, Called] = {}
        for i, (name, place) in enumerate(places.items()):
            function = described.called(name, dies.get(f"mv_probe_{i}"))
            if function:
                found[name] = function
            else:
                mistakes.append(Mistake(place, f"call: {name} is not a function"))
        return found, mistakes

    def check(self) -> Checked:
        definition = self.definition
        if not definition.compilable:
            raise Mistakes(definition.mistakes)
        try:
            called, mistakes = self.functions()
        except Unusable as error:
            lines = [*map(str, sorted(definition.mistakes)), str(error)]
            raise type(error)("\n".join(lines)) from None
        mistakes += definition.mistakes
        for override in definition.overrides:
            if override.call.function in called:
                mistakes += check_call(override, called[override.call.function])
        wrong = {mistake.place for mistake in mistakes}

        def good(override: Override) -> bool:
            places = {override.call_place, override.result_place}
            return override.call.function in called and not wrong & places

        # The rest is compiled all the same, so that all mistakes are found.
        rest = replace(
            definition,
            syscalls=[call for call in definition.syscalls if good(call)],
            functions=[function for function in definition.functions if good(function)],
        )
        wrappers = generate(rest, called)
        said = self.compile_c(wrappers, "wrappers.o", "-MMD", "-MF", "inputs.d")
        mistakes += map(self.with_parameters, said.mistakes)
        if mistakes:
            raise Mistakes(mistakes)
        return Checked(definition, called, wrappers)

    def with_parameters(self, mistake: Mistake) -> Mistake:
        """The compiler suggests names that it knows; which those can be is known here."""
        found = re.match(r"'(\w+)' undeclared|use of undeclared identifier '(\w+)'", mistake.text)
        for override in self.definition.overrides if found else ():
            if mistake.place in (override.call_place, override.when_place, override.result_place):
                names = override.prototype.names
                hint = similar(found[1] or found[2], names) if found else ""
                hint = hint or f"; the parameters are {', '.join(names) or 'none'}"
                return Mistake(mistake.place, mistake.text.partition(";")[0] + hint)
        return mistake

    def build(self, checked: Checked, with_inputs: bool) -> Built:
        description = _describe(checked, self.inputs() if with_inputs else ())
        module = Module(self.link(description))
        self.check_undefined(module)
        originals = {f.original: f.name for f in description.functions if f.original}
        reached = module.reaches(set(originals))
        self.check_calls(description, originals, reached)
        functions = tuple(
            replace(
                function,
                uses=tuple(
                    sorted(
                        originals[name]
                        for name in reached.get(function.symbol or "", ())
                        if name != function.original
                    )
                ),
            )
            for function in description.functions
        )
        content = self.link(replace(description, functions=functions))
        return Built(Module(content), content, self.messages)

    def check_calls(
        self, description: Description, originals: dict[str, str], reached: dict[str, set[str]]
    ) -> None:
        """Answers to system calls are not given on the program's stack."""
        mistakes = []
        for call in description.calls:
            names = sorted(originals[name] for name in reached.get(call.symbol, ()))
            if names:
                what = f"{call.name} cannot be answered by calling {', '.join(names)}"
                hint = "functions of the program are for [[function]] only"
                mistakes.append(Mistake(Place(call.file, call.line), f"{what}; {hint}"))
        if mistakes:
            raise Mistakes(mistakes)

    def link(self, description: Description) -> bytes:
        directory = Path(self.directory)
        note = description.note()
        (directory / "note.json").write_bytes(note)
        (directory / "note.S").write_text(
            f'.section {NOTE_SECTION}, "", @note\n.balign 4\n'
            f".long {len(OWNER) + 1}, {len(note)}, {NOTE_TYPE}\n"
            f'.asciz "{OWNER}"\n.balign 4\n.incbin "note.json"\n.balign 4\n'
            '.section .note.GNU-stack, "", @progbits\n'
        )
        compiler.assemble("note.S", "note.o", self.directory)
        compiler.link(["wrappers.o", "note.o"], "module.o", self.directory)
        return (directory / "module.o").read_bytes()

    def check_undefined(self, module: Module) -> None:
        missing = module.undefined()
        if not missing:
            return
        places = compiler.references(["module.o", "wrappers.o"], self.directory)
        generated = {name for name, at in places.items() if at.startswith(f"{GENERATED}:")}
        named = [
            f"{self.name if name in generated else places.get(name, self.name)}: needs {name},"
            " which is not there"
            for name in missing
        ]
        hint = "a module has the AeroKernel's functions (docs/aerokernel.md) and what its C defines"
        raise Unusable("\n".join(named) + f"\n{self.name}: cannot be loaded; {hint}")

    def inputs(self) -> tuple[tuple[str, str], ...]:
        """What the compiler has read, the generated file aside."""
        text = os.fsdecode(Path(self.directory, "inputs.d").read_bytes()).partition(":")[2]
        # As make reads it.
        for written, meant in (("\\\n", " "), ("\\ ", "\0"), ("$$", "$"), ("\\#", "#")):
            text = text.replace(written, meant)
        words = text.split()
        names = (os.path.join(self.directory, word.replace("\0", " ")) for word in words)
        files = [name for name in names if os.path.basename(name) != GENERATED]
        return tuple((name, _digest(Path(name).read_bytes())) for name in dict.fromkeys(files))


def _describe(checked: Checked, inputs: tuple[tuple[str, str], ...]) -> Description:
    definition, wrappers = checked.definition, checked.wrappers

    def common(override: Override) -> dict[str, Any]:
        called = checked.called[override.call.function or ""]
        return {
            "symbol": wrappers.symbols[override],
            "file": override.place.file,
            "line": override.place.line,
            "call": override.call.text,
            "when": override.when.text if override.when else None,
            "fallback": falls_back(override, called),
            "result": override.result,
            "called": called.text,
        }

    calls = [
        TakenCall(name=c.name, nr=c.nr, prototype=str(c.prototype), channel=c.channel, **common(c))
        for c in definition.syscalls
    ]
    functions = [
        TakenFunction(
            name=f.prototype.name,
            original=wrappers.originals.get(f),
            library=f.library,
            prototype=f.legacy,
            failure=f.failure,
            signal_safe=f.signal_safe,
            optional=f.optional,
            new=f.new,
            **common(f),
        )
        for f in definition.functions
    ]
    functions += [
        TakenFunction(
            name=i.prototype.name,
            symbol=None,
            original=wrappers.originals[i],
            library=i.library,
            file=i.place.file,
            line=i.place.line,
            prototype=i.legacy,
        )
        for i in definition.imports
    ]
    if wrappers.errno:
        first = next(f for f in definition.functions if f.result == "errno")
        functions.append(
            TakenFunction(
                name=ERRNO,
                symbol=None,
                original=wrappers.errno,
                library=None,
                file=first.place.file,
                line=first.place.line,
                prototype=f"int *{ERRNO}(void)",
            )
        )
    name = definition.path.stem
    return Description(
        name,
        definition.summary,
        __version__,
        tuple(calls),
        tuple(functions),
        inputs,
        tuple(definition.sets),
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def check(path: Path, name: str | None = None) -> Checked:
    """Read a TOML file and compile its C. Raises Mistakes, Unusable."""
    return _with_work(path, name, lambda work: work.check())


def build(path: Path, name: str | None = None, cache: bool = True) -> Built:
    """Make a module of a TOML file, or take it from the cache. Raises Mistakes, Unusable.

    name: what messages call the file; cache: it is for use here and now, not to be kept: a file
    that only names sets needs no compiler then.
    """
    name = name or str(path)
    if cache and only_names_sets(path):
        definition = read(path, name)
        if definition.mistakes:
            raise Mistakes(definition.mistakes)
        return Built(Module.without_code(_describe(Checked(definition, {}, Wrappers()), ())), b"")
    place = _cache_place(path, name) if cache and path.is_file() else None
    if place:
        with contextlib.suppress(OSError, Unusable):
            content = place.read_bytes()
            module = Module(content)
            if all(_digest(Path(p).read_bytes()) == d for p, d in module.description.inputs):
                return Built(module, content)
    built = _with_work(path, name, lambda work: work.build(work.check(), with_inputs=cache))
    if place:
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, built.content)
    return built


def _with_work(path: Path, name: str | None, step: Callable[[_Work], T]) -> T:
    name = name or str(path)
    definition = read(path, name)
    with tempfile.TemporaryDirectory(prefix="multiverse-override-") as directory:
        return step(_Work(definition, name, directory))


def _cache_place(path: Path, name: str) -> Path | None:
    """Where the module of a TOML file is kept; None if nothing can be."""
    directory = cache_directory()
    if not directory:
        return None
    try:
        parts = [
            __version__.encode(),
            os.fsencode(compiler.identity()),
            repr((compiler.COMPILE, compiler.LINK)).encode(),
            os.fsencode(path.absolute()),
            os.fsencode(name),
            path.read_bytes(),
            core_path().with_name("libaerokernel.a").read_bytes(),
            core_path().with_name("liboverride.a").read_bytes(),
        ]
    except OSError:
        return None
    key = hashlib.sha256()
    for part in parts:
        key.update(len(part).to_bytes(8, "little") + part)
    return directory / f"{key.hexdigest()}.o"
