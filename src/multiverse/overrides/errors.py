"""Mistakes in what a user wrote, and what else can go wrong with overrides."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Place:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, order=True)
class Mistake:
    """What is wrong somewhere, and what to do about it."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class Mistakes(Exception):
    """One or more mistakes; they are sorted by file and line."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = sorted(set(mistakes))
        super().__init__("\n".join(map(str, self.mistakes)))


class Unusable(Exception):
    """Something that is nobody's mistake in a line: what failed, on what, what to do."""


class NoCompiler(Unusable):
    """There is nothing to compile with."""


def similar(word: str, words: Iterable[str]) -> str:
    """`, did you mean X?` if one of the words is near, else nothing."""
    near = difflib.get_close_matches(word, list(words), 1)
    return f"; did you mean {near[0]}?" if near else ""
