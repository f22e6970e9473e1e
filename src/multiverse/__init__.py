"""Multiverse: unmodified Linux programs as hybrid runtimes, and HRTs for Python programs.

``multiverse.Hrt`` runs native functions in an HRT of the Python process. Importing this starts
nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's, which takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from multiverse.accelerator.hrt import Hrt
    from multiverse.accelerator.library import HrtError, HrtFault

__version__ = "0.1.0"
__all__ = ["Hrt", "HrtError", "HrtFault", "__version__"]


def __getattr__(name: str) -> Any:
    # Late, so that the command line starts as fast as before.
    if name == "Hrt":
        from multiverse.accelerator.hrt import Hrt

        return Hrt
    if name in ("HrtError", "HrtFault"):
        from multiverse.accelerator import library

        return getattr(library, name)
    raise AttributeError(f"module 'multiverse' has no attribute {name!r}")
