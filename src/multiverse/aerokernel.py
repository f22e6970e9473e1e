"""What programs that use the AeroKernel's interface are compiled and linked with."""

from __future__ import annotations

from multiverse.core import core_path


def cflags() -> list[str]:
    """The compiler's options: where ``<aerokernel.h>`` is."""
    return [f"-I{core_path().with_name('include')}"]


def symbols() -> str:
    """The file with the AeroKernel's symbols, linked where it lies in the HRT, for debuggers."""
    return str(core_path().with_name("aerokernel.elf"))


def libs() -> list[str]:
    """The linker's: the library, behind the files that use it."""
    return [str(core_path().with_name("libaerokernel.a"))]
