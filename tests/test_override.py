"""Overrides up to what the core is given: TOML files, generated C, modules, programs' functions."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cffi
import pytest
from conftest import MULTIVERSE, multiverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multiverse.core import core_header
from multiverse.overrides import blob, calls, kept, plan
from multiverse.overrides.build import build, check
from multiverse.overrides.definition import read
from multiverse.overrides.errors import Mistakes, Unusable
from multiverse.overrides.image import Image
from multiverse.overrides.module import Module
from multiverse.overrides.patch import Beginning, beginning
from multiverse.overrides.plan import check_together, load
from multiverse.overrides.program import File, Program
from multiverse.overrides.sets import sets

INCLUDES = "#include <aerokernel.h>\n#include <aerokernel/override.h>\n"
CALL = '[[syscall]]\nname = "getpid"\ncall = "f()"\n'
F = "static int64_t f(void) { return 1; }\n"

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "multiverse" / "overrides"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write NAME.toml and NAME.c."""

    def write_both(toml: str, c: str = "", name: str = "x") -> Path:
        (tmp_path / f"{name}.c").write_text(INCLUDES + c)
        path = tmp_path / f"{name}.toml"
        path.write_text(toml)
        return path

    return write_both


def no_warning(line: str) -> None:
    raise AssertionError(line)


# ---- Mistakes ----------------------------------------------------------------------------------

# What is wrong, in TOML and C, and what is said of it: the line, and a part of the text.
WRONG: list[tuple[str, str, int, str]] = [
    ("summary = 3\n" + CALL, F, 1, "summary has to be a string"),
    ("sumary = 'x'\n" + CALL, F, 1, "unknown key sumary in the file; did you mean summary?"),
    ("a = [\n" + CALL, F, 2, "not TOML"),
    ("", F, 1, "overrides nothing"),
    ("summary = 'x'\nsets = 'memory'\n" + CALL, F, 2, "sets has to be an array"),
    ("summary = 'x'\nsets = [1]\n" + CALL, F, 2, "names of installed sets"),
    ("sets = ['memroy']\n", F, 1, "no set memroy is installed; did you mean memory?"),
    ("sets = ['memory', 'memory']\n", F, 1, "memory is in sets twice"),
    ("sources = ['y.c']\n" + CALL, F, 1, "no file y.c"),
    (CALL + "wen = 'x'\n", F, 4, "unknown key wen in [[syscall]]; did you mean when?"),
    (CALL + "fallback = 1\n", F, 4, "fallback has to be true or false"),
    (CALL + "channel = 'sync'\n", F, 4, "unknown channel sync; did you mean async?"),
    ("[[syscall]]\nname = 'getpid'\n", F, 1, "[[syscall]] has no call"),
    ("[[syscall]]\nname = 'getpidd'\ncall = 'f()'", F, 2, "did you mean getpid?"),
    ("[[syscall]]\nname = 'fork'\ncall = 'f()'", F, 2, "no function can answer it"),
    ("[[syscall]]\nname = 'bpf'\ncall = 'f()'", F, 2, 'legacy = "long bpf(...)"'),
    ("[[syscall]]\nnames = ['dup', 'dup']\ncall = 'f()'", F, 2, "each of them once"),
    ("[[syscall]]\nnames = ['dup', 'dupp']\ncall = 'f()'", F, 2, "did you mean dup?"),
    ("[[syscall]]\nname = 'dup'\nnames = ['dup']\ncall = 'f()'", F, 3, "take one out"),
    ("[[syscall]]\nnames = ['dup']\ncall = 'f(oldfd)'", F, 3, "1 argument, but it takes none"),
    ("[[syscall]]\nname = 'getpid'\ncall = 'f('", F, 3, "call: not C"),
    ("[[syscall]]\nname = 'getpid'\ncall = 'f() + 1'", F, 3, "call: not a call"),
    ("[[syscall]]\nname = 'getpid'\ncall = 'f(); int a = (1'", F, 3, "call: not C"),
    ("[[syscall]]\nname = 'getpid'\ncall = 'f(\"*/\") /* x'", F, 3, "comments"),
    ("[[syscall]]\nname = 'getpid'\ncall = '''\nf(\n)\n'''\nwen = 1", F, 7, "unknown key wen"),
    ("[[syscall]]\nname = 'getpid'\ncall = 'g()'", F, 3, "'g' undeclared"),
    ("[[syscall]]\nname = 'getpid'\ncall = 'f(1)'", F, 3, "1 argument, but it takes none"),
    ("[[syscall]]\nname = 'getpid'\ncall = 'v()'", F + "int v;", 3, "v is not a function"),
    (CALL + "result = 'errno'", F, 4, "negative errno by itself"),
    (CALL + "result = 'vlaue'", F, 4, "did you mean value?"),
    (CALL + "result = '1 + 2'", F, 4, "does not use `result`"),
    (CALL + "when = 'fd == 1'", F, 4, "the parameters are none"),
    (
        "[[syscall]]\nname = 'dup2'\ncall = 'f(oldfdd)'",
        "static int64_t f(unsigned a) { return a; }",
        3,
        "did you mean oldfd?",
    ),
    (
        "[[syscall]]\nname = 'lseek'\ncall = 'f(offset)'",
        "static int64_t f(int a) { return a; }",
        3,
        "widen it, or cast",
    ),
    (
        "[[syscall]]\nname = 'brk'\ncall = 'f(addr)'",
        "static int64_t f(long a) { return a; }",
        3,
        "makes integer from pointer",
    ),
    (
        "[[syscall]]\nname = 'stat'\ncall = 'f(pathname)'",
        "static int64_t f(char *a) { return *a; }",
        3,
        "discards 'const' qualifier",
    ),
    (
        "[[syscall]]\nname = 'getpid'\ncall = 'f()'\nfallback = true",
        "static int f(void) { return 1; }",
        3,
        "cannot be AK_FALLBACK",
    ),
    ("[[syscall]]\nname = 'getpid'\ncall = 'f()'", "static void f(void) {}", 3, '"none"'),
    (
        "[[syscall]]\nname = 'getpid'\ncall = 'f()'",
        "struct s { int a; };\nstatic struct s f(void) { return (struct s){1}; }",
        3,
        "a structure cannot be a result",
    ),
    ("[[function]]\nlegacy = 'int a b'\ncall = 'f()'", F, 2, "legacy: not C before 'b'"),
    ("[[function]]\nlegacy = 'int a(my_t b)'\ncall = 'f()'", F, 2, "types.my_t"),
    ("[[function]]\nlegacy = 'int a(FILE b)'\ncall = 'f()'", F, 2, "take a pointer to it"),
    ("[[function]]\nlegacy = 'int a(struct s b)'\ncall = 'f()'", F, 2, "take a pointer to it"),
    ("[[function]]\nlegacy = 'long double a(void)'\ncall = 'f()'", F, 2, "long double"),
    ("[[function]]\nlegacy = 'int a(int b, ...)'\ncall = 'f()'", F, 2, "variable number"),
    ("[[function]]\nlegacy = 'int a(b)'\ncall = 'f()'", F, 2, "without a type"),
    ("[[function]]\nlegacy = 'int a(int)'\ncall = 'f()'", F, 2, "parameter 1 has no name"),
    ("[[function]]\nlegacy = 'int a(void)'\ncall = 'f()'\nfailure = '0'", F, 4, "failure"),
    (
        "[[function]]\nlegacy = 'int a(void)'\ncall = 'f()'\nfallback = false",
        F,
        3,
        "a returns 32 bits, the function 64",
    ),
    (
        "[[function]]\nlegacy = 'double a(void)'\ncall = 'f()'",
        F,
        3,
        "a returns floating point, the function an integer",
    ),
    (
        CALL + "[[function]]\nlegacy = 'double a(double b)'\ncall = 'g(b)'",
        F + "static double g(double b) { return b; }",
        5,
        "two files",
    ),
    (CALL + CALL, F, 5, "getpid is here twice, first at"),
    ("types = { a = 'struct' }\n" + CALL, F, 1, "types.a"),
]


