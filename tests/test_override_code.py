"""The C that is generated for overrides, and what it does when it is called."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path
from typing import Any

import pytest
from conftest import multiverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from override_files import COMPILERS, INCLUDES, Write, function, use_compiler

from multiverse.overrides import calls
from multiverse.overrides.build import build, check
from multiverse.overrides.image import Image
from multiverse.overrides.module import Module

pytestmark = pytest.mark.usefixtures("cache")


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
