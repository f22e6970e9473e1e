"""multiverse profile: counts, places and costs against a program that is known; its views."""

from __future__ import annotations

import html
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HRT, MULTIVERSE, RING, SLOWNESS, Outcome, counters, execute, multiverse, run

from multiverse.core import core_path, probe
from multiverse.profile import raw
from multiverse.profile.analysis import Analysis, dearest_first, join
from multiverse.profile.diff import compare
from multiverse.profile.gains import Answers, gains, installed
from multiverse.profile.html import render
from multiverse.profile.model import Cost, Group, Profile, Site, Stack, from_json
from multiverse.profile.names import Frame

WANTED_RING = [f"--ring={RING}"] if RING else []
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="session")
def calls(hrt: Callable[..., Outcome], guest: Callable[..., str]) -> Callable[..., str]:
    """Build the program; flags make variants. Skips where no HRT is possible."""
    return lambda *flags: compile_profiled(guest, *flags)


def compile_profiled(guest: Callable[..., str], *flags: str) -> str:
    return guest("../guests_profile/calls", *flags)


def profiled(
    command: list[str], *options: str, status: int = 0
) -> tuple[Profile, subprocess.CompletedProcess[str]]:
    """Profile a command. The file is read through from_json(), as show and diff do."""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "profile.json"
        argv = [*MULTIVERSE, "profile", *WANTED_RING, *options, "-o", str(target), "--", *command]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=100 * SLOWNESS)
        assert done.returncode == status, done.stderr
        return from_json(json.loads(target.read_text())), done


def count(profile: Profile, event: str) -> int:
    return sum(site.cost.count for site in profile.sites if site.event == event)


def functions(profile: Profile, event: str) -> set[str]:
    """Names of all functions in the backtraces of an event."""
    stacks = [s for site in profile.sites if site.event == event for s in site.stacks]
    return {profile.frames[index].name for stack in stacks for index in stack.frames}


@pytest.mark.parametrize("channel", ["async", "sync"])
@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("-static",),
        ("-fno-asynchronous-unwind-tables", "-fno-omit-frame-pointer", "-static"),
    ],
    ids=["unwinding-tables", "static", "frame-pointers"],
)
def test_counts_and_callers(
    calls: Callable[..., str], flags: tuple[str, ...], channel: str
) -> None:
    profile, _ = profiled([calls(*flags), "outer"], f"--channel={channel}")
    assert count(profile, "getppid") == 100
    assert count(profile, "getuid") == 500
    assert {"syscall", "hundred_parents", "outer", "main"} <= functions(profile, "getppid")
    assert {"syscall", "five_hundred_users", "outer", "main"} <= functions(profile, "getuid")
    assert "hundred_parents" not in functions(profile, "getuid")
    for site in profile.sites:
        assert site.cost.sync <= site.cost.count
        assert site.cost.cycles >= 0 and site.cost.blocked >= 0
        assert sum(s.cycles for s in site.stacks) <= max(site.cost.cycles, 1)
        assert site.stacks == dearest_first(site.stacks)


def test_counts_are_those_of_the_counters(calls: Callable[..., str]) -> None:
    command = [calls(), "outer", "memory", "output"]
    _, stats = counters(command, f"{HRT},channel=async")
    profile, done = profiled(command, "--channel=async")
    assert done.stdout == "output of the program\n"
    found = {s.event: 0 for s in profile.sites if s.kind == "syscall"}
    for event in found:
        found[event] = count(profile, event)
    assert found == stats["syscalls"]
    assert sum(group.cost.count for group in profile.groups) == sum(
        s.cost.count for s in profile.sites if profile.frames[s.frame].kind != "unknown"
    )


@pytest.mark.parametrize("named", [False, True], ids=["nameless", "perf-map"])
def test_code_made_at_run_time(calls: Callable[..., str], named: bool) -> None:
    profile, _ = profiled([calls(), "named" if named else "jit"])
    names = Path(f"/tmp/perf-{profile.processes[0].pid}.map")  # not those of a test beside this one
    made = names.exists()
    names.unlink(missing_ok=True)
    assert made == named
    sites = [s for s in profile.sites if s.event == "getpgrp"]
    assert [s.cost.count for s in sites] == [64]
    frame = profile.frames[sites[0].frame]
    assert frame.kind == "jit"
    assert frame.name == "made_up_function" if named else frame.name.startswith("JIT code")
    assert "call_jitted" in functions(profile, "getpgrp")