# The second one tells mistakes in other words, of the same lines.
COMPILERS = ["cc", "clang"]


def use_compiler(monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    monkeypatch.setenv("CC", compiler)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("toml", "c", "line", "text"), WRONG, ids=itertools.count(1))
def test_mistakes(
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    compiler: str,
    toml: str,
    c: str,
    line: int,
    text: str,
) -> None:
    use_compiler(monkeypatch, compiler)
    path = write(toml, c)
    with pytest.raises((Mistakes, Unusable)) as caught:
        build(path)
    lines = str(caught.value).split("\n")
    found = [one for one in lines if one.startswith(f"{path}:{line}: ")]
    assert any(text in one for one in found) or (found and compiler != "cc"), lines
    if isinstance(caught.value, Mistakes):
        assert len(lines) == 1


def test_all_mistakes_at_once(write: Write) -> None:
    """Those of the TOML file, of prototypes and of the compiler, sorted."""
    path = write(
        "sumary = 'x'\n" + CALL + "[[syscall]]\nname = 'getuid'\ncall = 'f(1)'\n"
        "[[syscall]]\nname = 'getgid'\ncall = 'g()'\n[[syscall]]\nname = 'dup'\ncall = 'h(fd)'\n",
        F + "static int64_t h(int a) { return a; }",
    )
    with pytest.raises(Mistakes) as caught:
        build(path)
    assert [mistake.place.line for mistake in caught.value.mistakes] == [1, 7, 10, 13]


def test_c_that_does_not_compile(write: Write) -> None:
    """The compiler's own text is shown, with the line in the user's file."""
    with pytest.raises(Unusable) as caught:
        build(write(CALL, F + "int broken(void) { return nothing; }\n"))
    assert re.search(r"x\.c:4:\d+: error: .*nothing", str(caught.value))


def test_warnings_are_shown(write: Write) -> None:
    built = build(write(CALL, F + "static int unused(void) { return 1; }\n"))
    assert "x.c:4:12: warning: 'unused' defined but not used" in built.messages


def test_what_is_not_there(write: Write) -> None:
    with pytest.raises(Unusable) as caught:
        build(write(CALL, "int printf(const char *, ...);\n" + F.replace("1", 'printf("x%d", 1)')))
    assert str(caught.value).startswith("x.c:4: needs printf, which is not there\n")


def test_compilers_calls_are_there(write: Write) -> None:
    """Compilers call memcpy() and its kin by themselves; a module's own come first."""
    c = "struct s { long a[99]; };\nstruct s x, y;\nstatic int64_t f(void) { x = y; return 1; }\n"
    build(write(CALL, c))
    own = "size_t strlen(const char *s);\nsize_t strlen(const char *s) { return *s; }\n"
    build(write(CALL, own + c))


def test_thread_local_variables_are_refused(write: Write) -> None:
    with pytest.raises(Unusable, match="thread-local"):
        build(write(CALL, "__thread int t;\n" + F.replace("1", "t")))


def test_no_compiler(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/nonexistent/cc")
    with pytest.raises(Unusable, match=r"^/nonexistent/cc: .*install gcc"):
        build(write(CALL, F))


def test_two_files_for_one_call(write: Write) -> None:
    paths = [write(CALL, F, name) for name in ("one", "two")]
    with pytest.raises(Mistakes) as caught:
        blob(map(str, paths), "/bin/true")
    text = str(caught.value)
    assert text.startswith(f"{paths[1]}:2: ") and f"also at {paths[0]}:2" in text


def test_sets_of_a_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """A file may have installed sets with it, and a module built of it has them, too."""
    one = write("sets = ['memory']\n" + CALL, F, "one")
    assert blob([str(one)], "/bin/true") == blob([str(write(CALL, F)), "memory"], "/bin/true")
    made = str(tmp_path / "made.override")
    done = multiverse("override", "build", str(one), "-o", made)
    assert (done.returncode, done.stderr) == (0, "")
    assert blob([made], "/bin/true") == blob([str(one)], "/bin/true")
    shown = multiverse("override", "explain", made).stdout
    assert "with the installed sets memory" in shown and "system call getpid (39)" in shown
    assert "system call mmap (9)" in shown
    both = write("sets = ['memory', 'identity']\n", "", "both")
    assert multiverse("override", "build", str(both), "-o", made).returncode == 0
    monkeypatch.setenv("CC", "/nonexistent/cc")  # as nothing is to be compiled
    sets_alone = blob(["memory", "identity"], "/bin/echo")
    assert blob([str(both)], "/bin/echo") == sets_alone
    numbers = [
        [call.nr for call in decode(content)[1]]
        for content in (blob([made], "/bin/echo"), sets_alone)
    ]
    assert numbers[0] == numbers[1] != []


def test_sets_of_a_file_meet_others(write: Write) -> None:
    clash = write("sets = ['identity']\n" + CALL, F)
    done = multiverse("override", "check", str(clash))
    assert done.returncode == 1
    assert re.match(rf"identity\.toml:\d+: .* getpid is .* twice, also at {clash}:3;", done.stderr)
    again = write("sets = ['memory']\n", "", "y")
    done = multiverse("override", "check", "memory", str(again))
    assert done.returncode == 1 and "the system call mmap is taken over twice" in done.stderr


def function(legacy: str, call: str, *more: str) -> str:
    return "\n".join(["[[function]]", f'legacy = "{legacy}"', f'call = "{call}"', *more, ""])


def test_cycles(write: Write) -> None:
    """Across modules; what only another function of the module calls is no cycle."""
    one = write(
        function("int getpagesize(void)", "f()")
        + function("int getdtablesize(void)", "g()")
        + '[[import]]\nlegacy = "int sched_yield(void)"\n',
        "int sched_yield(void);\nstatic int f(void) { return sched_yield(); }\n"
        "static int g(void) { return 1; }",
        "one",
    )
    other = '[[import]]\nlegacy = "int {name}(void)"\n'
    two = function("int sched_yield(void)", "f()")
    c = "int {name}(void);\nstatic int f(void) {{ return {name}(); }}\n"
    harmless, cyclic = (
        write(two + other.format(name=name), c.format(name=name), name)
        for name in ("getdtablesize", "getpagesize")
    )
    check_together([load(str(path), no_warning) for path in (one, harmless)])
    with pytest.raises(Mistakes, match="getpagesize -> sched_yield -> getpagesize"):
        check_together([load(str(path), no_warning) for path in (one, cyclic)])


def test_a_function_that_calls_itself(write: Write) -> None:
    path = write(
        function("int sched_yield(void)", "f()") + '[[import]]\nlegacy = "int sched_yield(void)"\n',
        "int sched_yield(void);\nstatic int f(void) { return sched_yield(); }\n",
    )
    with pytest.raises(Mistakes, match="a cycle: sched_yield -> sched_yield.*AK_FALLBACK"):
        check_together([load(str(path), no_warning)])


def test_calls_are_not_answered_by_the_program(write: Write) -> None:
    path = write(
        CALL + function("int raise(int sig)", "f()") + '[[import]]\nlegacy = "int rand(void)"\n',
        "int rand(void);\nstatic int64_t f(void) { return rand(); }\n",
    )
    with pytest.raises(Mistakes, match=f"{path}:2: getpid cannot be answered by calling rand"):
        build(path)


def test_originals_are_no_cycle(write: Write) -> None:
    path = write(
        function("int sched_yield(void)", "f()"),
        "static int64_t f(void) { return AK_FALLBACK; }\n",
    )
    check_together([load(str(path), no_warning)])


VALID = """summary = "x"
types = { my_t = "struct mine" }
[[syscall]]
name = "mmap"
call = "f(addr, length)"
when = "prot == 3"
[[function]]
legacy = "int raise(int sig, const my_t *x)"
call = '''
f(sig,
  x)'''
result = "result * 2"
[[import]]
legacy = "int rand(void)"
"""


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_in_a_file(tmp_path: Path, data: st.DataObject) -> None:
    """It is read, or there is a mistake in one of its lines; nothing else happens."""
    text = VALID
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(at + 12, len(text))))
        pieces = st.sampled_from(["", "[", "{", '"', "'", "(", "void", "[[import]]\n", "a.b", "\0"])
        text = text[:at] + data.draw(st.one_of(pieces, st.text(max_size=3))) + text[end:]
    path = tmp_path / "any.toml"
    path.write_bytes(text.encode(errors="replace"))
    try:
        mistakes = read(path).mistakes
    except Mistakes as error:
        mistakes = error.mistakes
    lines = text.count("\n") + 1
    assert all(m.place.file == str(path) and 1 <= m.place.line <= lines for m in mistakes)


