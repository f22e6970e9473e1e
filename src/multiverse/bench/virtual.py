"""Programs in a plain Linux guest under QEMU: the paper's third bar.

Run as a program, this is what measures inside the guest: it reads from a file what to run, and
writes beside it what that took.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiverse.bench.errors import BenchError, Difference
from multiverse.bench.runner import Output, Timing, run
from multiverse.bench.stats import Summary, paired_ratios, summarize
from multiverse.testbed import boot

_NATIVE_TIMEOUT_S = 600.0
#: An emulator is some tens of times as slow.
_GUEST_TIMEOUT_S = 1800.0

_GUEST_MEMORY = "4G"

_PLAN, _RESULTS = "plan.json", "results.json"


@dataclass(slots=True)
class Virtual:
    """One program in a virtual machine.

    Attributes:
        emulated: whether an emulator executed it, not a processor.
        size: the N it was run with.
        native: one timing a run.
        virtual: the same in the guest, by the guest's clock.
        difference: what a run in the guest did differently, or None.
    """

    emulated: bool
    size: int
    native: list[Timing] = field(default_factory=list)
    virtual: list[Timing] = field(default_factory=list)
    difference: str | None = None

    def ratio(self) -> Summary | None:
        """Wall-clock seconds over native, or None if it differed."""
        if self.difference or not self.virtual:
            return None
        return summarize(
            paired_ratios([one.wall for one in self.native], [one.wall for one in self.virtual])
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Virtual:
        """Read what dataclasses.asdict made. Raises KeyError or TypeError for something else."""
        sides = {side: [Timing(**one) for one in values[side]] for side in ("native", "virtual")}
        return cls(**{**values, **sides})


_ADVICE = "or leave it out with --virtual off"


def check() -> None:
    """See that a guest can be booted.

    Raises:
        BenchError: something is missing.
    """
    try:
        boot.find_tools()
    except boot.TestbedError as error:
        raise BenchError("find a virtual machine", str(error), _ADVICE) from error


def measure(
    commands: Sequence[Sequence[str]], directories: Sequence[Path], runs: int, emulated: bool
) -> list[Virtual]:
    """Run programs natively, then in one guest.

    Args:
        commands: paths and arguments, of which the last is the program's size.
        directories: temporary ones that the programs are in.
        runs: how often each runs on either side.
        emulated: use the emulator, not KVM.

    Raises:
        BenchError: the guest does not boot, or a program cannot be started.
    """
    tried = [_try(command, runs, _NATIVE_TIMEOUT_S) for command in commands]
    with tempfile.TemporaryDirectory(prefix="multiverse-bench-") as name:
        directory = Path(name)
        (directory / _PLAN).write_text(json.dumps({"commands": commands, "runs": runs}))
        # Outputs are held in memory there too.
        guest = boot.Machine(
            memory=_GUEST_MEMORY, writable=(directory, *directories), plain=True, kvm=not emulated
        )
        inside = [sys.executable, "-m", __name__, name]
        what = "run in a virtual machine: QEMU"
        try:
            status = boot.run(inside, guest)
        except boot.TestbedError as error:
            raise BenchError(what, str(error), _ADVICE) from error
        if status:
            raise BenchError(what, f"the guest ended with {status}", "try --virtual off")
        results = json.loads((directory / _RESULTS).read_text())
    found = []
    for command, (native, expected), (timings, outcome) in zip(
        commands, tried, results, strict=True
    ):
        virtual = [Timing(**timing) for timing in timings]
        difference = None if outcome == expected else f"{outcome} instead of {expected}"
        found.append(Virtual(emulated, int(command[-1]), native, virtual, difference))
    return found


def _try(command: Sequence[str], runs: int, timeout: float) -> tuple[list[Timing], str]:
    """Run a command, once more than is counted; what it took, and what it did, in short."""
    timings, outcomes = [], []
    for _ in range(runs + 1):
        with Output() as output:
            try:
                timings.append(run(command, output, timeout))
            except Difference as error:
                return [], str(error)
            digest = output.stdout_digest()[:16]
            outcomes.append(f"{output.ending()}, its output has the SHA-256 {digest}")
    odd = [outcome for outcome in outcomes if outcome != outcomes[0]]
    return timings[1:], odd[0] if odd else outcomes[0]


def _guest(directory: Path) -> None:
    """In the guest: do what the plan says."""
    plan = json.loads((directory / _PLAN).read_text())
    results = [_try(command, plan["runs"], _GUEST_TIMEOUT_S) for command in plan["commands"]]
    text = json.dumps([([dataclasses.asdict(one) for one in ran], how) for ran, how in results])
    (directory / _RESULTS).write_text(text)


if __name__ == "__main__":
    _guest(Path(sys.argv[1]))
