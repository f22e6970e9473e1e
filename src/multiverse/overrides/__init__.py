"""Overrides: C functions that take over system calls and functions of unmodified programs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable


def blob(
    paths_or_names: Iterable[str], program: str, warn: Callable[[str], None] = lambda _: None
) -> bytes:
    """What `override=` of the core's configuration takes: core/abi/override.h.

    paths_or_names: TOML files, built modules and names of installed sets; program: its file, which
    may be a script; warn: called with lines that are for the user.
    Raises multiverse.overrides.errors.Mistakes for mistakes in TOML files, and Unusable for the
    rest.
    """
    from multiverse.overrides.kept import Kept

    whats = list(paths_or_names)
    kept = Kept(whats, program)
    content = kept.recall()
    if content is None:
        from multiverse.overrides.plan import make_blob

        content = make_blob(whats, program, warn, kept)
    return content


def sealed(content: bytes) -> int:
    """A file in memory with a blob in it, for the core, which inherits the descriptor.

    Raises OSError.
    """
    fd = os.memfd_create("multiverse-overrides", os.MFD_ALLOW_SEALING)
    with open(fd, "wb", closefd=False) as file:
        file.write(content)
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