def test_deep_nesting(write: Write) -> None:
    with pytest.raises(Mistakes, match="nested too deeply"):
        build(write("a = " + "[" * 100000))


def test_not_utf8(write: Write) -> None:
    path = write(CALL, F)
    path.write_bytes(b"summary = '\xff'\n" + CALL.encode())
    with pytest.raises(Mistakes, match="save it as UTF-8"):
        build(path)


@pytest.mark.parametrize(
    "name", ["with space", "caf\u00e9", "a#b$c", 'qu"ote', os.fsdecode(b"\xff")]
)
def test_strange_names(tmp_path: Path, name: str) -> None:
    """Of folder and file; in messages, in the cache, in what the compiler reads."""
    directory = tmp_path / name
    directory.mkdir()
    plain = '"' not in name and name.isprintable()
    path = directory / (f"{name}.toml" if plain else "x.toml")
    path.write_text(CALL)
    path.with_suffix(".c").write_text(INCLUDES + F)
    first = build(path)
    assert str(path.with_suffix(".c")) in dict(first.module.description.inputs)
    assert build(path).content == first.content
    path.write_text(CALL + "when = 'x'\n")
    with pytest.raises(Mistakes) as caught:
        build(path)
    assert str(caught.value).startswith(f"{path}:4: 'x' undeclared")


# ---- System calls' parameters ------------------------------------------------------------------


def test_table_of_calls() -> None:
    assert len(calls.known()) >= 120
    for name in calls.known():
        found = calls.parameters(name)
        assert found and name in calls.NUMBERS and len(found.parameters) <= 6
        assert not found.floating


# ---- Generated code ----------------------------------------------------------------------------


def test_generated_code_is_readable(write: Write) -> None:
    path = write(
        '[[syscall]]\nname = "madvise"\ncall = "f(length, addr, 7)"\nwhen = "advice == 4"\n',
        "static int64_t f(size_t n, void *p, int x) { return p ? (int64_t)n * x : AK_FALLBACK; }",
    )
    shown = multiverse("override", "explain", "--source", str(path)).stdout
    assert shown.endswith(f"""
// {path}:2: madvise
bool mv_call_28(struct ak_call *call);
bool mv_call_28(struct ak_call *call)
{{
    void *addr = (void *)call->arg[0];
    size_t length = (size_t)call->arg[1];
    int advice = (int)call->arg[2];
    if (!(advice == 4))
        return false;
    const __auto_type result = f(length, addr, 7);
    if (result == AK_FALLBACK)
        return false;
    call->result = result;
    return true;
}}
""")


class Memory:
    """Modules in this process's memory: what the core does, where addresses are small."""

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    next_base = 0x20000000
    READ_WRITE_EXECUTE, PRIVATE_ANONYMOUS_FIXED = 7, 0x100022

    def __init__(self, *modules: Module) -> None:
        self.image = Image(modules, Memory.next_base)
        size = len(self.image.content)
        Memory.next_base += size + 0x10000
        at = self.libc.mmap(
            ctypes.c_void_p(self.image.base),
            ctypes.c_size_t(size),
            self.READ_WRITE_EXECUTE,
            self.PRIVATE_ANONYMOUS_FIXED,
            -1,
            ctypes.c_long(0),
        )
        assert at == self.image.base
        ctypes.memmove(at, bytes(self.image.content), size)
        self.size = size

    def close(self) -> None:
        self.libc.munmap(ctypes.c_void_p(self.image.base), ctypes.c_size_t(self.size))

    def word(self, name: str, module: int = 0) -> Any:
        return ctypes.c_uint64.from_address(self.image.address(module, name))

    def syscall(self, nr: int, *arguments: int) -> int | None:
        """The result of a wrapper; None: Linux shall answer."""
        words = [argument % (1 << 64) for argument in arguments]
        call = (ctypes.c_uint64 * 8)(nr, *words, *([0] * (6 - len(words))), 0xDEAD)
        wrapper = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
        answered = wrapper(self.image.address(0, f"mv_call_{nr}"))(ctypes.addressof(call))
        return struct.unpack("<q", struct.pack("<Q", call[7]))[0] if answered else None


def test_arguments_have_the_types_of_the_call(write: Write) -> None:
    """As Linux does, an int is the low half of its register."""
    memory = Memory(
        build(
            write(
                "[[syscall]]\nname = 'fcntl'\ncall = 'f(arg, fd)'\n"
                "[[syscall]]\nname = 'kill'\ncall = 'g(sig, pid)'\nresult = 'error'\n"
                "[[syscall]]\nname = 'brk'\ncall = 'h(addr)'\nresult = 'none'\n"
                "[[syscall]]\nname = 'alarm'\ncall = 'i(seconds)'\nresult = 'result ? -5 : 6'\n",
                "long seen;\n"
                "static int64_t f(unsigned long a, unsigned b) { return (int64_t)(a ^ b); }\n"
                "static int g(int a, int b) { return a == -1 ? b : 0; }\n"
                "static void h(void *a) { seen = (long)a; }\n"
                "static bool i(unsigned a) { return a > 7; }\n",
            )
        ).module
    )
    big = 0x1234567800000001
    assert memory.syscall(72, big, 0, 0xF0F0F0F0F0F0F0F0) == 0xF0F0F0F0F0F0F0F1 - (1 << 64)
    assert memory.syscall(72, 0, 0, 1 << 63) is None  # AK_FALLBACK
    assert memory.syscall(62, 0x5_0000_0016, 0x7_FFFF_FFFF) == -22
    assert memory.syscall(62, 5, 1) == 0
    assert memory.syscall(12, big) == 0 and memory.word("seen").value == big
    assert memory.syscall(37, 8) == -5 and memory.syscall(37, 7) == 6
    memory.close()


