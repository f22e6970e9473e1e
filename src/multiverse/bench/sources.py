"""The sources of the benchmark programs: in the checkout that this runs from, or in the package."""

from __future__ import annotations

import importlib.resources
from importlib.resources.abc import Traversable
from pathlib import Path

from multiverse.bench.errors import BenchError


def read(directory: str, name: str) -> bytes:
    """The contents of one source file.

    Args:
        directory: the directory below ``benchmarks/``: ``racket`` or ``micro``.
        name: the file's name in it.

    Raises:
        BenchError: the file is nowhere to be found.
    """
    # src/multiverse/bench/sources.py: the checkout is three above the directory that this file is
    # in. In an installation there is no such directory there, and the sources are inside the
    # package.
    checkout = Path(__file__).resolve().parents[3] / "benchmarks"
    installed = importlib.resources.files("multiverse").joinpath("_benchmarks")
    roots: tuple[Traversable, ...] = (checkout, installed)
    for root in roots:
        candidate = root.joinpath(directory).joinpath(name)
        if candidate.is_file():
            return candidate.read_bytes()
    raise BenchError(
        f"find the benchmark: {directory}/{name}",
        "it is neither in a checkout nor in the installed package",
        "install multiverse again",
    )
