"""Programs whose system calls and functions modules take over."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import BUILT_GUESTS, HRT, MULTIVERSE, Outcome, multiverse

GUESTS = (
    *("answers", "barrier", "blocks", "clocks", "collector", "crowd", "heap", "held"),
    *("kernel_access", "leaves", "mappings", "masks", "numbers", "offsets", "readiness", "stays"),
    *("unseen_masks", "waits"),
)
# With room for a jump, and names that can be found.
FLAGS = ("-O1", "-rdynamic", "-fcf-protection=none")
CHOSEN = {
    "dynamic": ("-rdynamic",),
    "lazy": ("-rdynamic", "-Wl,-z,lazy", "-fcf-protection=full"),
    "no-pie": ("-no-pie",),
    "static": ("-static",),
    "static-pie": ("-static-pie",),
}
PROBE = Path(__file__).with_name("overrides") / "probe.toml"
SETS = ("files", "identity", "malloc", "memory", "sync", "threads", "time")
ANSWERS = """\
parent 1
parent is another 1
fallback 1
time 0 12345 678
condition 1
bad -1 1
bad -1 1
bad -1 1
bad -1 1
crossing -1 1 12345
errno -1 1
deep 1500
poke done
poked 1
poke faults there
poke faults there
poke faults there
doubled 42 101 -4
"""


def compile_overridden(guest: Callable[..., str]) -> dict[str, str]:
    """Compile the programs of tests/guests_override, and the module beside them."""
    programs = {name: guest(f"../guests_override/{name}", *FLAGS) for name in GUESTS}
    for way, flags in CHOSEN.items():
        programs[way] = guest("../guests_override/chosen", "-fno-builtin", *flags)
    for name in ("probe", "chosen", "hot"):
        module = Path(programs["answers"]).with_name(f"{name}.override")
        if not module.exists():
            source = str(PROBE.with_stem(name))
            subprocess.run([*MULTIVERSE, "override", "build", source, "-o", module], check=True)
        programs[name] = str(module)
    return programs


@pytest.fixture(scope="module")
def programs(guest: Callable[..., str]) -> dict[str, str]:
    return compile_overridden(guest)


@pytest.mark.parametrize("channel", ["auto", "sync", "async"])
def test_answers(channel: str, programs: dict[str, str], hrt: Callable[..., Outcome]) -> None:
    done = hrt(
        [programs["answers"]],
        config=f"{HRT},channel={channel}",
        overrides=[programs["probe"]],
    )
    assert done.stdout.decode() == ANSWERS
    assert (done.status, done.stderr) == (0, b"")


NATIVELY = """\
strlen 5 8 8
memcpy copied copied copied
strdup plain
time 0 0
thread 9000
short 1 5 -1 5 0
"""
CHOSEN_ANSWERS = """\
strlen 5 1234 1234
memcpy overridden copied copied
strdup plain
time 1 1
thread 1236000
short 0 6 -1 6 10
steps 10 1 0
"""


@pytest.mark.parametrize("way", CHOSEN)
def test_functions_that_are_chosen(
    way: str, programs: dict[str, str], hrt: Callable[..., Outcome]
) -> None:
    """An IFUNC is taken over however it is bound, and what it shares its code with is not."""
    done = hrt([programs[way], "leave"], overrides=[programs["chosen"]])
    assert (done.status, done.stdout.decode()) == (0, CHOSEN_ANSWERS + NATIVELY)


def test_a_library_that_is_loaded_later(tmp_path: Path) -> None:
    """Its IFUNC and its short function, by dlsym(), in an interpreter that was not made for it."""
    if BUILT_GUESTS:
        pytest.skip("no compiler in the testbed")
    library, source = tmp_path / "later.so", tmp_path / "later.toml"
    source.with_suffix(".c").write_text(
        "static int plain(void) { return 1; }\n"
        "static int (*choose(void))(void) { return plain; }\n"
        '__attribute__((ifunc("choose"))) int picked(void);\n'
        "int tiny(int x) { return x; }\n"
        "int last(void) { return 0; }\n"
    )
    command = ["cc", "-O2", "-shared", "-fPIC", "-o", library, source.with_suffix(".c")]
    subprocess.run(command, check=True)
    source.with_suffix(".c").write_text("static int f(int x) { return x + 40; }\n")
    source.write_text(
        f'[[function]]\nlegacy = "int picked(void)"\ncall = "f(1)"\nlibrary = "{library}"\n'
        f'[[function]]\nlegacy = "int tiny(int x)"\ncall = "f(x)"\nlibrary = "{library}"\n'
    )
    program = f"import ctypes; l = ctypes.CDLL('{library}'); print(l.picked(), l.tiny(2))"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "1 2\n"
    done = multiverse("run", "--require-hrt", f"--override={source}", "--", *command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "41 42\n", "")


@pytest.mark.parametrize("channel", ["auto", "async"])
def test_crowd(channel: str, programs: dict[str, str], hrt: Callable[..., Outcome]) -> None:
    """No lock is met that somebody holds who does not go on: not in handlers, not in children."""
    config = f"{HRT},channel={channel}"
    done = hrt([programs["crowd"]], config=config, overrides=[programs["probe"]])
    assert (done.status, done.stdout, done.stderr) == (0, b"wrong 0\n", b"")


def test_numbers(programs: dict[str, str], same: Callable[..., Outcome]) -> None:
    assert same([programs["numbers"]], overrides=["identity"]).stdout == b"right\n"


@pytest.mark.parametrize("seed", ["1", "2", "3"])
@pytest.mark.parametrize("high", ["256", "8"])
def test_mappings(
    high: str, seed: str, programs: dict[str, str], same: Callable[..., Outcome]
) -> None:
    config = f"{HRT},memoryhigh={high}"
    done = same([programs["mappings"], seed], config=config, overrides=["memory"])
    assert done.stdout == b"right\n"


@pytest.fixture(scope="module")
def small_pages(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The set `memory`, to which every huge page is dear."""
    copy = tmp_path_factory.mktemp("small") / "memory"
    shutil.copytree(Path(__file__).parents[1] / "overrides" / "memory", copy)
    arenas = copy / "arenas.c"
    text, changed = re.subn(r"(HUGE_DEAR_NS) = \d+", r"\1 = 0", arenas.read_text())
    assert changed == 1
    arenas.write_text(text)
    return str(copy / "memory.toml")