def test_several_calls(write: Write) -> None:
    """They share a wrapper, which is told which of them it is."""
    path = write(
        "[[syscall]]\nnames = ['dup', 'bpf']\ncall = 'f(call)'",
        "static int64_t f(const struct ak_call *c) { return (int64_t)(c->nr + c->arg[1]); }",
    )
    module = build(path).module
    taken = [(call.name, call.symbol) for call in module.description.calls]
    assert taken == [("dup", "mv_call_32"), ("bpf", "mv_call_32")]
    memory = Memory(module)
    assert memory.syscall(32, 0, 5) == 32 + 5
    memory.close()


def test_conditions(write: Write) -> None:
    memory = Memory(
        build(
            write(
                "[[syscall]]\nname = 'mmap'\ncall = 'f(length)'\nfallback = false\n"
                "when = '(flags & MAP_ANONYMOUS) && addr == 0'\n",
                "#include <linux/mman.h>\n"
                "static int64_t f(size_t a) { return a ? AK_FALLBACK : 3; }\n",
            )
        ).module
    )
    assert memory.syscall(9, 0, 0, 3, 0x22) == 3
    assert memory.syscall(9, 0, 1, 3, 0x22) == -(1 << 63)  # stands as it is
    assert memory.syscall(9, 0, 0, 3, 0x2) is None
    assert memory.syscall(9, 4096, 0, 3, 0x22) is None
    memory.close()


ERRNO = ctypes.c_int(0)
ERRNO_LOCATION = ctypes.CFUNCTYPE(ctypes.c_void_p)(lambda: ctypes.addressof(ERRNO))


def test_errno(write: Write) -> None:
    """Negative errnos become -1, NULL or MAP_FAILED with errno set, or an error number."""
    toml = "".join(
        [
            function("int a(long x)", "f(x)", 'result = "errno"'),
            function("void *b(long x)", "p(x)", 'result = "errno"'),
            function("void *c(long x)", "p(x)", 'result = "errno"', 'failure = "MAP_FAILED"'),
            function("int d(long x)", "f(x)", 'result = "error"'),
            function("int e(long x)", "f(x)", 'result = "none"', "fallback = false"),
            function("long g(long x)", "f(x)", 'result = "errno"', 'failure = "-7"'),
        ]
    )
    c = "static int64_t f(long x) { return x; }\nstatic void *p(long x) { return (void *)x; }\n"
    memory = Memory(build(write(toml, c)).module)
    memory.word("mv_errno").value = ctypes.cast(ERRNO_LOCATION, ctypes.c_void_p).value
    originals = [ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(lambda x: 77)]

    def called(index: int, name: str, x: int, result: Any = ctypes.c_int) -> tuple[int | None, int]:
        ERRNO.value = 0
        wrapper = ctypes.CFUNCTYPE(result, ctypes.c_long)
        return wrapper(memory.image.address(0, f"mv_function_{index}_{name}"))(x), ERRNO.value

    for index, name in enumerate("abcdg"):
        if name != "g":
            slot = memory.word(f"mv_original_{index}_{name}")
            slot.value = ctypes.cast(originals[0], ctypes.c_void_p).value
    assert called(0, "a", 5) == (5, 0) and called(0, "a", -13) == (-1, 13)
    assert called(0, "a", -4095) == (-1, 4095) and called(0, "a", -4096) == (-4096, 0)
    assert called(0, "a", -(1 << 63)) == (77, 0)
    assert called(1, "b", 1 << 40, ctypes.c_void_p) == (1 << 40, 0)
    assert called(1, "b", -12, ctypes.c_void_p) == (None, 12)
    assert called(2, "c", -12, ctypes.c_void_p) == ((1 << 64) - 1, 12)
    assert called(3, "d", -11) == (11, 0) and called(3, "d", 0) == (0, 0)
    assert called(4, "e", -11) == (0, 0)
    assert called(5, "g", -11, ctypes.c_long) == (-7, 11)
    memory.close()


def test_structures_need_not_be_known(write: Write) -> None:
    path = write(
        function("struct a *b(struct c *x, const union d *y, FILE *z)", "f(x, y, z)")
        + '[[import]]\nlegacy = "long e(struct g *x)"\n'
        + function("int h(struct stat *x)", "g(x)"),
        "long e(struct g *x);\nstatic int64_t g(void *x) { return e(x); }\n"
        "static void *f(void *x, const void *y, void *z) { return y ? x : z; }\n",
    )
    assert build(path).messages == ""


def test_void_functions(write: Write) -> None:
    """With condition and fallback; and signals that wait are in the generated code."""
    path = write(
        "types = { my_t = 'struct mine' }\n"
        + function("void a(const my_t *x)", "f(x->n)", "when = 'x->n > 3'", "signal_safe = false"),
        "struct mine { long n; };\nlong seen;\n"
        "static int64_t f(long n) { seen = n; return n == 5 ? AK_FALLBACK : 0; }\n",
    )
    source = check(path).wrappers.source(with_lines=False)
    assert source.index("ak_hold();") < source.index("f(x->n)") < source.index("ak_release();")
    path.write_text(path.read_text().replace("signal_safe = false", ""))
    memory = Memory(build(path).module)
    kind = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_long))
    given_to_original: list[int] = []
    original = kind(lambda x: given_to_original.append(x[0]))
    memory.word("mv_original_0_a").value = ctypes.cast(original, ctypes.c_void_p).value
    wrapper = kind(memory.image.address(0, "mv_function_0_a"))
    for n in (3, 4, 5, 6):
        wrapper(ctypes.c_long(n))
        assert memory.word("seen").value == (0 if n == 3 else n)
    assert given_to_original == [3, 5]
    memory.close()


# C types, the ctypes that go with them, and values that tell when something is cut off.
TYPES: dict[str, tuple[Any, Any]] = {
    "int": (ctypes.c_int, st.integers(-(1 << 31), (1 << 31) - 1)),
    "unsigned int": (ctypes.c_uint, st.integers(0, (1 << 32) - 1)),
    "short": (ctypes.c_short, st.integers(-(1 << 15), (1 << 15) - 1)),
    "unsigned char": (ctypes.c_ubyte, st.integers(0, 255)),
    "long": (ctypes.c_long, st.integers(-(1 << 63) + 1, (1 << 63) - 1)),
    "uint64_t": (ctypes.c_uint64, st.integers(0, (1 << 63) - 1)),
    "struct thing *": (ctypes.c_void_p, st.integers(1, (1 << 47) - 1)),
    "float": (ctypes.c_float, st.floats(width=32, allow_nan=False)),
    "double": (ctypes.c_double, st.floats(allow_nan=False)),
}


@st.composite
def mappings(draw: Any) -> dict[str, Any]:
    """A legacy function, which of its arguments go where, and values for a call."""
    names = st.sampled_from(sorted(TYPES))
    kinds = draw(st.lists(names, min_size=1, max_size=11))
    order = draw(st.permutations(range(len(kinds))))[: draw(st.integers(0, len(kinds)))]
    constants = draw(st.lists(st.integers(0, (1 << 63) - 1), max_size=2))
    result = draw(names)
    return {
        "kinds": kinds,
        "order": order,
        "constants": constants,
        "result": (result, draw(TYPES[result][1])),
        "values": [draw(TYPES[kind][1]) for kind in kinds],
        "when": draw(st.booleans()),
    }


def literal(kind: str, value: Any) -> str:
    if kind in ("float", "double"):
        return value.hex().replace("inf", "__builtin_inf()")
    return f"({kind})({value}l)"


