"""TOML files and C of overrides, and programs for them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cffi
import pytest

from multiverse.core import core_header

INCLUDES = "#include <aerokernel.h>\n#include <aerokernel/override.h>\n"
CALL = '[[syscall]]\nname = "getpid"\ncall = "f()"\n'
F = "static int64_t f(void) { return 1; }\n"

Write = Callable[..., Path]


def no_warning(line: str) -> None:
    raise AssertionError(line)


# The second one tells mistakes in other words, of the same lines.
COMPILERS = ["cc", "clang"]


def use_compiler(monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    monkeypatch.setenv("CC", compiler)


def function(legacy: str, call: str, *more: str) -> str:
    return "\n".join(["[[function]]", f'legacy = "{legacy}"', f'call = "{call}"', *more, ""])


def compiled(tmp_path: Path, name: str, source: str, *flags: str) -> Path:
    (tmp_path / f"{name}.c").write_text(source)
    target = tmp_path / name
    command = ["cc", "-O1", *flags, str(tmp_path / f"{name}.c"), "-o", str(target)]
    # Libraries go behind what uses them.
    command = [w for w in command if not w.startswith("-l")] + [w for w in flags if w[:2] == "-l"]
    subprocess.run(command, check=True, timeout=60)
    return target


def decode(content: bytes) -> tuple[Any, list[Any], list[Any], list[Any]]:
    """A blob's header and tables."""
    ffi: Any = cffi.FFI()
    ffi.cdef(core_header("override.h"))
    buffer = ffi.from_buffer(content)
    head = ffi.cast("struct mv_override *", buffer)
    tables = []
    for name in ("call", "file", "function"):
        table = ffi.cast(f"struct mv_override_{name} *", buffer + getattr(head, f"{name}_table"))
        tables.append([table[i] for i in range(getattr(head, f"{name}s"))])
    answered, files, functions = tables
    return head, answered, files, functions
