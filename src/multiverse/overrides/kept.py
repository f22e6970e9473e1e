"""Blobs that have been assembled before, in the user's cache. Importing this takes little."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from multiverse import __version__
from multiverse.core import core_path
from multiverse.overrides.errors import Unusable
from multiverse.overrides.loading import libraries, past_scripts

ENTRIES_MAX = 64
FRESH_NS = 10**9  # longer than a tick, by which a file's times may be late
DIGEST_BYTES = 32


def cache_directory() -> Path | None:
    """Where modules and blobs are kept; None if nothing can be."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    # No home is made for a user that has none.
    usable = os.path.isabs(home) and os.path.isdir(os.path.dirname(home))
    return Path(home, "multiverse", "overrides") if usable else None


def _state(path: str) -> list[Any]:
    """What changes whenever a file's content does. Raises OSError."""
    s = os.stat(path)
    return [path, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns]


def _installation() -> list[Any]:
    """Multiverse itself, as far as blobs are made by it."""
    with os.scandir(Path(__file__).parent) as entries:
        code = sorted(entry.path for entry in entries if entry.name.endswith(".py"))
    return [
        __version__,
        *map(_state, [*code, str(core_path()), str(core_path().parent / "override.h")]),
    ]


class Kept:
    """The place of one blob in the cache.

    It is found by the overrides' names and the program's, and is good as long as Multiverse and
    every file that was read are what they were, and the dynamic linker finds the same libraries.
    """

    def __init__(self, whats: Iterable[str], program: str) -> None:
        """whats, program: as for blob()."""
        self._begin = time.time_ns()
        self._place: Path | None = None
        self._program = program
        directory = cache_directory()
        with contextlib.suppress(Unusable):
            self._program = past_scripts(program)
            if directory:
                self._place = directory / "blobs" / self._name(whats)

    def _name(self, whats: Iterable[str]) -> str:
        names = [os.path.abspath(what) if os.path.isfile(what) else [what] for what in whats]
        key = json.dumps([names, os.path.abspath(self._program)])
        return hashlib.sha256(os.fsencode(key)).hexdigest()

    def recall(self) -> bytes | None:
        """The blob, if it is there and good. A damaged one is as none."""
        try:
            return self._recall()
        except (OSError, ValueError, TypeError, KeyError, Unusable):
            return None

    def _recall(self) -> bytes | None:
        if not self._place:
            return None
        with open(self._place, "rb") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():  # of a user who has become root
                return None
            content = file.read()
        if hashlib.sha256(content[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:
            return None
        head, _, blob = content[DIGEST_BYTES:].partition(b"\n")
        made = json.loads(head)
        if made["by"] != _installation() or any(_state(each[0]) != each for each in made["of"]):
            return None
        if made["interpreter"]:
            found = libraries(made["interpreter"], self._program)
            if found != made["libraries"]:
                return None
        return blob

    def keep(
        self, blob: bytes, files: Iterable[str], interpreter: str | None, loaded: list[str]
    ) -> None:
        """Keep a blob that has just been made, if that is possible.

        files: all that it was made of; interpreter, loaded: the program's dynamic linker, and what
        that found, if this matters.
        """
        from multiverse.files import write_whole

        with contextlib.suppress(OSError, ValueError):
            of = [_state(os.path.abspath(path)) for path in files]
            if not self._place or any(each[-1] > self._begin - FRESH_NS for each in of):
                return  # it may have changed since it was read
            made = {
                "by": _installation(),
                "of": of,
                "interpreter": interpreter,
                "libraries": loaded,
            }
            content = json.dumps(made).encode() + b"\n" + blob
            directory = self._place.parent
            directory.mkdir(parents=True, exist_ok=True)
            write_whole(self._place, hashlib.sha256(content).digest() + content)
            entries = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            for old in entries[:-ENTRIES_MAX]:
                old.unlink()
