"""Which processors to measure between."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_SYSTEM = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Placement:
    """Processors, by their numbers in Linux.

    Attributes:
        hrt: where the virtual CPU runs.
        same_socket: another one in the same socket, or None.
        other_socket: one in another socket, or None.
        sockets: how many sockets the usable processors are in.
        siblings: ``hrt`` and ``same_socket`` are two threads of one core.
    """

    hrt: int
    same_socket: int | None
    other_socket: int | None
    sockets: int
    siblings: bool


def place(usable: Collection[int], system: Path = _SYSTEM) -> Placement:
    """Choose processors: the first usable one, and the nearest by number of each kind.

    Args:
        usable: the processors that this process may run on, at least one.
        system: the directory with ``cpuN/topology`` in it. Where it says nothing about a processor,
            that counts as a core of socket 0.
    """
    hrt, *others = sorted(usable)
    socket = {cpu: _socket(system, cpu) for cpu in usable}
    threads = _threads(system, hrt)
    near = [cpu for cpu in others if socket[cpu] == socket[hrt]]
    far = [cpu for cpu in others if socket[cpu] != socket[hrt]]
    # Another core before another thread of the same one.
    near.sort(key=lambda cpu: (cpu in threads, cpu))
    same = near[0] if near else None
    return Placement(
        hrt=hrt,
        same_socket=same,
        other_socket=far[0] if far else None,
        sockets=len(set(socket.values())),
        siblings=same in threads,
    )


def parse_list(text: str) -> set[int]:
    """The numbers in a list as the kernel writes it: ``0-2,8``.

    Raises:
        ValueError: it is none.
    """
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def _socket(system: Path, cpu: int) -> int:
    try:
        return int((system / f"cpu{cpu}" / "topology" / "physical_package_id").read_text())
    except (OSError, ValueError):
        return 0


def _threads(system: Path, cpu: int) -> set[int]:
    try:
        text = (system / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
        return parse_list(text) - {cpu}
    except (OSError, ValueError):
        return set()