@pytest.mark.parametrize("seed", ["1", "2", "5"])
@pytest.mark.parametrize("high", ["256", "8"])
def test_mappings_of_small_pages(
    high: str, seed: str, small_pages: str, programs: dict[str, str], same: Callable[..., Outcome]
) -> None:
    config = f"{HRT},memoryhigh={high}"
    done = same([programs["mappings"], seed], config=config, overrides=[small_pages])
    assert done.stdout == b"right\n"


RESIDENT = """\
import mmap, sys

def resident():
    return int(open("/proc/self/statm").read().split()[1]) // 256

size, kept, ahead = 16 << 20, [], 0
start = resident()
for _ in range(12):
    before = resident()
    kept.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    ahead += resident() - before
    for at in range(0, size if sys.argv[1] == "all" else 1, 4096):
        kept[-1][at] = 1
print(ahead, resident() - start)
"""


def test_small_pages_are_there_for_programs_that_use_them(
    small_pages: str, hrt: Callable[..., Outcome]
) -> None:
    """Of 192 MiB in mappings of 16, before and after the program writes to them."""
    python = os.path.realpath(sys.executable)
    for used in ("all", "little"):
        done = hrt([python, "-c", RESIDENT, used], overrides=[small_pages])
        assert done.status == 0, done.stderr
        ahead, resident = map(int, done.stdout.split())
        assert ahead > 150 if used == "all" else resident < 64


FIXED = """\
import ctypes

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
PRIVATE, NO_REPLACE, MIB = 0x22, 0x100000, 1 << 20
first = libc.mmap(None, MIB, 3, PRIVATE, -1, 0)
at = first + 40 * MIB
assert libc.mmap(at, 4096, 3, PRIVATE | NO_REPLACE, -1, 0) == at
ctypes.memset(at, 1, 4096)
for _ in range(20):
    new = libc.mmap(None, 4 * MIB, 3, PRIVATE, -1, 0)
    assert not new <= at < new + 4 * MIB
    assert not any(ctypes.string_at(new, 4 * MIB))
    ctypes.memset(new, 2, 4 * MIB)
assert ctypes.string_at(at, 4096) == bytes([1]) * 4096
"""


def test_a_mapping_in_an_arena(small_pages: str, hrt: Callable[..., Outcome]) -> None:
    """What the program maps at a place of its own is not taken for new memory of an arena."""
    python = os.path.realpath(sys.executable)
    for chosen in ("memory", small_pages):
        done = hrt([python, "-c", FIXED], overrides=[chosen])
        assert done.status == 0, done.stderr


