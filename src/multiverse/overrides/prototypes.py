"""C prototypes and expressions in TOML files, read by pycparser."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pycparser import c_ast, c_generator, c_parser

#: Types that prototypes may use without a definition: glibc's and Linux's on x86-64.
STANDARD = {
    "int8_t": "signed char", "int16_t": "short", "int32_t": "int", "int64_t": "long",
    "uint8_t": "unsigned char", "uint16_t": "unsigned short", "uint32_t": "unsigned int",
    "uint64_t": "unsigned long", "intptr_t": "long", "uintptr_t": "unsigned long",
    "intmax_t": "long", "uintmax_t": "unsigned long", "ptrdiff_t": "long",
    "size_t": "unsigned long", "ssize_t": "long", "bool": "_Bool", "wchar_t": "int",
    "wint_t": "unsigned int", "off_t": "long", "off64_t": "long", "loff_t": "long",
    "pid_t": "int", "uid_t": "unsigned int", "gid_t": "unsigned int", "id_t": "unsigned int",
    "mode_t": "unsigned int", "dev_t": "unsigned long", "ino_t": "unsigned long",
    "nlink_t": "unsigned long", "blksize_t": "long", "blkcnt_t": "long", "key_t": "int",
    "time_t": "long", "clock_t": "long", "clockid_t": "int", "timer_t": "void *",
    "suseconds_t": "long", "useconds_t": "unsigned int", "socklen_t": "unsigned int",
    "sa_family_t": "unsigned short", "in_addr_t": "unsigned int", "in_port_t": "unsigned short",
    "nfds_t": "unsigned long", "idtype_t": "unsigned int", "mqd_t": "int",
    "pthread_t": "unsigned long", "pthread_key_t": "unsigned int", "pthread_once_t": "int",
    "pthread_spinlock_t": "int", "thrd_t": "unsigned long", "tss_t": "unsigned int",
    "locale_t": "void *", "iconv_t": "void *", "sighandler_t": "void *",
}  # fmt: skip
#: Types of which only pointers make sense here.
OPAQUE = (
    "FILE", "DIR", "fpos_t", "pthread_attr_t", "pthread_mutex_t", "pthread_mutexattr_t",
    "pthread_cond_t", "pthread_condattr_t", "pthread_rwlock_t", "pthread_rwlockattr_t",
    "pthread_barrier_t", "pthread_barrierattr_t", "sem_t", "mtx_t", "cnd_t", "sigset_t",
    "siginfo_t", "stack_t", "ucontext_t", "fd_set", "cpu_set_t", "mbstate_t", "regex_t", "glob_t",
    "posix_spawnattr_t", "posix_spawn_file_actions_t",
)  # fmt: skip
#: Those that <stddef.h>, <stdint.h> and <stdbool.h> define in every module.
ALWAYS_DEFINED = frozenset(
    name for name in STANDARD if re.fullmatch(r"u?int(\d+|ptr|max)_t|ptrdiff_t|size_t|bool", name)
)
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")

#: Bits and signedness of C's arithmetic types, by their words in alphabetical order.
_INTEGERS = {
    "_Bool": (8, False), "char": (8, True), "char signed": (8, True), "char unsigned": (8, False),
    "short": (16, True), "unsigned short": (16, False), "int": (32, True),
    "unsigned": (32, False), "int unsigned": (32, False), "long": (64, True),
    "long unsigned": (64, False), "signed": (32, True),
}  # fmt: skip


class Malformed(ValueError):
    """What is wrong with a prototype or an expression."""


@dataclass(frozen=True)
class CType:
    """What the machine needs to know of a type."""

    kind: str  # "void", "integer", "float" or "pointer"
    bits: int
    signed: bool = False


@dataclass(frozen=True)
class Parameter:
    name: str
    ctype: CType
    text: str  # its declaration
    cast: str  # its type


@dataclass(frozen=True)
class Prototype:
    """A function's, as C that the generated code can contain."""

    name: str
    result: CType
    result_text: str
    parameters: tuple[Parameter, ...]
    typedefs: tuple[str, ...] = field(compare=False)  # standard types that it needs
    tags: tuple[str, ...] = field(compare=False)  # structures and unions, as C names them

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def floating(self) -> bool:
        """Whether floating-point registers are used."""
        return "float" in {self.result.kind, *(p.ctype.kind for p in self.parameters)}

    def declare(self, name: str, pointer: bool = False) -> str:
        """A declaration of a function with this type, or of a pointer to one."""
        inner = f"(*{name})" if pointer else name
        parameters = ", ".join(p.text for p in self.parameters) or "void"
        space = "" if self.result_text.endswith("*") else " "
        return f"{self.result_text}{space}{inner}({parameters})"

    def __str__(self) -> str:
        return self.declare(self.name)