def test_children_in_the_same_memory_end_when_they_end(
    calls: Callable[..., str], guest: Callable[..., str]
) -> None:
    program = guest("vfork_exec")
    profile, _ = profiled([program], "--follow")
    (parent, *_), children = profile.processes, [g for g in profile.groups if g.pid != g.tid]
    assert not children
    vforked = [g for g in profile.groups if g.process == 0 and g.pid != parent.pid]
    assert vforked
    assert all(g.end < parent.end for g in vforked)


def test_threads(calls: Callable[..., str]) -> None:
    profile, _ = profiled([calls(), "threads"])
    assert count(profile, "getuid") == 800
    assert "two_hundred_users" in functions(profile, "getuid")
    assert len(profile.groups) == 5 and len(profile.processes) == 1
    assert len({group.tid for group in profile.groups}) == 5
    for group in profile.groups:
        assert group.end >= group.begin and group.lane
        assert group.cost.count >= (200 if group.tid != group.pid else 1)


def test_forked_children_are_processes_of_their_own(calls: Callable[..., str]) -> None:
    profile, _ = profiled([calls(), "fork"])
    parent, child = profile.processes
    assert child.parent == parent.pid and child.pid != parent.pid
    assert count(profile, "getppid") == 100 and child.cost.count >= 100 > parent.cost.count
    assert count(profile, "clone") + count(profile, "fork") == 1  # not again in the child
    assert "hundred_parents" in functions(profile, "getppid")


@pytest.mark.parametrize("follow", [True, False])
def test_programs_that_are_executed(calls: Callable[..., str], follow: bool) -> None:
    profile, _ = profiled([calls(), "exec"], *(["--follow"] if follow else []))
    assert len(profile.processes) == 1 + follow
    assert len({process.pid for process in profile.processes}) == 1
    assert count(profile, "getppid") == (100 if follow else 0)


@pytest.mark.parametrize(("word", "number"), [("killed", signal.SIGKILL), ("segv", signal.SIGSEGV)])
def test_a_program_that_dies_leaves_a_profile(
    calls: Callable[..., str], word: str, number: int
) -> None:
    profile, done = profiled([calls(), "output", "outer", word], status=-number)
    assert os.WIFSIGNALED(profile.status) and os.WTERMSIG(profile.status) == number
    assert count(profile, "getppid") == 100 and f"signal {int(number)}" in done.stderr
    assert [p.killed for p in profile.processes] == [number == signal.SIGKILL]
    if number == signal.SIGSEGV:
        assert "main" in functions(profile, "access done by Linux") | {
            profile.frames[s.frame].name for s in profile.sites if s.kind == "replication"
        }


def test_status_is_the_programs(calls: Callable[..., str]) -> None:
    profiled([calls(), "nonsense"], status=3)


def test_a_full_timeline_loses_no_counts(calls: Callable[..., str]) -> None:
    profile, done = profiled([calls(), "many"], "--events=1000")
    assert count(profile, "getppid") == 70000
    assert profile.dropped["events"] >= 69000 and "are not on the timeline" in done.stderr
    assert sum(stretch[3] for group in profile.groups for stretch in group.lane) <= 1000


def test_memory_is_told_by_what_lies_there(calls: Callable[..., str]) -> None:
    profile, _ = profiled([calls(), "memory"])
    found = {(m.event, m.memory): m.count for m in profile.memory}
    assert found["mmap", "anonymous"] >= 50 and found["munmap", "anonymous"] == 50
    assert any(m.startswith("file libc") for e, m in found if e == "mmap")


def test_waiting_is_no_cost(calls: Callable[..., str]) -> None:
    profile, _ = profiled([calls(), "sleep"])
    sleeping = [s for s in profile.sites if "nanosleep" in s.event]
    assert sum(s.cost.count for s in sleeping) == 3
    assert all(s.cost.blocked > 0 for s in sleeping)