@pytest.mark.parametrize("high", ["256", "8", "1"])
def test_heap(
    high: str, small_pages: str, programs: dict[str, str], same: Callable[..., Outcome]
) -> None:
    config = f"{HRT},memoryhigh={high}"
    for chosen in ("memory", small_pages):
        done = same([programs["heap"]], config=config, overrides=[chosen])
        assert done.stdout.endswith(b"right\n")


@pytest.mark.parametrize("sets", [("malloc", "memory"), ("malloc",)], ids=["both", "alone"])
def test_blocks(sets: Sequence[str], programs: dict[str, str], hrt: Callable[..., Outcome]) -> None:
    """Blocks of malloc() and its kin, also of blocks that outlive the HRT."""
    done = hrt([programs["blocks"]], overrides=sets)
    assert (done.status, done.stdout) == (0, b"right\n"), done.stderr


@pytest.mark.parametrize("seed", ["1", "2", "3", "4", "5", "6"])
def test_offsets(seed: str, programs: dict[str, str], same: Callable[..., Outcome]) -> None:
    assert same([programs["offsets"], seed], overrides=["files"]).stdout == b"right\n"


def forwarded(call: str, command: Sequence[str], overrides: Sequence[str], file: Path) -> int:
    """How often Linux was asked."""
    options = [f"--override={name}" for name in overrides]
    done = multiverse("run", "--require-hrt", f"--stats={file}", *options, "--", *command)
    assert done.returncode == 0, done.stderr
    return int(json.loads(file.read_text())["syscalls"].get(call, 0))


def test_offsets_are_kept(programs: dict[str, str], tmp_path: Path) -> None:
    """Of a hundred moves Linux sees the first."""
    command = [programs["offsets"], "only"]
    assert forwarded("lseek", command, [], tmp_path / "counts") >= 100
    assert forwarded("lseek", command, ["files"], tmp_path / "counts") == 1


def test_a_site_that_cannot_be_rewritten_is_tried_once(
    programs: dict[str, str], tmp_path: Path
) -> None:
    """A thousand answers at one site, and a single exit to have it rewritten."""
    file = tmp_path / "counts"
    above = "511"  # where statistics count all numbers that Linux does not have
    assert forwarded(above, [programs["stays"]], ["identity"], file) == 1


@pytest.mark.parametrize("channel", ["auto", "sync", "async"])
def test_a_signal_is_seen_when_a_function_that_held_it_returns(
    channel: str, programs: dict[str, str], hrt: Callable[..., Outcome]
) -> None:
    config = f"{HRT},channel={channel}"
    done = hrt([programs["held"]], config=config, overrides=[programs["probe"]])
    assert (done.status, done.stdout) == (0, b"late 0\n"), done


def test_readiness(programs: dict[str, str], same: Callable[..., Outcome]) -> None:
    assert same([programs["readiness"]], overrides=["files"]).stdout == b"right\n"


def test_nothing_is_ready_in_an_empty_instance(programs: dict[str, str], tmp_path: Path) -> None:
    command = [programs["readiness"], "only"]
    assert forwarded("epoll_wait", command, [], tmp_path / "counts") == 100
    assert forwarded("epoll_wait", command, ["files"], tmp_path / "counts") == 0


def test_clocks(programs: dict[str, str], same: Callable[..., Outcome]) -> None:
    assert same([programs["clocks"]], overrides=["time"]).stdout == b"right\n"


def test_clocks_are_read_in_the_hrt(programs: dict[str, str], tmp_path: Path) -> None:
    command, file = [programs["clocks"]], tmp_path / "counts"
    before = forwarded("clock_gettime", command, [], file)
    assert before - forwarded("clock_gettime", command, ["time"], file) >= 7 * 200 + 400
    assert forwarded("time", command, ["time"], file) == 0


@pytest.mark.parametrize("channel", ["auto", "sync", "async"])
@pytest.mark.parametrize("seed", ["1", "2"])
def test_waits(
    seed: str, channel: str, programs: dict[str, str], same: Callable[..., Outcome]
) -> None:
    """Of all that wait nobody is forgotten, nobody is woken twice, and the counts are right."""
    config = f"{HRT},channel={channel}"
    done = same([programs["waits"], seed], config=config, overrides=["sync"])
    assert done.stdout == b"right\n"


def test_waits_on_one_core(programs: dict[str, str], same: Callable[..., Outcome]) -> None:
    """Whoever looks keeps whom it waits for from the core."""
    assert same([programs["waits"], "3", "one"], overrides=["sync"]).stdout == b"right\n"


def test_wakes_that_find_nobody(programs: dict[str, str], tmp_path: Path) -> None:
    """Of them, and of waits for what has happened, Linux sees none."""
    command, file = [programs["waits"], "nobody"], tmp_path / "counts"
    assert forwarded("futex", command, [], file) >= 2000
    assert forwarded("futex", command, ["sync"], file) < 20


