"""Overrides that are wrong: what is said, and of which line."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from override_files import CALL, COMPILERS, INCLUDES, F, Write, function, no_warning, use_compiler

from multiverse.overrides import blob
from multiverse.overrides.build import build
from multiverse.overrides.definition import read
from multiverse.overrides.errors import Mistakes, Unusable
from multiverse.overrides.plan import check_together, load

pytestmark = pytest.mark.usefixtures("cache")


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