def test_natively_there_is_nothing(calls: Callable[..., str], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nonexistent/interpreter\n")
    script.chmod(0o755)
    done = multiverse("profile", "--", str(script))
    assert done.returncode == 127 and "nothing to profile" in done.stderr


@pytest.mark.parametrize(
    "name",
    ["timer_storm", "sig_restart", "handler_context", "registers", "fp_state", "vfork_exec",
     "fork_threads", "cancel"],
)  # fmt: skip
@pytest.mark.parametrize("channel", ["auto", "async"])
def test_programs_behave_the_same(
    hrt: Callable[..., Outcome], guest: Callable[..., str], name: str, channel: str
) -> None:
    program = guest(name)
    ffi = raw.interface()
    size = raw.size_of(ffi, 1000)
    fd = os.memfd_create("profile")
    os.ftruncate(fd, size)
    with mmap.mmap(fd, size) as data:
        raw.prepare(ffi, data, 1000, int(probe()["tsc_hz"]))
        argv = [
            str(core_path()),
            f"{HRT},channel={channel},follow=1,profile={fd}",
            program,
            program,
        ]
        done = run(argv, stdin=b"", env=None, cwd=None, timeout=60, trace=None, pass_fds=[fd])
        found = raw.read(bytes(data))
    os.close(fd)
    native = execute([program], config=None)
    assert (done.status, done.stdout, done.stderr) == (native.status, native.stdout, native.stderr)
    assert found.groups and sum(s.counts.count for s in found.sites)


# ---- Output --------------------------------------------------------------------------------------


def test_tables_go_to_stderr(calls: Callable[..., str]) -> None:
    _, done = profiled([calls(), "output", "outer"], "--limit=3", "--sort=count")
    assert done.stdout == "output of the program\n"
    for text in ("Legacy events", "getuid", "five_hundred_users", "others"):
        assert text in done.stderr
    _, done = profiled([calls(), "output"], "--quiet")
    assert done.stderr == ""


@pytest.mark.parametrize(
    "redirection", ["| true", ">&- 2>&-", "2>&1 >/dev/full | true", "<&- 2>&-"]
)
def test_closed_output(calls: Callable[..., str], tmp_path: Path, redirection: str) -> None:
    target = tmp_path / "out.json"
    argv = " ".join([*MULTIVERSE, "profile", "-o", str(target), "--", calls(), "output", "outer"])
    done = subprocess.run(["bash", "-c", f"{argv} {redirection}"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert count(from_json(json.loads(target.read_text())), "getppid") == 100


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 2),
        (["--"], 2),
        (["--sort=size", "true"], 2),
        (["--limit=0", "true"], 2),
        (["--events=-1", "true"], 2),
        (["--nonsense", "true"], 2),
        (["--html", "/nonexistent/x.html", "true"], 125),
        (["-o", "/", "true"], 2),
        (["--override", "nonexistent", "true"], 2),
        (["nonexistent-program"], 127),
        (["/etc/hostname"], 126),
        (["show"], 2),
        (["show", "/nonexistent"], 125),
        (["show", "/etc/hostname"], 125),
        (["show", "/"], 125),
        (["diff", "/etc/hostname"], 2),
        (["diff", "/etc/hostname", "/nonexistent"], 125),
    ],
)
def test_mistakes(arguments: list[str], status: int) -> None:
    done = multiverse("profile", *arguments)
    assert done.returncode == status, done.stderr
    assert done.stderr and "Traceback" not in done.stderr
    if status == 125:
        assert done.stderr.startswith("multiverse: profile: ") and done.stderr.count("\n") == 1


def test_help_tells_of_all() -> None:
    done = multiverse("profile", "--help")
    assert done.returncode == 0
    for text in ("--html", "--perfetto", "--follow", "show FILE", "diff A B"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [("profile ", "diff"), ("profile --ht", "--html"), ("profile show --ht", "--html"),
     ("profile --quiet --per", "--perfetto"), ("prof", "profile")],
)  # fmt: skip
def test_completion(words: str, expected: str) -> None:
    env = os.environ | {
        "_MULTIVERSE_COMPLETE": "bash_complete",
        "COMP_WORDS": f"multiverse {words}",
        "COMP_CWORD": str(len(f"multiverse {words}".split(" ")) - 1),
    }
    program = Path(sys.executable).with_name("multiverse")
    done = subprocess.run([program], env=env, capture_output=True, text=True, timeout=60)
    assert expected in [line.rpartition(",")[2] for line in done.stdout.splitlines()]