@functools.cache
def _parser() -> Any:
    return c_parser.CParser()


def _parse(text: str, types: Mapping[str, str]) -> Any:
    """The only declaration in `text`. Raises Malformed."""
    standard = {name: how for name, how in STANDARD.items() if name not in types}
    known = [f"typedef {how} {name};" for name, how in {**standard, **types}.items()]
    known += [f"typedef struct {name} {name};" for name in OPAQUE if name not in types]
    source = " ".join(known) + "\n" + re.sub(r"\s", " ", text) + "\n"
    try:
        declarations = _parser().parse(source).ext
    except Exception as error:  # pycparser also raises others on strange input
        found = re.search(r"before: (.+)", str(error))
        where = f" before {found[1]!r}" if found else ""
        raise Malformed(f"not C{where}") from None
    if len(declarations) != len(known) + 1:
        raise Malformed("not one declaration or expression")
    return declarations[-1]


class _Resolver:
    """Types of declarations, with typedefs looked up."""

    def __init__(self, types: Mapping[str, str]) -> None:
        self.types = types
        self.typedefs: list[str] = []
        self.tags: list[str] = []

    def ctype(self, node: Any, depth: int = 0) -> CType:
        if isinstance(node, c_ast.Typename | c_ast.Decl | c_ast.TypeDecl):
            return self.ctype(node.type, depth)
        if isinstance(node, c_ast.PtrDecl | c_ast.ArrayDecl | c_ast.FuncDecl):
            return CType("pointer", 64)
        if isinstance(node, c_ast.Enum):
            return CType("integer", 32)
        if isinstance(node, c_ast.Struct | c_ast.Union):
            raise Malformed("a structure by value cannot be passed on; take a pointer to it")
        if not isinstance(node, c_ast.IdentifierType):  # such as a name alone
            raise Malformed("a parameter without a type; write it as `int a`")
        return self._named(list(node.names), depth)

    def _named(self, names: list[str], depth: int) -> CType:
        name = names[0]
        if depth > 16:
            raise Malformed(f"{name} is defined by itself")
        if name in self.types or name in STANDARD:
            text = self.types.get(name) or STANDARD[name]
            return self.ctype(_parse(f"extern {text} mv_type;", self.types).type, depth + 1)
        if name in OPAQUE:
            raise Malformed(f"{name} by value cannot be passed on; take a pointer to it")
        if names == ["void"]:
            return CType("void", 0)
        if sorted(names) == ["double", "long"]:
            raise Malformed("long double cannot be passed on; override what calls this function")
        if names in (["float"], ["double"]):
            return CType("float", 32 if names == ["float"] else 64, True)
        shorter = sorted({n for n in names if n != "signed" or "char" in names})
        if len(shorter) > 1 and ("long" in shorter or "short" in shorter):
            shorter = [n for n in shorter if n != "int"]
        found = _INTEGERS.get(" ".join(shorter or ["signed"]))
        if not found:
            raise Malformed(f"the type {' '.join(names)} is not supported")
        return CType("integer", *found)

    def visible(self, node: Any) -> None:
        """Make a declaration one that compiles without a libc's headers."""
        if isinstance(node, c_ast.IdentifierType):
            name = node.names[0]
            if name in OPAQUE and name not in self.types:
                node.names = ["void"]
            elif (name in STANDARD and name not in ALWAYS_DEFINED) or name in self.types:
                self.typedefs.append(name)
        elif isinstance(node, c_ast.Struct | c_ast.Union) and node.name:
            self.tags.append(f"{type(node).__name__.lower()} {node.name}")
        for _, child in node.children():
            self.visible(child)