def mapped(index: int, mapping: dict[str, Any]) -> tuple[str, str]:
    """TOML and C of one function, which writes down what it gets."""
    kinds, order = mapping["kinds"], mapping["order"]
    parameters = ", ".join(f"{kind} p{i}" for i, kind in enumerate(kinds))
    result, value = mapping["result"]
    arguments = [f"p{i}" for i in order] + [f"{c}ul" for c in mapping["constants"]]
    more = ['when = "1"']
    toml = function(
        f"{result} legacy{index}({parameters})",
        f"f{index}({', '.join(arguments)})",
        "fallback = false",
        *(more if mapping["when"] else ()),
    )
    own = [*(kinds[i] for i in order), *(["uint64_t"] * len(mapping["constants"]))]
    taken = ", ".join(f"{kind} a{i}" for i, kind in enumerate(own)) or "void"
    copies = "".join(
        f"    __builtin_memcpy(&seen{index}[{i}], &a{i}, sizeof(a{i}));\n" for i in range(len(own))
    )
    c = (
        f"uint64_t seen{index}[16];\nstatic {result} f{index}({taken})\n{{\n{copies}"
        f"    return {literal(result, value)};\n}}\n"
    )
    return toml, c


@pytest.mark.parametrize("compiler", COMPILERS)
@given(several=st.lists(mappings(), min_size=6, max_size=6))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_everything_arrives(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compiler: str,
    several: list[dict[str, Any]],
) -> None:
    """Any arguments in any order, 64 bits, pointers, floating point, more than six; and results."""
    use_compiler(monkeypatch, compiler)
    pieces = [mapped(i, mapping) for i, mapping in enumerate(several)]
    path = tmp_path / "any.toml"
    path.write_text("\n".join(toml for toml, _ in pieces))
    (tmp_path / "any.c").write_text(INCLUDES + "struct thing;\n" + "".join(c for _, c in pieces))
    memory = Memory(build(path, cache=False).module)
    for i, mapping in enumerate(several):
        kinds = [TYPES[kind][0] for kind in mapping["kinds"]]
        kind, value = mapping["result"]
        wrapper = ctypes.CFUNCTYPE(TYPES[kind][0], *kinds)
        address = memory.image.address(0, f"mv_function_{i}_legacy{i}")
        assert wrapper(address)(*mapping["values"]) == value
        seen = memory.image.address(0, f"seen{i}")
        wanted = [(kinds[j], mapping["values"][j]) for j in mapping["order"]]
        wanted += [(ctypes.c_uint64, constant) for constant in mapping["constants"]]
        for j, (ctype, argument) in enumerate(wanted):
            assert ctype.from_address(seen + 8 * j).value == argument
    memory.close()


def test_modules_share_an_image(write: Write) -> None:
    """Code and data of each find each other, pointers in data included."""
    c = (
        'static const char *const texts[] = {{"{a}", "{b}"}};\nstatic long n = {n};\nlong m[600];\n'
        "static long g(long x) {{ return x + n + m[599]; }}\nlong (*volatile h)(long) = g;\n"
        "static int64_t f(long x) {{ m[599] = x; return h(texts[x][0]); }}\n"
    )
    modules = []
    for i, (name, nr) in enumerate((("getpgid", 121), ("getsid", 124))):
        toml = f"[[syscall]]\nname = '{name}'\ncall = 'f(pid)'\n"
        path = write(toml, c.format(a=chr(65 + i), b=chr(97 + i), n=1000 * nr), name)
        modules.append(build(path).module)
    memory = Memory(*modules)
    wrapper = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
    for i, nr in enumerate((121, 124)):
        for x in (0, 1):
            call = (ctypes.c_uint64 * 8)(nr, x)
            address = memory.image.address(i, f"mv_call_{nr}")
            assert wrapper(address)(ctypes.addressof(call))
            assert call[7] == (65 + 32 * x + i) + 1000 * nr + x
    assert memory.image.text_size % 4096 == 0 and memory.image.data_size % 4096 == 0
    memory.close()


# ---- Modules and the cache ---------------------------------------------------------------------


def test_built_modules_are_the_same(write: Write, tmp_path: Path) -> None:
    path = write(CALL, F)
    target = tmp_path / "x.override"
    done = multiverse("override", "build", str(path), "-o", str(target))
    assert done.returncode == 0 and done.stderr == "", done
    path.unlink()
    (tmp_path / "x.c").unlink()
    assert blob([str(target)], "/bin/true") == blob([str(write(CALL, F))], "/bin/true")
    notes = subprocess.run(["readelf", "-nW", str(target)], capture_output=True, text=True).stdout
    assert ".note.multiverse.override" in notes and "Multiverse" in notes