def test_perfetto(calls: Callable[..., str], tmp_path: Path) -> None:
    target = tmp_path / "trace.json"
    profiled([calls(), "outer"], f"--perfetto={target}")
    trace = json.loads(target.read_text())
    names = [event["name"] for event in trace["traceEvents"]]
    assert names.count("getppid") == 100 and names.count("getuid") == 500
    assert trace["otherData"]["dropped"] == 0


def test_show(calls: Callable[..., str], tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    done = multiverse("profile", "-o", str(target), "--quiet", "--", calls(), "outer")
    assert done.returncode == 0
    assert "hundred_parents" in multiverse("profile", "show", str(target)).stdout
    again = json.loads(multiverse("profile", "show", "--json", str(target)).stdout)
    assert again == json.loads(target.read_text())
    argv = " ".join([*MULTIVERSE, "profile", "show", "--json", str(target)])
    done = subprocess.run(["bash", "-c", f"{argv} | head -c 1"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{", "")


MANGLED = """
#include <unistd.h>
namespace shop {
template <typename T> struct [[gnu::noinline]] Counter {
    T ask(T times) { T sum = 0; while (times--) sum += getppid(); return sum; }
};
}
int main() { return shop::Counter<long>().ask(50) == 0; }
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler: g++ is not on PATH")
def test_functions_have_the_names_that_their_language_gives(
    hrt: Callable[..., Outcome], tmp_path: Path
) -> None:
    program, page = tmp_path / "program", tmp_path / "page.html"
    command = ["g++", "-x", "c++", "-O1", "-fno-inline", "-o", str(program), "-"]
    subprocess.run(command, input=MANGLED, text=True, check=True)
    profile, done = profiled([str(program)], f"--html={page}")
    name = "shop::Counter<long>::ask(long)"
    assert name in functions(profile, "getppid")
    symbols = {frame.name: frame.symbol for frame in profile.frames}
    assert symbols[name] == "_ZN4shop7CounterIlE3askEl"
    assert symbols["main"] is None
    assert name in done.stderr and name in html.unescape(page.read_text())


def test_diff(calls: Callable[..., str], tmp_path: Path) -> None:
    before, after = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    for target, words in ((before, ["outer"]), (after, ["memory", "outer", "threads"])):
        done = multiverse("profile", "-o", target, "--quiet", "--", calls(), *words)
        assert done.returncode == 0, done.stderr
    found = json.loads(multiverse("profile", "diff", "--json", before, after).stdout)
    events = {change["event"]: change for change in found["events"]}
    assert events["getppid"]["count"] == [100, 100] and events["getppid"]["what"] == "changed"
    assert events["getuid"]["count"] == [500, 1300]
    assert events["munmap"]["count"][1] >= events["munmap"]["count"][0] + 50
    assert events["futex"]["what"] == "new" if "futex" in events else True
    differences = [abs(change["difference"]) for change in found["events"]]
    assert differences == sorted(differences, reverse=True)
    backwards = json.loads(multiverse("profile", "diff", "--json", after, before).stdout)
    assert {c["event"]: c["difference"] for c in backwards["events"]} == {
        name: -change["difference"] for name, change in events.items()
    }
    table = multiverse("profile", "diff", "--limit=50", before, after).stdout
    assert "getuid" in table and "1,300" in table


# ---- Without a machine ---------------------------------------------------------------------------


def made_up(**costs: int) -> Profile:
    """A profile in which each system call named has 10 events that cost so many cycles."""
    frames = [Frame("main", "/bin/program", "file")]
    sites = [
        Site(name, "syscall", 0, Cost(count=10, there=cycles), []) for name, cycles in costs.items()
    ]
    total = Cost(count=10 * len(costs), there=sum(costs.values()))
    groups = [Group(0, 1, 1, 0, 1_000_000, total)]
    return Profile(
        ["program"], 0, 1.0, tsc_hz=1_000_000_000, frames=frames, sites=sites, groups=groups
    )


def test_gains_are_what_a_local_answer_leaves() -> None:
    profile = made_up(mmap=50_000, munmap=20_000, getpid=3_000, read=9)
    sets = [
        Answers("identity", frozenset({"getpid", "gettid"})),
        Answers("memory", frozenset({"mmap", "munmap"}), removes=0.5),
        Answers("files", frozenset({"read"})),
        Answers("gc", frozenset({"mprotect"})),
    ]
    found = gains(profile, sets)
    assert [(g.name, g.events, g.cycles) for g in found] == [
        ("memory", 10, (50_000 + 20_000 - 2 * 10 * 100) // 2),
        ("identity", 10, 3_000 - 10 * 100),
    ]
    assert found[0].calls == ["mmap", "munmap"]
    profile.overrides = ["memory"]
    assert [g.name for g in gains(profile, sets)] == ["identity"]
    assert "What shipped override sets would remove" in render(profile, found)
    assert "What shipped override sets would remove" not in render(profile, [])


def test_gains_are_of_calls_that_a_set_answers() -> None:
    """Not of those that it is told of, nor of a set that does nothing at the ring."""
    answers = {one.name: one for one in installed()}
    assert "mprotect" in answers["gc"].calls and "newfstatat" not in answers["gc"].calls
    assert "lseek" in answers["files"].calls and "ioctl" not in answers["files"].calls
    assert "read" not in answers["files"].calls  # it becomes pread64
    profile = made_up(mprotect=50_000, newfstatat=50_000)
    profile.ring = 3
    assert gains(profile, [answers["gc"]]) == []
    profile.ring = 0
    assert [g.calls for g in gains(profile, [answers["gc"]])] == [["mprotect"]]


def test_the_dearest_backtrace_of_a_function_is_the_first() -> None:
    """Also if the function has several places that call, each with backtraces of its own."""
    one, other = [Stack([1, 2], 50, 1), Stack([3, 2], 40, 1)], [Stack([3, 2], 30, 5)]
    assert dearest_first(one + other) == [Stack([3, 2], 70, 6), Stack([1, 2], 50, 1)]


def test_differences_say_what_came_and_went() -> None:
    found = compare(made_up(mmap=5000, brk=70), made_up(brk=80, read=100))
    assert [(c.event, c.what, c.difference) for c in found.events] == [
        ("mmap", "gone", -5000),
        ("read", "new", 100),
        ("brk", "changed", 10),
    ]


def test_stretches_are_joined_over_the_smallest_gaps() -> None:
    stretches = [(0, 10, 0, 1, 10), (12, 20, 1, 1, 8), (500, 501, 0, 1, 1), (900, 950, 1, 1, 50)]
    assert join(stretches, 4) == stretches
    assert join(stretches, 3) == [(0, 20, 0, 2, 18), *stretches[2:]]
    assert sum(count for _, _, _, count, _ in join(stretches, 1)) == 4


@pytest.mark.parametrize("seed", range(6))
def test_nothing_in_the_core_s_record_is_believed(calls: Callable[..., str], seed: int) -> None:
    ffi = raw.interface()
    size = raw.size_of(ffi, 500)
    fd = os.memfd_create("profile")
    os.ftruncate(fd, size)
    program = calls()
    with mmap.mmap(fd, size) as shared:
        raw.prepare(ffi, shared, 500, 1_000_000_000)
        argv = [
            str(core_path()),
            f"{HRT},profile={fd}",
            program,
            program,
            "outer",
            "threads",
            "jit",
        ]
        run(argv, stdin=b"", env=None, cwd=None, timeout=60, trace=None, pass_fds=[fd])
        data = bytearray(shared)
    os.close(fd)
    rng = random.Random(seed)
    used = [at for at in range(64, size, 512) if any(data[at : at + 512])]
    for _ in range(3000):
        at = rng.choice(used) + rng.randrange(512)
        if at < size:
            data[at] = rng.choice((0, 1, 2, 0xFF, rng.randrange(256)))
    try:
        found = raw.read(bytes(data))
    except ValueError:
        return
    profile = Analysis(found).profile([program], 0, 1.0)
    assert from_json(json.loads(json.dumps(profile.to_json()))) == profile
    render(profile, [])


# ---- The page ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def page(calls: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("page") / "report.html"
    program = [calls(), "outer", "jit", "threads", "memory", "fork"]
    done = multiverse("profile", "--quiet", f"--html={target}", "--", *program)
    assert done.returncode == 0, done.stderr
    return target


def test_the_page_needs_nothing_else(page: Path) -> None:
    text = page.read_text()
    for word in ("ROS", "HRT", "AeroKernel", "event channel", "legacy event", "partner"):
        assert f">{word}</dt>" in text
    assert "http://www.w3.org/2000/svg" in text  # a name, not an address
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "default-src 'none'" in text and " src=" not in text and "@import" not in text


def test_the_page_escapes_what_the_program_is_called() -> None:
    profile = made_up(mmap=5)
    profile.program = ["</script><script>alert(1)</script>", "\x1b[31m"]
    profile.frames = [Frame("</script><b>", "/bin/program", "file")]
    text = render(profile, [])
    assert "alert(1)</script>" not in text and "</script><b>" not in text and "\x1b" not in text


SCENARIO = """<script>
window.onerror = (message) => { document.title = "error: " + message; };
addEventListener("load", () => {
  const results = {};
  const press = (element, key) =>
    element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const items = () => [...document.querySelectorAll("#flame [role=treeitem]")];
  results.items = items().length;
  results.labels = items().map((item) => item.getAttribute("aria-label"));
  results.focusable = items().filter((item) => item.tabIndex === 0).length;
  items()[0].focus();
  press(document.activeElement, "ArrowDown");
  results.second = document.activeElement.getAttribute("aria-level");
  press(document.activeElement, "Enter");
  results.width = document.activeElement.style.width;
  results.says = document.getElementById("flame-says").textContent;
  press(document.activeElement, "Escape");
  results.after = items().length;
  const lanes = [...document.querySelectorAll("#timeline svg")];
  results.lanes = lanes.length;
  results.areas = lanes.map((lane) => lane.querySelectorAll("path").length);
  lanes[0].focus();
  press(lanes[0], "ArrowRight");
  press(lanes[0], "+");
  results.time = document.getElementById("timeline-says").textContent;
  const table = document.querySelector("#events-part table");
  const column = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.v));
  table.tHead.rows[0].cells[1].firstElementChild.click();
  results.down = column();
  table.tHead.rows[0].cells[1].firstElementChild.click();
  results.up = column();
  results.sort = table.tHead.rows[0].cells[1].getAttribute("aria-sort");
  const find = document.getElementById("sites-find");
  find.value = "hundred_parents";
  find.dispatchEvent(new Event("input"));
  const rows = [...document.getElementById("sites").tBodies[0].rows];
  results.shown = rows.filter((row) => !row.hidden).map((row) => row.textContent);
  results.hidden = rows.filter((row) => row.hidden).length;
  document.querySelector(".word").click();
  results.popover = document.querySelectorAll(":popover-open").length;
  const named = (e) => e.textContent.trim() || e.getAttribute("aria-label") || e.closest("label");
  results.nameless = [...document.querySelectorAll("button, input, svg")]
    .filter((element) => !named(element)).length;
  results.wide = document.documentElement.scrollWidth > innerWidth;
  const out = document.createElement("pre");
  out.id = "results";
  out.textContent = JSON.stringify(results);
  document.body.append(out);
});
</script></head>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (tools/setup.sh test)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_in_a_browser(page: Path, tmp_path: Path, scheme: str, width: int) -> None:
    tested = tmp_path / "tested.html"
    tested.write_text(page.read_text().replace("</head>", SCENARIO, 1))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    options += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'chromium'}"]
    options += [f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
    done = subprocess.run(
        [str(CHROMIUM), *options, "--dump-dom", tested.as_uri()],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    text = done.stdout
    assert "<title>error" not in text and 'id="results"' in text, text[:300] + done.stderr[-500:]
    found = text.split('id="results">', 1)[1].split("</pre>", 1)[0]
    results = json.loads(found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    labels = " ".join(results["labels"])
    assert "hundred_parents" in labels and "getuid" in labels
    assert results["focusable"] == 1
    assert results["second"] == "2" and results["width"] == "100%" and results["says"]
    assert results["after"] == results["items"] > 10
    assert results["lanes"] == 6 and results["areas"] == [2] * 6
    assert "thread" in results["time"]
    assert results["down"] == sorted(results["down"], reverse=True)
    assert results["up"] == sorted(results["up"]) and results["sort"] == "ascending"
    assert results["shown"] and all("hundred_parents" in line for line in results["shown"])
    assert results["hidden"] > 0
    assert results["popover"] == 1
    assert results["nameless"] == 0
    assert not results["wide"]
