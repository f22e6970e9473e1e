"""Files that commands write."""

from __future__ import annotations

from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file. Raises OSError with the file's name, also where there is no room for it."""
    try:
        path.write_text(text)
    except OSError as error:
        error.filename = str(path)
        raise