@pytest.mark.parametrize(
    "damage", ["empty", "text", "program", "truncated", "note", "nr", "type", "version"]
)
def test_damaged_modules(write: Write, tmp_path: Path, damage: str) -> None:
    content = build(write(CALL, F)).content
    at = content.index(b'{"name"')
    damaged = {
        "version": content.replace(b'"multiverse": "0.', b'"multiverse": "9.'),
        "empty": b"",
        "text": b"summary = 'x'\n",
        "program": Path("/bin/true").read_bytes(),
        "truncated": content[: len(content) // 2],
        "note": content[:at] + b"[" + content[at + 1 :],
        "nr": content.replace(b'"nr": 39', b'"nr": -9'),
        "type": content.replace(b'"nr": 39', b'"nr": ""'),
    }[damage]
    target = tmp_path / "x.override"
    target.write_bytes(damaged)
    with pytest.raises(Unusable, match=f"^{target}: .*; ?build it"):
        blob([str(target)], "/bin/true")


@given(st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_a_module(tmp_path: Path, data: st.DataObject) -> None:
    """A module is used, or refused with a line; nothing else happens."""
    source = tmp_path / "x.toml"
    if not source.exists():
        source.write_text(CALL)
        (tmp_path / "x.c").write_text(INCLUDES + F)
    content = bytearray(build(source).content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    target = tmp_path / "y.override"
    target.write_bytes(content)
    try:
        blob([str(target)], "/bin/true")
    except (Unusable, Mistakes) as error:
        assert str(error)


def test_cache(write: Write, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second use needs no compiler; a change of any input, headers included, does."""
    (tmp_path / "x.h").write_text("#define X 1\n")
    c = '#include "x.h"\n' + F.replace("1", "X")
    path = write(CALL, c)
    first = build(path).content
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("multiverse.overrides.compiler._run", None)
    assert build(path).content == first
    (tmp_path / "x.h").write_text("#define X 2\n")
    with pytest.raises(TypeError):
        build(path)
    monkeypatch.undo()


def test_no_cache(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    build(write(CALL, F))


# ---- Programs ----------------------------------------------------------------------------------


def compiled(tmp_path: Path, name: str, source: str, *flags: str) -> Path:
    (tmp_path / f"{name}.c").write_text(source)
    target = tmp_path / name
    command = ["cc", "-O1", *flags, str(tmp_path / f"{name}.c"), "-o", str(target)]
    # Libraries go behind what uses them.
    command = [w for w in command if not w.startswith("-l")] + [w for w in flags if w[:2] == "-l"]
    subprocess.run(command, check=True, timeout=60)
    return target


LIBRARY = "int thing(int x) { volatile int y = x; return y + 1; }\n"
USER = "int thing(int); int main(void) { return thing(1); }\n"


def shared(tmp_path: Path, directory: str, name: str = "libthing.so") -> Path:
    (tmp_path / directory).mkdir()
    return compiled(tmp_path, f"{directory}/{name}", LIBRARY, "-shared", "-fPIC")


def test_the_dynamic_linkers_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RUNPATH, LD_LIBRARY_PATH before it, LD_PRELOAD before all."""
    run, path, preload = (shared(tmp_path, name) for name in ("run", "path", "preload"))
    user = compiled(tmp_path, "user", USER, f"-L{run.parent}", "-lthing", "-Wl,-rpath,$ORIGIN/run")

    def where(library: str | None = None) -> Path:
        found = Program(str(user)).find("thing", library)
        assert found
        return Path(found.file.path)

    assert where() == run
    (link := path.parent / "link").symlink_to(user)  # $ORIGIN is where the file is
    in_link = Program(str(link)).find("thing", None)
    assert in_link and in_link.file.path == str(run)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(path.parent))
    assert where() == path
    monkeypatch.setenv("LD_PRELOAD", str(preload))
    assert where() == preload
    assert where(str(path)) == path and where(str(run)) == run
    with pytest.raises(Unusable, match=r"does not load libx.so; it loads user, libthing.so"):
        where("libx.so")


@pytest.mark.parametrize("flags", [["-static"], ["-static-pie"], ["-no-pie"]])
def test_programs_own_functions(tmp_path: Path, flags: list[str]) -> None:
    user = compiled(tmp_path, "user", LIBRARY + USER, *flags)
    found = Program(str(user)).find("thing", None)
    assert found and found.file.path == str(user)
    code = subprocess.run(
        ["objdump", "-d", "--disassemble=thing", user], capture_output=True, text=True
    ).stdout
    first = re.search(r"<thing>:\n\s+[0-9a-f]+:\s((?:[0-9a-f]{2} )+)", code)
    assert first and found.file.code(found.function, 8).hex(" ").startswith(first[1].strip())


def test_scripts(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f"#!/usr/bin/env -S {sys.executable} -u\n")
    assert os.path.samefile(Program(str(script)).path, sys.executable)
    script.write_text("#!/bin/sh\n")
    assert Program(str(script)).path == "/bin/sh"
    script.write_text(f"#!{script}\n")
    with pytest.raises(Unusable, match="too many scripts"):
        Program(str(script))


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_a_program(tmp_path: Path, data: st.DataObject) -> None:
    """Its functions are found or not, or it is refused; nothing else happens."""
    user = tmp_path / "user"
    if not user.exists():
        compiled(tmp_path, "user", LIBRARY + USER, "-nostdlib", "-shared", "-fPIC")
    content = bytearray(user.read_bytes())
    headers = content[40:48]  # e_shoff
    tables = [range(64), range(64, 700), range(int.from_bytes(headers, "little"), len(content))]
    for _ in range(data.draw(st.integers(1, 4))):
        table = data.draw(st.sampled_from([*tables, range(len(content))]))
        content[data.draw(st.sampled_from(table))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    try:
        file = File(str(damaged))
        assert file.soname is None or isinstance(file.soname, str)
        for table in (file.dynamic, file.static):
            assert "other" not in table.names() or table.function("other")
            function = table.function("thing")
            if function:
                beginning(file.code(function, function.size), function.size)
    except Unusable as error:
        assert str(error)


MOVABLE = [
    ("b827000000 0f05 c3", 5, None, ()),  # mov $39, %eax; syscall; ret
    ("f30f1efa b827000000 0f05 c3", 9, None, ()),  # endbr64 before it
    ("55 4889e5 488b05aabbcc00 c3", 11, None, ((7, 11),)),  # mov 0xccbbaa(%rip), %rax
    ("c705aabbcc0078563412 c3", 10, None, ((2, 10),)),  # movl $0x12345678, 0xccbbaa(%rip)
    ("4883ec08 e8aabbcc00 c3", 9, None, ((5, 9),)),  # call
    ("e9aabbcc00 c3", 5, None, ((1, 5),)),  # jmp
    ("31c0 0f84aabbcc00 c3", 8, None, ((4, 8),)),  # je
    # Short branches become long ones, behind which displacements change.
    ("4885ff 7404 90909090 c3", 5, "4885ff 0f8400000000", ((5, 9),)),
    ("85ff 7409 488d0502000000 c3 31c0c3", 11, "85ff 0f8405000000 488d05feffffff",
     ((4, 8), (11, 15))),
    # What follows the function is padding until the next one.
    ("ebf0 | 0f1f8000000000 660f1f44000090", 5, "e9edffffff", ((1, 5),)),
    ("31c0c3 | 0f1f8000000000 660f1f440000", 5, "31c0c3", ()),
    ("c3 | cccccccccccccccccccccccccccccc", 5, "c3", ()),
    ("31c0c3 | 662e0f1f840000000000 6690 90", 5, "31c0c3", ()),
]  # fmt: skip
NOT_MOVABLE = [
    ("31c0c3", "is only 3 bytes long, with no room"),
    ("c3 | 0f1f8000000000", "is only 1 byte long"),  # there is no next one
    ("31c0c3 | b801000000c3", "is only 3 bytes long"),
    ("31c0c3 | 0f1f8000000000 660f1f8400000000c3", "is only 3 bytes long"),  # it is not aligned
    ("ebfe | 9090909090909090909090909090", "jumps back"),
    ("e302 90909090c3", "begins with a branch"),
    ("7400 7400 7400 c3", "begins with instructions"),
    ("31c0 0f05 c39090", "system call"),
    ("90 90 90 90 90 90 ebfa c3", "jumps back"),
    ("554889e5 5d ff0f ebf7 c3", "jumps back"),
    ("06 06 06 06 06 06", "does not begin with code"),
    ("90 90 90 90 90 06 ebfb c3", "jumps back"),  # behind what is no code
    ("", "does not say how long it is"),
]


def begun(code: str, address: int = 0) -> Beginning:
    """Of a function, which ends at the bar."""
    own, _, behind = code.partition("|")
    size = len(bytes.fromhex(own))
    return beginning(bytes.fromhex(own + behind), size, address)


@pytest.mark.parametrize(("code", "length", "moved", "displacements"), MOVABLE)
def test_beginnings(
    code: str, length: int, moved: str | None, displacements: tuple[tuple[int, int], ...]
) -> None:
    there = bytes.fromhex(code.replace("|", ""))[:length]
    wanted = bytes.fromhex(moved) if moved else there
    assert begun(code) == Beginning(there, wanted, displacements)


@pytest.mark.parametrize(("code", "why"), NOT_MOVABLE)
def test_beginnings_that_are_refused(code: str, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        begun(code)


def test_padding_ends_where_the_file_says() -> None:
    code = "31c0c3 | 9090909090 31c0c3"
    assert len(begun(code, 0x1008).code) == 5
    with pytest.raises(Unusable, match="is only 3 bytes long"):
        begun(code, 0x1000)


def decode(content: bytes) -> tuple[Any, list[Any], list[Any], list[Any]]:
    """A blob's header and tables."""
    ffi: Any = cffi.FFI()
    ffi.cdef(core_header("override.h"))
    buffer = ffi.from_buffer(content)
    head = ffi.cast("struct mv_override *", buffer)
    tables = []
    for name in ("call", "file", "function"):
        table = ffi.cast(f"struct mv_override_{name} *", buffer + getattr(head, f"{name}_table"))
        tables.append([table[i] for i in range(getattr(head, f"{name}s"))])
    answered, files, functions = tables
    return head, answered, files, functions


def test_blob(write: Write) -> None:
    """Everything in it is what core/abi/override.h says."""
    path = write(
        function("char *getenv(const char *name)", "f(name)", 'result = "errno"')
        + function("int atoi(const char *s)", "g(s)")
        + '[[import]]\nlegacy = "int puts(const char *s)"\n'
        + CALL.replace("f()", "h()"),
        "int puts(const char *s);\n"
        "static int64_t f(const char *s) { return s ? puts(s) : AK_FALLBACK; }\n"
        "static int g(const char *s) { return *s; }\nstatic int64_t h(void) { return 1; }\n",
    )
    content = blob([str(path)], sys.executable)
    head, answered, files, functions = decode(content)
    assert head.magic == 0x524F564D and head.version == 3 and head.size == len(content)
    assert head.image % 4096 == 0 and head.image + head.text_size + head.data_size == len(content)
    base = 0xFFFFFFFF86000000
    text = range(base, base + head.text_size)
    data = range(text.stop, text.stop + head.data_size)
    assert [call.nr for call in answered] == [39] and answered[0].wrapper in text
    libc = Program(sys.executable).find("getenv", None)
    assert libc
    status = os.stat(libc.file.path)
    assert [(f.device, f.inode, f.size, f.modified) for f in files] == [
        (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    ]
    getenv, atoi, puts, errno = functions
    raw = Path(libc.file.path).read_bytes()
    assert getenv.wrapper in text and getenv.original in data
    assert atoi.wrapper in text and atoi.original in data
    for taken in (getenv, atoi):
        assert bytes(taken.bytes)[: taken.length] == raw[taken.offset :][: taken.length]
        assert taken.length >= 5
    for needed in (puts, errno):
        assert needed.wrapper == 0 and needed.original in data and needed.original % 8 == 0
    assert len({f.original for f in functions}) == 4


def test_functions_that_are_not_there(write: Write) -> None:
    def refused(legacy: str, *more: str) -> str:
        with pytest.raises(Mistakes) as caught:
            blob([str(write(function(legacy, "f()", *more), F))], sys.executable)
        return str(caught.value)

    assert "did you mean getenv?" in refused("long getennv(void)")
    assert "does not load libx.so" in refused("long getenv(void)", 'library = "libx.so"')
    assert "only linked programs can call it" in refused("long other(void)", "new = true")


def test_how_functions_are_got_at(write: Write, tmp_path: Path) -> None:
    """`explain --program` says it of each."""
    path = write(
        function("size_t strlen(const char *s)", "f()")
        + function("char *getenv(const char *s)", "f()")
        + function("long squeezed(void)", "f()", "optional = true")
        + '[[import]]\nlegacy = "int strcmp(const char *a, const char *b)"\n',
        F,
    )
    done = multiverse("override", "explain", "--program", sys.executable, str(path))
    assert done.returncode == 0, done.stderr
    found = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if "  found" in line]
    assert found[0].endswith("an IFUNC: what its resolver chooses is taken over, whoever calls it")
    assert re.fullmatch(r"in libc.so.6: a jump takes the place of its first \d+ bytes", found[1])
    assert found[2].startswith("not: no file of ")
    assert found[3].endswith("an IFUNC: what its resolver chooses is called")
    assert "  found" not in multiverse("override", "explain", str(path)).stdout


def test_aliases_are_one_function(write: Write) -> None:
    path = write(function("long getppid(void)", "f()") + function("long __getppid(void)", "f()"), F)
    with pytest.raises(Mistakes):
        blob([str(path)], sys.executable)
    aliases = function("int open(const char *s)", "f()") + function("int open64(char *s)", "f()")
    with pytest.raises(Mistakes, match="open64 is open in libc.so.6 and is taken over twice"):
        blob([str(write(aliases, F))], sys.executable)


def test_functions_that_nobody_imports(write: Write, tmp_path: Path) -> None:
    """A warning: calls within the library are taken over all the same."""
    path = write(function("long atoll(const char *s)", "f()"), F)
    warnings: list[str] = []
    user = compiled(tmp_path, "user", "int main(void) { return 0; }\n")
    blob([str(path)], str(user), warnings.append)
    assert len(warnings) == 1 and warnings[0].startswith(f"{path}:2: warning: no file of {user}")


@pytest.mark.parametrize("legacy", ["nosuch", "squeezed", "atoll"])
def test_optional_functions(write: Write, tmp_path: Path, legacy: str) -> None:
    """Neither an error where it is not there or not suitable, nor a warning; nor its imports."""
    toml = function(f"long {legacy}(void)", "f()", "optional = true")
    path = write(
        toml + '[[import]]\nlegacy = "int nosuch2(void)"\n' + CALL.replace("f()", "g()"),
        "int nosuch2(void);\nstatic int64_t f(void) { return nosuch2(); }\n"
        "static int64_t g(void) { return 1; }\n",
    )
    user = compiled(
        tmp_path,
        "user",
        '__asm__(".type squeezed, @function; squeezed: ret; .size squeezed, 1; ret");\n'
        "int main(void) { return 0; }\n",
    )
    if legacy == "atoll":
        with pytest.raises(Mistakes, match="a function nosuch2"):
            blob([str(path)], str(user), no_warning)
    else:
        _, answered, _, functions = decode(blob([str(path)], str(user), no_warning))
        assert len(answered) == 1 and functions == []


# ---- Blobs that are kept -----------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs for which blobs are made from now on, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "FRESH_NS", -(10**12))  # files of these tests are new
    programs: list[str] = []
    make = plan.make_blob

    def counted(whats: Any, program: str, *rest: Any) -> bytes:
        programs.append(program)
        return make(whats, program, *rest)

    monkeypatch.setattr(plan, "make_blob", counted)
    return programs


def entries(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("cache/multiverse/overrides/blobs/*"))


SETS = ["identity", "memory"]


def test_blobs_are_kept(made: list[str], tmp_path: Path) -> None:
    first = blob(SETS, "/bin/true", no_warning)
    assert blob(iter(SETS), "/bin/true", no_warning) == first
    assert made == ["/bin/true"]
    for others in (["identity"], ["memory", "identity"]):
        assert blob(others, "/bin/true", no_warning) != first
    blob(SETS, "/bin/false", no_warning)
    assert len(made) == 4 and len(entries(tmp_path)) == 4
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in entries(tmp_path))


def test_kept_blobs_take_little(tmp_path: Path) -> None:
    """Nothing of what makes blobs is imported then."""
    script = (
        "import sys; from multiverse.overrides import blob; blob(['identity'], '/bin/true');"
        "print(not {'elftools', 'pycparser', 'capstone', 'cffi', 'tempfile'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    outputs = [subprocess.check_output(command, env=environment) for _ in range(2)]
    assert outputs == [b"False\n", b"True\n"]


def test_what_changes_makes_another(
    made: list[str], write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program, a library, where the linker finds it, an override, Multiverse."""
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}/first:{tmp_path}/second")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    library = compiled(
        tmp_path, "second/libx.so", "long x(void) { return 1; }\n", "-shared", "-fPIC"
    )
    source = "long x(void);\nint main(void) { return (int)x(); }\n"
    linked = ("-L", str(library.parent), "-lx")
    user = str(compiled(tmp_path, "user", source, *linked))
    module = tmp_path / "x.override"
    toml = write(function("long x(void)", "f()"), F)

    def build_module() -> None:
        module.write_bytes(build(toml, cache=False).content)

    def change() -> None:
        monkeypatch.setattr(kept, "__version__", "another")

    changes = [
        lambda: compiled(tmp_path, "user", source + "int y;\n", *linked),
        lambda: compiled(
            tmp_path, "second/libx.so", "long x(void) { return 2; }\n", "-shared", "-fPIC"
        ),
        lambda: shutil.copy(library, tmp_path / "first"),
        build_module,
        change,
    ]
    build_module()
    for number, changed in enumerate([lambda: None, *changes], 1):
        changed()
        for _ in range(2):
            content = blob([str(module)], user, no_warning)
        assert len(made) == number
    _, _, files, _ = decode(content)
    assert files[0].inode == (tmp_path / "first" / "libx.so").stat().st_ino


def test_what_is_not_kept(
    made: list[str], write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a compiler made, what was warned of, and what may have changed meanwhile."""
    blob([str(write(CALL, F))], "/bin/true", no_warning)
    monkeypatch.setattr(kept, "FRESH_NS", 10**9)
    user = str(compiled(tmp_path, "user", "int main(void) { return 0; }\n"))
    blob(["identity"], user, no_warning)
    monkeypatch.setattr(kept, "FRESH_NS", -(10**12))
    module = tmp_path / "x.override"
    path = write(function("long atoll(const char *s)", "f()"), F)
    module.write_bytes(build(path, cache=False).content)
    warnings: list[str] = []
    blob([str(module)], user, warnings.append)
    assert len(warnings) == 1 and len(made) == 3 and not entries(tmp_path)
    nothing = tmp_path / "script"
    nothing.write_text("#!\n")
    blob(["memory"], str(nothing), no_warning)  # which is Linux's to refuse


@given(data=st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_entries(made: list[str], tmp_path: Path, data: st.DataObject) -> None:
    wanted = blob(["identity"], "/bin/true", no_warning)
    (entry,) = entries(tmp_path)
    content = bytearray(entry.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[at:]
    entry.write_bytes(content)
    made.clear()
    assert blob(["identity"], "/bin/true", no_warning) == wanted and len(made) == 1
    assert blob(["identity"], "/bin/true", no_warning) == wanted and len(made) == 1


def test_the_cache_does_not_grow(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "ENTRIES_MAX", 2)
    for name in ("true", "false", "cat", "ls"):
        blob(["memory"], f"/bin/{name}", no_warning)
    assert len(entries(tmp_path)) == 2


# ---- The documentation -------------------------------------------------------------------------


def test_documented_examples(facts: dict[str, str], tmp_path: Path) -> None:
    """The files in docs/overrides.md do what it says."""
    text = Path(__file__).parents[1].joinpath("docs", "overrides.md").read_text()
    for name, content in re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```", text, re.M | re.S):
        (tmp_path / name).write_text(content)
    command = "--override frozen.toml -- date -u +%F"
    assert f"\n$ multiverse run {command}\n2000-01-01\n" in text
    done = run_here(tmp_path, *shlex.split(command))
    assert (done.returncode, done.stdout, done.stderr) == (0, "2000-01-01\n", "")
    program = "import os; print(os.getpid() == int(os.readlink('/proc/self')))"
    for options, leaves in (([], True), (["--override", "pid.toml"], False)):
        done = run_here(tmp_path, "--stats=counts", *options, "--", sys.executable, "-c", program)
        assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
        counts = json.loads((tmp_path / "counts").read_text())
        assert ("getpid" in counts["syscalls"]) is leaves


def run_here(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*MULTIVERSE, "run", "--require-hrt", *words]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)


# ---- The command line --------------------------------------------------------------------------


def test_check_command(write: Write) -> None:
    good = write(CALL, F, "good")
    done = multiverse("override", "check", str(good))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    bad = write(CALL + "wen = 1\n", F, "bad")
    done = multiverse("override", "check", str(good), str(bad))
    assert done.returncode == 1
    assert done.stderr == f"{bad}:4: unknown key wen in [[syscall]]; did you mean when?\n"
    data = json.loads(multiverse("override", "check", "--json", str(bad)).stdout)
    assert data["ok"] is False and data["mistakes"] == [
        {
            "file": str(bad),
            "line": 4,
            "text": "unknown key wen in [[syscall]]; did you mean when?",
        }
    ]
    function_file = write(function("long getennv(void)", "f()"), F, "function")
    assert multiverse("override", "check", str(function_file)).returncode == 0
    done = multiverse("override", "check", "--program", "sh", str(function_file))
    assert done.returncode == 1 and "getenv" in done.stderr


def test_build_command(write: Write, tmp_path: Path) -> None:
    """Several files give several modules; nothing is left of one that cannot be written."""
    files = [str(write(CALL, F, name)) for name in ("one", "two")]
    command = [*MULTIVERSE, "override", "build", *files]
    work = tmp_path / "work"
    work.mkdir()
    assert subprocess.run(command, cwd=work, timeout=60).returncode == 0
    assert sorted(os.listdir(work)) == ["one.override", "two.override"]
    assert multiverse("override", "build", *files, "-o", "x").returncode == 2
    done = multiverse("override", "build", files[0], "-o", "/proc/x")
    assert done.returncode == 125 and done.stderr.startswith("multiverse: override: /proc/x: ")


def test_explain_command(write: Write) -> None:
    path = write(CALL + function("int raise(int sig)", "f()", "when = 'sig == 1'"), F)
    shown = multiverse("override", "explain", str(path)).stdout
    assert f"system call getpid (39), {path}:2\n" in shown and "Linux answers" in shown
    assert "sig == 1; else the original is called" in shown


def test_list_command() -> None:
    listed = json.loads(multiverse("override", "list", "--json").stdout)
    assert [one["name"] for one in listed] == [one.name for one in sets()]
    text = multiverse("override", "list").stdout
    assert all(f"{one.name}: {one.summary}\n" in text for one in sets())
    files = next(one for one in sets() if one.name == "files")
    assert "lseek" in files.syscalls and "close" in files.watched
    assert f"  told of       {', '.join(files.watched)}\n" in text


def test_explain_says_when_linux_answers() -> None:
    text = multiverse("override", "explain", "files").stdout
    closing = text[text.index("system call close (3)") :].split("\n\n")[0]
    assert "before Linux's answer" in closing and "not left" not in closing


def test_run_refuses_bad_overrides(write: Write) -> None:
    bad = write(CALL + "wen = 1\n", F)
    done = multiverse("run", "--override", str(bad), "--", "true")
    assert done.returncode == 2
    assert done.stderr == (
        f"{bad}:4: unknown key wen in [[syscall]]; did you mean when?\n"
        "multiverse: run: the overrides cannot be used; see above\n"
    )
    done = multiverse("run", "--override", "nosuchset", "--", "true")
    assert done.returncode == 2 and "neither a file nor an installed set" in done.stderr


def test_run_of_what_is_no_program(write: Write, tmp_path: Path) -> None:
    path = write(function("char *getenv(const char *s)", "f()"), F)
    for program, status in ((tmp_path / "nothing", 127), (path, 126), (tmp_path, 126)):
        done = multiverse("run", "--override", str(path), "--", str(program))
        assert done.returncode == status and str(program) in done.stderr


def test_without_hrt(write: Write) -> None:
    path = write(CALL, F)
    done = multiverse("run", "--hvm=off", "--override", str(path), "--", "true")
    assert done.returncode == 0
    line = "multiverse: run: --hvm=off: the overrides are not in force\n"
    assert done.stderr.startswith(line)


def test_completion(write: Write) -> None:
    words = {"_MULTIVERSE_COMPLETE": "bash_complete", "COMP_WORDS": "multiverse override explain "}
    environment = {**os.environ, **words, "COMP_CWORD": "3"}
    done = subprocess.run(MULTIVERSE, env=environment, capture_output=True, text=True, timeout=60)
    assert all(f"plain,{one.name}" in done.stdout for one in sets())
    assert "file," in done.stdout
