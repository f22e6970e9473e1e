"""`multiverse tune`: the search with made-up runs, and the whole with a real program."""

from __future__ import annotations

import gc
import itertools
import json
import os
import statistics
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from conftest import MULTIVERSE, multiverse
from hypothesis import given
from hypothesis import strategies as st

from multiverse.bench.errors import BenchError, Difference
from multiverse.bench.runner import Output
from multiverse.bench.stats import MEDIAN_LIMIT_SAMPLES, median_limit
from multiverse.overrides.sets import Set
from multiverse.profile.model import Cost, Group, Profile, Site
from multiverse.tune.candidates import without_effect
from multiverse.tune.program import Program
from multiverse.tune.report import Report
from multiverse.tune.search import Result, Sets, search

NOISE = (0.0, 0.03, -0.02, 0.01, -0.03, 0.02, -0.01)
ROUNDS = 7
NATIVE = 2.0


class Fake:
    """Runs that take what is said, more or less; the noise is the same every time."""

    def __init__(
        self,
        factors: Mapping[str, float],
        differs: Callable[[Sets, int], bool] = lambda sets, run: False,
        apart: frozenset[str] = frozenset(),
        hrt: float = 1.1,
    ) -> None:
        self.factors = factors
        self.differs = differs
        self.apart = apart
        self.base = hrt
        self.noise = itertools.cycle(NOISE)
        self.count = 0
        self.ran: list[Sets] = []

    def native(self) -> float:
        return NATIVE * (1 + next(self.noise))

    def hrt(self, sets: Sets) -> float:
        self.ran.append(sets)
        self.count += 1
        if self.differs(sets, self.count):
            raise Difference("stdout differs")
        seconds = NATIVE * self.base * (1 + next(self.noise))
        for name in sets:
            seconds *= self.factors[name]
        return seconds

    def obstacle(self, sets: Sets) -> str | None:
        return "cannot be used" if len(self.apart & set(sets)) > 1 else None


def found(fake: Fake, rounds: int = ROUNDS) -> Result:
    return search(fake, fake.factors, rounds, lambda what, done, of: None)


def test_what_helps_is_kept_the_best_first() -> None:
    result = found(Fake({"some": 0.8, "nothing": 1.0, "much": 0.5, "harm": 1.2}))
    assert result.kept == ("much", "some")
    assert set(result.left_out) == {"nothing", "harm"}
    assert [len(step.trials) for step in result.steps] == [5, 4, 3]
    assert result.confirmation is not None
    assert [trial.sets for trial in result.confirmation.trials] == [(), ("much", "some")]
    for step in (*result.steps, result.confirmation):
        assert {len(step.native), *(len(t.seconds) for t in step.trials)} == {ROUNDS}


def test_noise_is_no_help() -> None:
    result = found(Fake({"a": 0.999, "b": 1.001}))
    assert (result.kept, result.confirmation) == ((), None)
    assert all("does not help alone" in why for why in result.left_out.values())


def test_without_candidates_nothing_is_run() -> None:
    fake = Fake({})
    assert found(fake).kept == () and fake.ran == []


def test_a_set_that_differs_once_is_never_kept() -> None:
    fake = Fake({"wrong": 0.1, "right": 0.8}, lambda sets, run: "wrong" in sets and run > 9)
    result = found(fake)
    assert result.kept == ("right",)
    assert "not the same as natively: stdout differs" in result.left_out["wrong"]
    first = [sets for sets in fake.ran if sets == ("wrong",)]
    assert len(first) < ROUNDS and ("right", "wrong") not in fake.ran


@pytest.mark.parametrize("late", [False, True])
def test_sets_that_differ_when_they_are_run_again_are_given_up(late: bool) -> None:
    confirming = 3 * ROUNDS + 2 * ROUNDS
    fake = Fake(
        {"a": 0.5, "b": 1.0},
        lambda sets, run: sets == ("a",) and run > (confirming if late else 3 * ROUNDS),
    )
    result = found(fake)
    assert result.kept == () and "together not the same" in result.left_out["a"]
    assert (result.confirmation is None) == (not late)


def test_an_hrt_that_differs_without_sets_is_an_error() -> None:
    with pytest.raises(Difference):
        found(Fake({"a": 0.5}, lambda sets, run: not sets and run > 3))


