"""An unmodified MPI program with each rank an HRT: the HPC Challenge under Open MPI."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from multiverse.bench import machine, micro
from multiverse.bench.base import Figure, Report
from multiverse.bench.errors import BenchError
from multiverse.bench.pairs import Way
from multiverse.bench.runner import interleave
from multiverse.bench.sources import read

FORMAT = "multiverse-bench-mpi-1"

DEFAULT_RUNS = 5
DEFAULT_RANKS = 2
#: Rows of the linear system; all other sizes follow from it.
DEFAULT_SIZE = 2000

_TIMEOUT_S = 1800.0

_PROGRAM = "hpcc"
_INPUT, _OUTPUT = "hpccinf.txt", "hpccoutf.txt"

#: Figures: (name, title, key of the output, seconds as a function of its value).
_FIGURES: tuple[tuple[str, str, str, Callable[[float], float]], ...] = (
    ("hpl", "HPL: the linear system", "HPL_time", lambda s: s),
    ("ptrans", "PTRANS: a transposed matrix", "PTRANS_time", lambda s: s),
    ("random", "RandomAccess over all ranks", "MPIRandomAccess_time", lambda s: s),
    ("fft", "FFT over all ranks, 1 GFlop", "MPIFFT_Gflops", lambda rate: 1 / rate),
    ("dgemm", "DGEMM in each rank, 1 GFlop", "StarDGEMM_Gflops", lambda rate: 1 / rate),
    ("stream", "STREAM triad in each rank, 1 GB", "StarSTREAM_Triad", lambda rate: 1 / rate),
    ("latency", "ping-pong, one way", "AvgPingPongLatency_usec", lambda us: us * 1e-6),
    ("bandwidth", "ping-pong, 1 GB", "AvgPingPongBandwidth_GBytes", lambda rate: 1 / rate),
)

#: What it says of its results, which have to be right, and the same every time.
_RESULTS = re.compile(
    r"Success|HPL_(N|eps|RnormI|[ABX]norm[1I])|\w+_(residual|Errors)|MPIFFT_(N|maxErr)"
)


def find(name: str) -> str:
    """The path of a program.

    Raises:
        BenchError: it is not there.
    """
    found = shutil.which(name)
    if found is None:
        raise BenchError(f"find {name}", "not found", "apt-get install openmpi-bin hpcc")
    return found


def bench(
    core: Path,
    runs: int,
    ranks: int,
    size: int,
    on_step: Callable[[str, int, int], None] = lambda _title, _done, _of: None,
) -> Report:
    """Measure the HPC Challenge natively and with each rank an HRT, by turns.

    Args:
        core: the executable ``multiverse-core``.
        runs: rounds, at least one.
        ranks: processes.
        size: rows of the linear system.
        on_step: called before each round with a title, the rounds done and the rounds of all.

    Raises:
        BenchError: something is missing, no HRT is possible here, or the program fails.
    """
    mpirun, program = find("mpirun"), find(_PROGRAM)
    probed = machine.probe(core)
    facts = machine.facts(core, probed)
    facts["versions"]["mpi"] = micro.printed([mpirun, "--version"]).splitlines()[0]
    whole = Figure("whole", "the whole run", "s")
    figures = [whole, *(Figure(name, title, "s") for name, title, _, _ in _FIGURES)]
    with tempfile.TemporaryDirectory(prefix="multiverse-bench-") as name:
        directory = Path(name)
        words = read("mpi", _INPUT).decode().format(size=size, ranks=ranks)
        (directory / _INPUT).write_text(words)
        start = [mpirun, "-n", str(ranks), "-wdir", name]
        if ranks > facts["cores"]:
            start.append("--oversubscribe")
        sides = {"native": [*start, program], "hrt": [*start, *micro.as_hrt(core, [program])]}
        takes = [partial(_take, command, directory) for command in sides.values()]
        on_step("first run", 0, runs)
        _, reference = takes[0]()
        for done, samples in enumerate(interleave(takes, runs), 1):
            for (side, command), (seconds, output) in zip(sides.items(), samples, strict=True):
                _check(command, reference, output)
                values = [seconds, *(of(_value(output, key)) for _, _, key, of in _FIGURES)]
                for figure, value in zip(figures, values, strict=True):
                    getattr(figure, side).append(value)
            on_step("HPC Challenge", done, runs)
    remark = f"{ranks} ranks under {facts['versions']['mpi']}, linear system of {size} rows"
    return Report(facts, runs, figures, [remark], FORMAT)


def _take(command: Sequence[str], directory: Path) -> tuple[float, dict[str, str]]:
    """One run: seconds, and what it wrote, by key."""
    output = directory / _OUTPUT
    output.unlink(missing_ok=True)
    # Open MPI wants root to say so; one BLAS thread a rank.
    environment = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    seconds = micro.wall(Way(command, environment), _TIMEOUT_S)
    try:
        text = output.read_text(errors="replace")
    except OSError as error:
        what = f"read the figures: {_PROGRAM}"
        raise BenchError(what, f"{_OUTPUT}: {error.strerror}", "try it by hand") from error
    lines = (line.partition("=") for line in text.splitlines() if re.match(r"\w+=", line))
    return seconds, {key: value for key, _, value in lines}


def _value(output: Mapping[str, str], key: str) -> float:
    try:
        value = float(output[key])
    except (KeyError, ValueError) as error:
        said = output.get(key, "nothing")
        raise BenchError(
            f"read the figures: {_PROGRAM}", f"{key} is {said}", "use a larger --size"
        ) from error
    if value <= 0:
        raise BenchError(
            f"read the figures: {_PROGRAM}", f"{key} is {value}", "use a larger --size"
        )
    return value


def _check(command: Sequence[str], reference: Mapping[str, str], output: Mapping[str, str]) -> None:
    """See that a run computed what the first one did.

    Raises:
        BenchError: it did not; this is no figure to publish.
    """
    if output.get("Success") != "1":
        raise BenchError(f"run: {command[0]}", "it did not succeed", "try it by hand")
    for key, value in reference.items():
        if _RESULTS.fullmatch(key) and output.get(key) != value:
            why = f"{key} is {output.get(key)}, and was {value} in the first native run"
            raise BenchError(f"run: {' '.join(command)}", why, "please report it")
