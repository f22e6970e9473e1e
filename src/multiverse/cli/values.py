"""Values of options."""

from __future__ import annotations

import re

import click

CPUS_MAX = 1024
UNITS = {"": 1, "M": 1, "G": 1024}


def cpu_mask(context: click.Context, parameter: click.Parameter, value: str | None) -> int:
    """CPUs as taskset and the kernel write them, turned into a mask; 0 if none are given."""
    mask = 0
    for part in value.split(",") if value is not None else ():
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise click.BadParameter(f"{value!r} is not a list of CPUs such as 0,2-3")
        low, high = int(first), int(last if dash else first)
        if low > high or high >= CPUS_MAX:
            raise click.BadParameter(f"{part!r} is not a range of CPUs below {CPUS_MAX}")
        mask |= (1 << (high + 1)) - (1 << low)
    return mask


def memory_size(context: click.Context, parameter: click.Parameter, value: str | None) -> int:
    """A size such as 256M or 2G, in MiB; 0 if none is given."""
    if value is None:
        return 0
    found = re.fullmatch(r"(\d{1,7})([MG]?)", value)
    mib = int(found[1]) * UNITS[found[2]] if found else 0
    if not 8 <= mib <= 1 << 20:
        raise click.BadParameter(f"{value!r} is not a size from 8M to 1024G")
    return mib
