"""Which ELF files Linux and the dynamic linker load for a program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from multiverse.overrides.errors import Unusable

TIMEOUT = 30  # seconds
SCRIPTS_MAX = 4  # interpreters of interpreters, as in Linux
_LIBRARY = re.compile(r"\s*(?:\S+ => )?(/.+) \(0x[0-9a-f]+\)$")


def past_scripts(path: str) -> str:
    """The ELF file that executes a program. Raises Unusable."""
    for _ in range(SCRIPTS_MAX):
        try:
            with open(path, "rb") as file:
                line = file.readline(256)
        except OSError as error:
            raise Unusable(f"{path}: {error.strerror}; check the file") from None
        if not line.startswith(b"#!"):
            return path
        words = os.fsdecode(line[2:]).split()
        if not words:
            raise Unusable(f"{path}: a script without an interpreter; name one in its first line")
        path = words[0]
        if os.path.basename(path) == "env":
            commands = [w for w in words[1:] if not w.startswith("-") and "=" not in w]
            path = _in_path(commands[0]) if commands else path
    raise Unusable(f"{path}: too many scripts that are interpreters; give a program")


def _in_path(name: str) -> str:
    return shutil.which(name) or name


def libraries(interpreter: str, path: str) -> list[str]:
    """What the dynamic linker would load, preloaded libraries and itself included.

    Raises Unusable.
    """
    # Its real path: that is what $ORIGIN means to the dynamic linker of a program that runs.
    command = [interpreter, "--list", os.path.realpath(path)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or f"no end after {TIMEOUT} s"
        raise Unusable(f"{interpreter}: {reason}; {path} cannot be started") from None
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise Unusable(f"{path}: its libraries cannot be found: {last}; check the installation")
    matches = (_LIBRARY.match(line) for line in done.stdout.split("\n"))
    found = (os.path.realpath(match[1]) for match in matches if match)
    own = os.path.realpath(path)
    return [library for library in dict.fromkeys(found) if library != own]