@pytest.mark.parametrize("channel", ["auto", "sync", "async"])
def test_masks(channel: str, programs: dict[str, str], same: Callable[..., Outcome]) -> None:
    """What is blocked is blocked, though Linux does not know."""
    done = same([programs["masks"]], config=f"{HRT},channel={channel}", overrides=["threads"])
    assert done.stdout.endswith(b"handled: 3000 of 3000\n")


@pytest.mark.parametrize("option", ["channel=auto", "channel=async", "hrtcpus=0x1"])
@pytest.mark.parametrize("overrides", [["threads"], []], ids=["threads", "plain"])
def test_signals_where_linux_does_not_see_masks(
    option: str, overrides: list[str], programs: dict[str, str], same: Callable[..., Outcome]
) -> None:
    config = f"{HRT},{option}"
    done = same([programs["unseen_masks"]], config=config, overrides=overrides)
    assert done.stdout.endswith(b"handled: 6000 of 6000\n")


def test_masks_that_linux_does_not_see(programs: dict[str, str], tmp_path: Path) -> None:
    command, file = [programs["masks"], "500"], tmp_path / "counts"
    assert forwarded("rt_sigprocmask", command, [], file) >= 4 * 500
    assert forwarded("rt_sigprocmask", command, ["threads"], file) < 100


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_barriers(seed: str, programs: dict[str, str], same: Callable[..., Outcome]) -> None:
    assert same([programs["barrier"], seed], overrides=["gc"]).stdout.startswith(b"right, ")


def test_barriers_of_a_program_that_leaves(
    programs: dict[str, str], hrt: Callable[..., Outcome]
) -> None:
    """Linux is told what is forbidden before the program goes on natively."""
    done = hrt([programs["barrier"], "4", "leave"], overrides=["gc"])
    assert done.stdout.startswith(b"right, "), done


@pytest.mark.parametrize("channel", ["auto", "async"])
def test_protected_memory_in_system_calls(
    channel: str, programs: dict[str, str], same: Callable[..., Outcome]
) -> None:
    config = f"{HRT},channel={channel}"
    assert same([programs["kernel_access"]], config=config, overrides=["gc"]).status == 0


def test_barriers_without_system_calls(programs: dict[str, str], tmp_path: Path) -> None:
    """At ring 0 hardly any mprotect is left to Linux; at ring 3 the set has nothing to do."""
    command, file = [programs["collector"]], tmp_path / "counts"
    before = forwarded("mprotect", command, [], file)
    after = forwarded("mprotect", command, ["gc"], file)
    if json.loads(file.read_text())["ring"]:
        assert after == before
    else:
        assert after < before / 4


def test_all_sets_together(programs: dict[str, str], same: Callable[..., Outcome]) -> None:
    sets = set(SETS) - {"time"}  # the probe answers gettimeofday, too
    same([programs["mappings"], "4"], overrides=[*sets, programs["probe"]])


REAL = {
    "bash": ["bash", "-c", "for i in 1 2 3; do echo $i $(echo $i | sed s/^/x/) & wait; done | wc"],
    "python": [
        sys.executable,
        "-c",
        "import os, threading, subprocess as s\n"
        "b = [bytearray(i * 999) for i in range(1, 400)]\n"
        "print(sum(map(len, b)), any(map(any, b)), os.getuid())\n"
        "t = [threading.Thread(target=lambda: [bytes(1 << 20) for _ in range(50)])"
        " for _ in range(4)]\n"
        "[x.start() for x in t]; [x.join() for x in t]\n"
        "print(s.run(['sh', '-c', 'exit 3']).returncode)",
    ],
    "multiprocessing": [
        sys.executable,
        "-c",
        "from multiprocessing import Pool\nwith Pool(2) as p: print(p.map(abs, range(-50, 0)))",
    ],
    "perl": ["perl", "-e", 'print length("x" x 50_000_000), " $< $>\\n"; fork or exit; wait'],
    "node": ["node", "-e", "let a=[]; for(let i=0;i<3e5;i++) a.push({i}); console.log(a.length)"],
    "racket": [
        "racket",
        "-e",
        "(for ([i 20]) (make-vector 500000 i)) (displayln (for/sum ([i 100000]) i))",
    ],
    "gcc": ["gcc", "-x", "c", "-O2", "-c", "-o", "x.o", "-"],
    "sort": ["bash", "-c", "seq 200000 | sort -r | tail -1"],
}


