"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_whole(
    path: Path,
    content: bytes,
    mode: int = 0o600,
    parts: Iterable[tuple[int, bytes]] | None = None,
) -> None:
    """Write a file, or leave what is there.

    A link stays one. What is no regular file, as /dev/null, is written into as it is.

    Args:
        mode: the file's permissions.
        parts: offsets and bytes that are all of the content but zeros: the file is sparse.

    Raises:
        OSError: with the file's name.
    """
    path = path.resolve()
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(path, [(0, content)] if parts is None else parts, len(content), mode)
    except OSError as error:
        error.filename = str(path)  # not that of the temporary file
        raise


def new_file_mode() -> int:
    """The permissions that a new file gets."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_text(path: Path, text: str) -> None:
    """Write text for the user, as `write_whole`."""
    write_whole(path, text.encode(), new_file_mode())


def _replace(path: Path, parts: Iterable[tuple[int, bytes]], size: int, mode: int) -> None:
    fd, temporary = tempfile.mkstemp(prefix=".multiverse-", dir=path.parent)
    try:
        with open(fd, "wb") as file:
            for at, part in parts:
                file.seek(at)
                file.write(part)
            file.truncate(size)
            os.fchmod(file.fileno(), mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
