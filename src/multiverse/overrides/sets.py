"""Sets of overrides that come with Multiverse, and what a user names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multiverse.core import core_path
from multiverse.overrides.definition import read
from multiverse.overrides.errors import Mistakes, Unusable, similar

#: Of a set's module, which is beside its TOML file, and of those that a user builds.
MODULE_SUFFIX = ".override"


@dataclass(frozen=True)
class Set:
    """An installed set.

    Attributes:
        syscalls: system calls that it answers, or some of them.
        functions: functions that it takes over.
        watched: system calls that it is told of before Linux answers.
    """

    name: str
    summary: str
    syscalls: tuple[str, ...]
    functions: tuple[str, ...]
    watched: tuple[str, ...] = ()


def directory() -> Path:
    return core_path().parent.with_name("_overrides")


def names() -> list[str]:
    """Names of the installed sets, without looking into them."""
    return sorted(
        path.stem for path in directory().glob("*/*.toml") if path.stem == path.parent.name
    )


def sets() -> list[Set]:
    """The installed sets. Raises Mistakes if one is damaged."""
    found = []
    for name in names():
        definition = read(_toml(name), f"{name}.toml")
        if definition.mistakes:
            raise Mistakes(definition.mistakes)
        calls = {call.name: call.result == "linux" for call in definition.syscalls}
        found.append(
            Set(
                name,
                definition.summary,
                tuple(name for name, is_linux in calls.items() if not is_linux),
                tuple(function.prototype.name for function in definition.functions),
                tuple(name for name, is_linux in calls.items() if is_linux),
            )
        )
    return found


def _toml(name: str) -> Path:
    return directory() / name / f"{name}.toml"


def installed(name: str) -> Path:
    """The file of an installed set: its module, or if that was not built, its TOML file.

    Raises Unusable.
    """
    if name not in names():
        there = ", ".join(names()) or "none"
        hint = similar(name, names())
        raise Unusable(f"{name}: not an installed set{hint} (installed: {there})")
    module = _toml(name).with_suffix(MODULE_SUFFIX)
    return module if module.is_file() else _toml(name)


def locate(what: str) -> Path:
    """The file for a file's or a set's name. Raises Unusable."""
    path = Path(what)
    if path.is_file():
        return path
    if "/" not in what and not path.suffix:
        if _toml(what).is_file():
            return _toml(what)
        there = ", ".join(names()) or "none"
        hint = similar(what, names())
        raise Unusable(f"{what}: neither a file nor an installed set{hint} (installed: {there})")
    reason = "is a directory" if path.is_dir() else "not found"
    raise Unusable(f"{what}: {reason}; give a TOML file, a built module or a set's name")
