"""Python values to the arguments of a C function, and its results back.

A function is given as ctypes or cffi have it, by numba's @cfunc, or as an address. What is known of
its signature decides; without one, integers, pointers and buffers count as 64-bit integers, floats
as double. What a signature asks for is worked out once for each function.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import numbers
import operator
import struct
import sys
from _ctypes import CFuncPtr, _Pointer, _SimpleCData
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any
from weakref import ref

INTEGERS, REALS = 6, 8  # that the System V ABI passes in registers
LOWEST, HIGHEST = -(1 << 63), (1 << 64) - 1  # of what 64 bits can hold
BYREF = type(ctypes.byref(ctypes.c_int()))
# C types of results, by letters of the struct module, which ctypes uses for its own types as well.
RESULTS = {
    **{"b": "int8_t", "B": "uint8_t", "h": "int16_t", "H": "uint16_t", "i": "int32_t"},
    **{"I": "uint32_t", "l": "int64_t", "L": "uint64_t", "q": "int64_t", "Q": "uint64_t"},
    **{"f": "float", "d": "double"},
}


class Frame:
    """A struct mv_call: arguments where the ABI has them, then results. It is used again and again.

    ffi: cffi's with multiverse.h.
    """

    def __init__(self, ffi: Any) -> None:
        self.call = ffi.new("struct mv_call *")
        self.place = int(ffi.cast("uintptr_t", self.call))
        self.words = self.call.integers
        self.real_words = self.call.reals
        self.result = ffi.cast("uint64_t *", self.call.result)
        self.integers = 0  # how many words are used
        self.reals = 0
        self.stack: list[int] = []
        self.keep: list[Any] = []  # what arguments point to
        self.results = {
            letter: ffi.cast(f"{name} *", self.call.real_result if letter in "fd" else self.result)
            for letter, name in RESULTS.items()
        }

    def clear(self) -> None:
        self.integers = self.reals = 0
        self.keep.clear()
        if self.stack:
            self.stack.clear()
            self.call.stack_count = 0

    def add_integer(self, value: int) -> None:
        if not 0 <= value <= HIGHEST:
            if not LOWEST <= value <= HIGHEST:
                raise OverflowError(f"{value} does not fit into 64 bits")
            value &= HIGHEST
        if self.integers < INTEGERS:
            self.words[self.integers] = value
            self.integers += 1
        else:
            self.stack.append(value)

    def add_real(self, value: float, *, single: bool = False) -> None:
        if single:  # its bits are the lower half of a double's
            value = struct.unpack("<d", struct.pack("<fI", value, 0))[0]
        if self.reals < REALS:
            self.real_words[self.reals] = value
            self.reals += 1
        else:
            self.stack.append(struct.unpack("<Q", struct.pack("<d", value))[0])

    def complete(self, ffi: Any, address: Any) -> int:
        """All arguments are there: the address of the struct for a call of a function."""
        self.call.function = address
        if self.stack:
            words = ffi.new("uint64_t[]", self.stack)
            self.keep.append(words)
            self.call.stack, self.call.stack_count = words, len(self.stack)
        return self.place

    def result_bytes(self) -> bytes:
        """RAX."""
        return struct.pack("<Q", self.result[0])


Add = Callable[[Frame, Any], None]
Read = Callable[[Frame], Any]


@dataclass(frozen=True, slots=True)
class Function:
    """What is to be done for a call.

    address: as cffi's void pointer. adders: of the arguments whose types are known; others may
    follow if it is variadic. read: its result. checked: it is one of ctypes', whose types can be
    changed, and which can have an errcheck. plan: the same for _calls.c, where all types are plain.
    """

    address: Any
    adders: tuple[Add, ...]
    variadic: bool
    read: Read
    checked: bool = False
    plan: bytes | None = None


def plan(
    address: int, kinds: Sequence[str], result: str, checked: bool, *, variadic: bool
) -> bytes | None:
    """What a call of a function takes, as lib/python/calls.c has it; None if it cannot do it."""
    if not result or not all(kinds):
        return None
    head = struct.pack("<Qc??", address, result.encode(), checked, variadic)
    return head + "".join(kinds).encode()


def plain(value: Any) -> Any:
    return value.value if isinstance(value, _SimpleCData) else value


def integer_adder(size: int, signed: bool) -> Add:
    """Add as C converts: what does not fit is cut off, and signs are extended. size: bytes."""
    sign = 1 << 8 * size - 1
    mask = 2 * sign - 1
    fits = sign if signed else 2 * sign

    def add(frame: Frame, value: Any) -> None:
        if type(value) is not int:
            value = operator.index(plain(value))
        if not 0 <= value < fits:
            value &= mask
            if signed:
                value = (value ^ sign) - sign & HIGHEST
        frame.add_integer(value)

    return add


class Converter:
    """Conversions, and what is known of functions. ffi: cffi's with multiverse.h."""

    def __init__(self, ffi: Any) -> None:
        self.ffi = ffi
        # Functions that have been seen, by id, with the types that they had then. Also _calls.c's.
        self.known: dict[int, tuple[Callable[[], Any], Any, Any, Function, bytes | None]] = {}
        self.by_address = functools.lru_cache(256)(self.address_function)

    # ---- Values -------------------------------------------------------------------------------

    def pointer(self, frame: Frame, value: Any) -> int:
        """The address that a value stands for; what it points to is kept."""
        if value is None:
            return 0
        if isinstance(value, self.ffi.CData):
            frame.keep.append(value)
            return int(self.ffi.cast("uintptr_t", value))
        if isinstance(value, ctypes.c_void_p | ctypes.c_char_p | ctypes.c_wchar_p | _Pointer):
            frame.keep.append(value)
            return ctypes.cast(value, ctypes.c_void_p).value or 0
        if isinstance(value, ctypes.Array | ctypes.Structure | ctypes.Union):
            frame.keep.append(value)
            return ctypes.addressof(value)
        if isinstance(value, CFuncPtr | BYREF):
            frame.keep.append(value)
            pointer: Any = value
            return ctypes.cast(pointer, ctypes.c_void_p).value or 0
        if isinstance(value, str):
            raise TypeError("text has no address; encode it to bytes")
        if isinstance(value, numbers.Integral):
            return operator.index(value)
        if hasattr(value, "_as_parameter_"):
            frame.keep.append(value)
            return self.pointer(frame, value._as_parameter_)
        name = type(value).__name__
        try:
            buffer = self.ffi.from_buffer(value)
        except TypeError:
            if hasattr(value, "__index__"):
                return operator.index(value)
            raise TypeError(f"{name} is no pointer, buffer or number") from None
        except (BufferError, ValueError) as error:
            raise ValueError(f"{name}: {error}; copy it, or pass its address") from None
        frame.keep.append(buffer)
        return int(self.ffi.cast("uintptr_t", buffer))

    def add_pointer(self, frame: Frame, value: Any) -> None:
        frame.add_integer(self.pointer(frame, value))

    def add_any(self, frame: Frame, value: Any) -> None:
        """Add an argument of which only the value is known."""
        kind = type(value)
        if kind is int:
            frame.add_integer(value)
        elif kind is float:
            frame.add_real(value)
        elif isinstance(value, _SimpleCData) and not isinstance(
            value, ctypes.c_void_p | ctypes.c_char_p | ctypes.c_wchar_p
        ):
            self.adder_ctypes(kind)(frame, value)
        elif isinstance(value, self.ffi.CData):
            self.adder_cffi(self.ffi.typeof(value))(frame, value)
        elif isinstance(value, numbers.Real) and not hasattr(value, "__index__"):
            frame.add_real(float(value))
        elif "numpy" in sys.modules and isinstance(value, sys.modules["numpy"].generic):
            # NumPy's scalars have a buffer, too, but are values.
            self.add_any(frame, value.item())
        else:
            frame.add_integer(self.pointer(frame, value))

    def add(self, target: Function, frame: Frame, args: tuple[Any, ...]) -> None:
        """Add all arguments. TypeError: they are not as many as have types."""
        known = len(target.adders)
        if len(args) < known or (len(args) > known and not target.variadic):
            raise TypeError(f"{known} arguments expected, {len(args)} given")
        for add, value in zip(target.adders, args, strict=False):
            add(frame, value)
        for value in args[known:]:
            self.add_any(frame, value)

    # ---- ctypes -------------------------------------------------------------------------------

    def adder_ctypes(self, kind: Any) -> Add:
        """How arguments of a ctypes type are added."""
        if isinstance(getattr(kind, "from_param", None), MethodType):  # Python's, not ctypes' own
            return lambda frame, value: self.add_any(frame, kind.from_param(value))
        if not (isinstance(kind, type) and issubclass(kind, _SimpleCData)):
            if isinstance(kind, type) and issubclass(kind, ctypes.Structure | ctypes.Union):
                raise TypeError(f"{kind.__name__}: structures are not passed by value; use byref()")
            item = getattr(kind, "_type_", None)
            if isinstance(item, type) and issubclass(item, _SimpleCData):
                return functools.partial(self.add_items, ctypes.sizeof(item), kind.__name__)
            return self.add_pointer
        if issubclass(kind, ctypes.c_wchar_p):
            return self.add_wide_text
        if issubclass(kind, ctypes.c_char_p | ctypes.c_void_p):
            return self.add_pointer
        simple: Any = kind
        letter: str = simple._type_
        if letter in "fd":
            single = letter == "f"
            return lambda frame, value: frame.add_real(float(plain(value)), single=single)
        if letter == "c":
            return self.add_char
        if letter == "?":
            return lambda frame, value: frame.add_integer(bool(plain(value)))
        if letter not in "bBhHiIlLqQ":
            raise TypeError(f"{kind.__name__} arguments are not supported")
        return integer_adder(ctypes.sizeof(kind), letter.islower())

    def add_wide_text(self, frame: Frame, value: Any) -> None:
        if isinstance(value, str):
            value = ctypes.create_unicode_buffer(value)
        self.add_pointer(frame, value)

    def add_char(self, frame: Frame, value: Any) -> None:
        value = plain(value)
        frame.add_integer(value[0] if isinstance(value, bytes) else operator.index(value))

    def add_items(self, size: int, name: str, frame: Frame, value: Any) -> None:
        """Add a pointer to items of `size` bytes, or a buffer with such, or with bytes."""
        found = 1
        if not isinstance(value, _Pointer | CFuncPtr | _SimpleCData | int | bytes):
            with contextlib.suppress(TypeError, ValueError, BufferError):  # no buffer
                found = memoryview(value).itemsize
        if found not in (1, size):
            raise TypeError(
                f"{type(value).__name__} of items of {found} bytes where {name} is expected; "
                "convert it"
            )
        frame.add_integer(self.pointer(frame, value))

    @staticmethod
    def letter_ctypes(kind: Any) -> str:
        """What _calls.c knows arguments of a ctypes type as; nothing: it does not."""
        if isinstance(getattr(kind, "from_param", None), MethodType):
            return ""
        letter = kind._type_ if issubclass(kind, _SimpleCData) else "P"
        return {"z": "P"}.get(letter, letter) if letter in "bBhHiIlLqQfdPz" else ""

    @staticmethod
    def result_letter_ctypes(kind: Any) -> str:
        """The same for results."""
        if kind is None:
            return "v"
        simple = isinstance(kind, type) and kind.__mro__[1] is _SimpleCData
        return kind._type_ if simple and (kind._type_ in RESULTS or kind._type_ == "P") else ""

    @staticmethod
    def result_ctypes(kind: Any) -> Read:
        """How a result of a ctypes type is read."""
        if kind is None:
            return lambda _: None
        is_type = isinstance(kind, type)
        if is_type and issubclass(kind, _SimpleCData):
            letter: str = kind._type_
            # A subclass of a simple type stays an object, as with ctypes itself.
            if kind.__mro__[1] is not _SimpleCData:
                if letter in "fd":
                    return lambda frame: kind(frame.results[letter][0])
                return lambda frame: kind.from_buffer_copy(frame.result_bytes())
            if letter in RESULTS:
                return lambda frame: frame.results[letter][0]
            if kind not in (ctypes.c_longdouble, ctypes.py_object):
                return lambda frame: kind.from_buffer_copy(frame.result_bytes()).value
        if is_type and issubclass(kind, _Pointer | CFuncPtr):
            return lambda frame: kind.from_buffer_copy(frame.result_bytes())
        if not is_type and callable(kind):
            return lambda frame: kind(frame.results["i"][0])
        raise TypeError(f"{getattr(kind, '__name__', kind)} results are not supported")

    def ctypes_function(self, function: Any, kinds: Any, result: Any, *, checked: bool) -> Function:
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        adders = tuple(self.adder_ctypes(kind) for kind in kinds or ())
        letters = [self.letter_ctypes(kind) for kind in kinds or ()]
        return Function(
            self.ffi.cast("void *", address),
            adders,
            True,
            self.result_ctypes(result),
            checked,
            plan(address, letters, self.result_letter_ctypes(result), checked, variadic=True),
        )

    # ---- cffi ---------------------------------------------------------------------------------

    def adder_cffi(self, kind: Any) -> Add:
        """How arguments of a cffi type are added."""
        if kind.kind == "primitive" and kind.cname in ("double", "float"):
            single = kind.cname == "float"
            return lambda frame, value: frame.add_real(float(value), single=single)
        if kind.kind in ("primitive", "enum"):
            if kind.cname == "long double" or "_Complex" in kind.cname:
                raise TypeError(f"{kind.cname} arguments are not supported")
            return lambda frame, value: frame.add_integer(int(self.ffi.cast(kind, value)))
        if kind.kind in ("pointer", "array") and kind.item.kind == "primitive":
            size = self.ffi.sizeof(kind.item)
            return functools.partial(self.add_items, size, kind.cname)
        if kind.kind in ("pointer", "array", "function"):
            return self.add_pointer
        raise TypeError(f"{kind.cname}: structures are not passed by value; use addressof()")

    def result_cffi(self, kind: Any) -> Read:
        if kind.kind == "void":
            return lambda _: None
        if kind.kind == "primitive" and kind.cname in ("double", "float"):
            letter = kind.cname[0]
            return lambda frame: frame.results[letter][0]
        if kind.kind in ("primitive", "enum", "pointer"):
            if kind.cname == "long double" or "_Complex" in kind.cname:
                raise TypeError(f"{kind.cname} results are not supported")

            def convert(frame: Frame) -> Any:
                value = self.ffi.cast(kind, frame.result[0])
                if kind.kind == "pointer":
                    return value
                if kind.cname == "char":
                    return bytes([int(value)])
                return bool(value) if kind.cname == "_Bool" else int(value)

            return convert
        raise TypeError(f"{kind.cname} results are not supported")

    def letter_cffi(self, kind: Any) -> str:
        """What _calls.c knows a cffi type of numbers as; nothing: it does not."""
        if kind.kind != "primitive" or kind.cname in ("char", "_Bool", "wchar_t", "long double"):
            return ""
        if kind.cname in ("double", "float"):
            return str(kind.cname[0])
        letter = {1: "b", 2: "h", 4: "i", 8: "q"}.get(self.ffi.sizeof(kind), "")
        return letter if int(self.ffi.cast(kind, -1)) < 0 else letter.upper()

    def cffi_function(self, function: Any) -> Function:
        kind = self.ffi.typeof(function)
        if kind.kind == "pointer":
            kind = kind.item
        if kind.kind != "function":
            raise TypeError(f"{kind.cname} is no function")
        address = self.ffi.cast("void *", function)
        adders = tuple(self.adder_cffi(each) for each in kind.args)
        letters = [self.letter_cffi(each) or "P" * hasattr(each, "item") for each in kind.args]
        result = "v" if kind.result.kind == "void" else self.letter_cffi(kind.result)
        number, variadic = int(self.ffi.cast("uintptr_t", address)), bool(kind.ellipsis)
        return Function(
            address,
            adders,
            variadic,
            self.result_cffi(kind.result),
            plan=plan(number, letters, result, False, variadic=variadic),
        )

    # ---- Anything -----------------------------------------------------------------------------

    def address_function(self, address: int, restype: Any) -> Function:
        if not 0 < address < 1 << 47:
            raise ValueError(f"{address:#x} is no address of a function")
        result = self.result_ctypes(ctypes.c_int64 if restype is None else restype)
        return Function(self.ffi.cast("void *", address), (), True, result)

    def function(self, function: Any, restype: Any) -> Function:
        """What is to be called. restype: a ctypes type, for what does not say it itself."""
        seen = self.known.get(id(function))
        if seen and seen[0]() is function and restype is None:
            target = seen[3]
            if not target.checked or (seen[1] is function.argtypes and seen[2] is function.restype):
                return target
        if isinstance(function, int):
            return self.by_address(function, restype)
        if restype is not None:
            raise TypeError("restype is for addresses; this function has a type of its own")
        kinds = result = None
        inner: Any = getattr(function, "ctypes", None)  # numba's @cfunc has that
        if isinstance(function, CFuncPtr):
            kinds, result = function.argtypes, function.restype
            target = self.ctypes_function(function, kinds, result, checked=True)
        elif isinstance(function, self.ffi.CData):
            target = self.cffi_function(function)
        elif isinstance(inner, CFuncPtr):
            target = self.ctypes_function(inner, inner.argtypes, inner.restype, checked=False)
        else:
            raise TypeError(
                f"{type(function).__name__} is no function of ctypes or cffi and no address; "
                "with cffi's API mode use ffi.addressof(lib, name)"
            )
        number = id(function)
        weak = ref(function, lambda _: self.known.pop(number, None))
        self.known[number] = (weak, kinds, result, target, target.plan)
        return target