@pytest.mark.parametrize("name", REAL)
def test_programs_with_all_sets(name: str, same: Callable[..., Outcome]) -> None:
    path = shutil.which(REAL[name][0])
    if not path:
        pytest.skip(f"no {REAL[name][0]} here")
    done = same(
        [path, *REAL[name][1:]],
        stdin=b'#include <stdio.h>\nint main(void) { puts("x"); }\n',
        overrides=SETS,
    )
    assert done.status == 0


@pytest.mark.parametrize("name", ["bash", "python", "perl", "node", "racket", "gcc"])
def test_programs_with_hot_functions(
    name: str, programs: dict[str, str], same: Callable[..., Outcome]
) -> None:
    """memcpy(), strlen(), malloc() and the like of all threads go through a module."""
    path = shutil.which(REAL[name][0])
    if not path:
        pytest.skip(f"no {REAL[name][0]} here")
    source = b"int main(void) { return 0; }\n"
    same([path, *REAL[name][1:]], stdin=source, overrides=[programs["hot"]])


def test_children_that_are_followed(programs: dict[str, str]) -> None:
    """A program that the first one executes has the same modules, and its shell has them, too."""
    done = multiverse(
        *("run", "--require-hrt", "--follow", f"--override={programs['probe']}", "--"),
        *("bash", "-c", f"exec {programs['answers']}"),
    )
    lines = done.stdout.splitlines()
    assert lines[:4] == ANSWERS.splitlines()[:4], done.stderr
    assert "deep -1500" in lines  # functions are those of the first program's files


def test_leaving_the_hrt(programs: dict[str, str], hrt: Callable[..., Outcome]) -> None:
    """A program that asks for a filter goes on natively, where no module is."""
    done = hrt([programs["leaves"]], overrides=["identity"])
    assert done.stdout == b"same natively\n", done


def test_without_fsgsbase(programs: dict[str, str], hrt: Callable[..., Outcome]) -> None:
    """System calls are answered; functions, which could not find their data, stay as they are."""
    if " fsgsbase " in Path("/proc/cpuinfo").read_text():
        pytest.skip("the processor has FSGSBASE")
    done = hrt([programs["answers"]], config="require=1", overrides=[programs["probe"]])
    lines = done.stdout.decode().splitlines()
    assert lines[:11] == ANSWERS.splitlines()[:11]
    assert lines[11:] == ["deep -1500", "poke done", "poked 2", *lines[14:17], "doubled 22 101 -4"]
    assert b"no FSGSBASE" in done.stderr and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("channel", ["auto", "async"])
def test_the_channel_of_what_is_left(
    channel: str, programs: dict[str, str], tmp_path: Path
) -> None:
    """An entry's channel holds for what its function leaves to Linux."""
    if BUILT_GUESTS:
        pytest.skip("no compiler in the testbed")
    source, file = tmp_path / "leave.toml", tmp_path / "counts"
    entry = f'[[syscall]]\nname = "lseek"\ncall = "leave()"\nchannel = "{channel}"\n'
    source.write_text(entry)
    code = "#include <aerokernel/override.h>\nint64_t leave(void) { return AK_FALLBACK; }\n"
    source.with_suffix(".c").write_text(code)
    options = ("--require-hrt", "--channel=sync", f"--stats={file}", f"--override={source}")
    # So many that a poller gets a core meanwhile, on a busy machine, too.
    done = multiverse("run", *options, "--", programs["offsets"], "often")
    assert done.returncode == 0, done.stderr
    stats = json.loads(file.read_text())
    assert stats["syscalls"]["lseek"] >= 20000
    assert (stats["sync"].get("lseek", 0) == 0) == (channel == "async")


def test_a_module_that_fails(programs: dict[str, str], tmp_path: Path) -> None:
    """One that touches what is not there ends the program, with a report."""
    source = tmp_path / "wild.toml"
    source.write_text('[[syscall]]\nname = "sync"\ncall = "wild()"\nfallback = false\n')
    source.with_suffix(".c").write_text("long wild(void) { return *(volatile long *)64; }\n")
    if BUILT_GUESTS:
        pytest.skip("no compiler in the testbed")
    done = multiverse(*("run", "--require-hrt", f"--override={source}", "--", programs["answers"]))
    assert done.returncode == 125
    assert "an override module's access to memory" in done.stderr, done.stderr


def test_a_file_that_is_none(hrt: Callable[..., Outcome]) -> None:
    config = f"{HRT},override=0"
    done = hrt(["/bin/true"], config=config, stdin=b"what")
    assert done.status == 125 and done.stderr.startswith(b"multiverse: run: --override: ")