def prototype(text: str, types: Mapping[str, str]) -> Prototype:
    """Read a function's prototype. types: more types, as {"name": "what it is in C"}.

    Raises Malformed.
    """
    declaration = _parse(text.strip().rstrip(";") + ";", types)
    if not isinstance(declaration, c_ast.Decl) or not isinstance(declaration.type, c_ast.FuncDecl):
        raise Malformed("not a function's prototype, as `int f(int a)`")
    resolver = _Resolver(types)
    generator = c_generator.CGenerator()
    function = declaration.type
    result = resolver.ctype(function.type)
    if isinstance(function.type, c_ast.ArrayDecl | c_ast.FuncDecl) or "(" in _type_text(
        generator, function.type
    ):
        raise Malformed("a result that is a function is not supported; make it void *")
    parameters = []
    for i, parameter in enumerate(function.args.params if function.args else (), 1):
        if isinstance(parameter, c_ast.EllipsisParam):
            raise Malformed(
                "a variable number of arguments cannot be passed on; name those that are used,"
                " or override the system call instead"
            )
        ctype = resolver.ctype(parameter)
        if ctype.kind == "void" and len(function.args.params) == 1:
            break
        if not getattr(parameter, "name", None):
            raise Malformed(f"parameter {i} has no name; name it, so that `call` can use it")
        resolver.visible(parameter)
        cast = _type_text(generator, parameter.type)
        parameters.append(Parameter(parameter.name, ctype, generator.visit(parameter), cast))
    for name in (p.name for p in parameters):
        if name in ("result", "call"):
            raise Malformed(f"a parameter cannot be called {name}; give it another name")
    resolver.visible(function.type)
    result_text = _type_text(generator, function.type)
    typedefs, tags = (tuple(dict.fromkeys(n)) for n in (resolver.typedefs, resolver.tags))
    return Prototype(declaration.name, result, result_text, tuple(parameters), typedefs, tags)


def _type_text(generator: Any, node: Any) -> str:
    """A type without the name that it declares."""
    inner = node
    while not isinstance(inner, c_ast.TypeDecl):
        inner = inner.type
    name, inner.declname = inner.declname, None
    array = isinstance(node, c_ast.ArrayDecl)
    text = generator.visit(c_ast.PtrDecl([], node.type) if array else node)
    inner.declname = name
    return str(text).strip()


def definitions(prototypes: list[Prototype], types: Mapping[str, str]) -> list[str]:
    """Types that the prototypes need, and the further types, as C."""
    tags = dict.fromkeys(tag for prototype in prototypes for tag in prototype.tags)
    needed = [name for prototype in prototypes for name in prototype.typedefs]
    names = dict.fromkeys([*types, *needed])
    typedefs = [f"typedef {types.get(name) or STANDARD[name]} {name};" for name in names]
    return [*(f"{tag};" for tag in tags), *typedefs]


@dataclass(frozen=True)
class Expression:
    """A C expression."""

    text: str
    function: str | None  # called by it, if it is a call
    arguments: int  # of that call
    names: frozenset[str]  # identifiers, those of called functions included


def expression(text: str, types: Mapping[str, str]) -> Expression:
    """Read an expression. Raises Malformed."""
    text = re.sub(r"\s+", " ", text).strip()
    if "#" in text or "//" in text or "/*" in text:
        raise Malformed("comments and preprocessor lines are not allowed here")
    if not text:
        raise Malformed("empty")
    node = _parse(f"int mv_expression = ({text});", types).init
    if node is None:
        raise Malformed("not an expression")
    function, arguments = None, 0
    if isinstance(node, c_ast.FuncCall) and isinstance(node.name, c_ast.ID):
        function = str(node.name.name)
        arguments = len(node.args.exprs) if node.args else 0
    return Expression(text, function, arguments, frozenset(_names(node)))


def _names(node: Any) -> list[str]:
    names = [str(node.name)] if isinstance(node, c_ast.ID) else []
    # The name of a member is no identifier of its own.
    children = [node.name] if isinstance(node, c_ast.StructRef) else [c for _, c in node.children()]
    return names + [name for child in children for name in _names(child)]