def test_what_is_not_confirmed_is_not_kept() -> None:
    class Lucky(Fake):
        def hrt(self, sets: Sets) -> float:
            seconds = super().hrt(sets)
            return seconds * 0.5 if sets and self.count <= 2 * ROUNDS else seconds

    result = found(Lucky({"a": 1.0}))
    assert result.kept == () and result.left_out["a"] == "did not help when it was measured again"


def test_sets_that_cannot_be_together() -> None:
    result = found(Fake({"a": 0.8, "b": 0.5, "c": 0.9}, apart=frozenset("ab")))
    assert result.kept == ("b", "c") and result.left_out["a"] == "cannot be used"


@given(st.lists(st.floats(0.1, 10), min_size=MEDIAN_LIMIT_SAMPLES, max_size=40))
def test_the_limit_is_a_sample_above_the_median(samples: list[float]) -> None:
    limit = median_limit(samples)
    assert limit in samples and limit >= statistics.median(samples)


@pytest.mark.parametrize(("count", "place"), [(5, 5), (6, 6), (7, 7), (8, 7), (10, 9), (20, 15)])
def test_the_limits_place_is_the_sign_tests(count: int, place: int) -> None:
    assert median_limit([float(i + 1) for i in range(count)]) == place


def test_too_few_samples_bound_nothing() -> None:
    with pytest.raises(ValueError, match="do not bound"):
        median_limit([1.0] * (MEDIAN_LIMIT_SAMPLES - 1))


def profile(**cycles: int) -> Profile:
    sites = [
        Site(name, "syscall", 0, Cost(count=10, linux=each), []) for name, each in cycles.items()
    ]
    group = Group(1, 1, 1, 0, 10**9, Cost())
    return Profile(["x"], 0, 1.0, groups=[group], sites=sites)


def test_sets_without_effect() -> None:
    sets = [
        Set("memory", "", ("mmap", "munmap"), ()),
        Set("identity", "", ("getpid", "getuid"), ("getpid",)),
        Set("clock", "", ("clock_gettime",), ("clock_gettime",)),
        Set("files", "", ("lseek",), ()),
        Set("malloc", "", (), ("malloc",)),
    ]
    reasons = without_effect(profile(mmap=2000, getpid=10**4), sets)
    assert set(reasons) == {"identity", "files"}  # others may matter, whatever the profile says
    assert reasons["files"] == "the program makes none of its calls"
    assert set(without_effect(profile(munmap=1, getpid=10**7), sets)) == {"files"}
    assert "memory" in without_effect(profile(read=10**8), sets)


def test_a_set_for_the_other_ring_is_left_out() -> None:
    collector = [Set("gc", "", ("mprotect",), ())]
    here = profile(mprotect=10**7)
    here.ring = 3
    assert without_effect(here, collector) == {"gc": "it does nothing at ring 3"}
    here.ring = 0
    assert without_effect(here, collector) == {}


def report(result: Result, program: list[str]) -> Report:
    machine = {
        "date": "2000-01-01", "processor": "p\x1b", "kernel": "6", "kvm": {"ring": "0"},
        "versions": {"multiverse": "1"},
    }  # fmt: skip
    return Report(program, "/dev/null", ROUNDS, machine, ("stderr",), result)


def test_the_file_is_toml_whatever_the_program_is_called() -> None:
    result = found(Fake({"a": 0.5, "b": 1.0}))
    text = report(result, ["x\n[[syscall]]", "\udc80\0\"'\x7f"]).to_toml()
    data = tomllib.loads(text)
    assert set(data) == {"summary", "sets"} and data["sets"] == ["a"]
    comments = [line for line in text.split("\n") if line.startswith("# ")]
    assert any("with a: 0.5" in line and "times the native time" in line for line in comments)
    assert any("not kept: b: does not help" in line for line in comments)
    assert any("not compared, as native runs differ: stderr" in line for line in comments)


def test_verdicts_are_honest() -> None:
    assert "no set makes it faster" in report(found(Fake({"a": 1.0})), ["x"]).verdict()
    slow = report(found(Fake({"a": 0.5}, hrt=4.0)), ["x"]).verdict()
    assert "the program is no faster than natively" in slow
    assert "not slower" not in report(found(Fake({"a": 0.5})), ["x"]).verdict()


# ---- Real runs ----------------------------------------------------------------------------------


def tuned(*words: str) -> subprocess.CompletedProcess[str]:
    return multiverse("tune", "--runs=5", "--timeout=60", *words)


def test_a_real_program(tmp_path: Path) -> None:
    """Whatever is faster here: the shape of the answer, which run can use."""
    stdin, output = tmp_path / "in", tmp_path / "out.toml"
    stdin.write_text("given\n")
    words = ["sh", "-c", "read x; echo $x; echo e >&2; exit 3"]
    done = tuned("--json", f"--stdin={stdin}", "--sets=memory", "-o", str(output), "--", *words)
    assert done.returncode in (0, 1), done.stderr
    data = json.loads(done.stdout)
    assert data["format"] == "multiverse-tune-1" and data["program"] == words
    assert data["not_compared"] == []
    assert {*data["kept"], *data["left_out"]} == {"memory"}
    none, memory = data["steps"][0]["trials"]
    assert none["sets"] == [] and memory["sets"] == ["memory"]
    assert none["difference"] is None and memory["difference"] is None
    assert len(data["steps"][0]["native"]) == len(memory["seconds"]) == 5
    assert output.exists() == (done.returncode == 0) == bool(data["kept"])
    if output.exists():
        assert multiverse("override", "check", str(output)).returncode == 0


def test_what_differs_natively_is_not_compared() -> None:
    with Program("/bin/sh", ["sh", "-c", "echo $$; echo same >&2"], None, 60) as program:
        program.prepare()
        assert program.unsteady == ("stdout",)
        assert program.native() > 0 and program.hrt(("identity",)) > 0


def test_a_status_that_differs_natively_is_an_error(tmp_path: Path) -> None:
    script = f"test -e {tmp_path}/x && exit 4; touch {tmp_path}/x"
    with (
        Program("/bin/sh", ["sh", "-c", script], None, 60) as program,
        pytest.raises(BenchError, match="status is the same"),
    ):
        program.prepare()


def test_a_run_that_differs_is_noticed(tmp_path: Path) -> None:
    seen: list[str] = []

    def on_output(title: str, output: Output) -> None:
        seen.append(title)

    script = "case $0 in x) cat;; *) echo wrong;; esac"
    given = tmp_path / "given"
    given.write_bytes(b"1\n")
    with Program("/bin/sh", ["sh", "-c", script, "x"], given, 60, on_output) as program:
        program.prepare()
        assert program.hrt(()) > 0
        given.write_bytes(b"2\n")
        with pytest.raises(Difference, match="stdout differs"):
            program.hrt(())
    assert seen == ["natively", "natively", "as an HRT", "as an HRT"]


def test_nothing_is_left_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with Program("/bin/true", ["true"], None, 60) as program:
        program.prepare()
        assert program.obstacle(("identity", "memory")) is None
        assert program.profile() is not None
    gc.collect()  # the profile's symbols have files
    assert set(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--runs=4", "true"], 2, "--runs"),
        (["--sets=memroy", "true"], 2, "did you mean memory?"),
        (["-o", "/nonexistent/x", "true"], 2, "no such directory"),
        (["--stdin=/nonexistent", "true"], 2, "--stdin"),
        (["nosuchprogram"], 127, "not found"),
        (["./nosuchprogram"], 127, "No such file"),
        (["/usr"], 126, "Permission denied"),
        (["/etc/passwd"], 126, "Permission denied"),
        (["--timeout=0.05", "--", "sleep", "9"], 125, "did not end within"),
        ([], 2, "Missing argument"),
    ],
)
def test_mistakes(words: list[str], status: int, text: str) -> None:
    done = multiverse("tune", *words)
    assert done.returncode == status and text in done.stderr, done


def test_help_warns() -> None:
    assert "PROG IS RUN MANY TIMES" in multiverse("tune", "--help").stdout


def test_completion() -> None:
    words = {"_MULTIVERSE_COMPLETE": "bash_complete", "COMP_CWORD": "3"}
    words["COMP_WORDS"] = "multiverse tune --sets memory,i"
    done = subprocess.run(
        MULTIVERSE, env={**os.environ, **words}, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "plain,memory,identity\n"
