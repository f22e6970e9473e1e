"""Python values to the arguments of a C function, and its results back.

A function is given as ctypes or cffi have it, by numba's @cfunc, or as an address. What is known of
its signature decides; without one, integers, pointers and buffers count as 64-bit integers, floats
as double.
"""

from __future__ import annotations

import ctypes
import numbers
import operator
import struct
from _ctypes import CFuncPtr, _Pointer, _SimpleCData
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

INTEGERS, REALS = 6, 8  # that the System V ABI passes in registers


@dataclass
class Arguments:
    """Arguments as the ABI has them; `keep` holds what they point to."""

    integers: list[int] = field(default_factory=list)
    reals: list[float] = field(default_factory=list)
    stack: list[int] = field(default_factory=list)
    keep: list[Any] = field(default_factory=list)

    def add_integer(self, value: int) -> None:
        if not -(1 << 63) <= value < 1 << 64:
            raise OverflowError(f"{value} does not fit into 64 bits")
        value &= (1 << 64) - 1
        (self.integers if len(self.integers) < INTEGERS else self.stack).append(value)

    def add_real(self, value: float, *, single: bool = False) -> None:
        if single:  # its bits are the lower half of a double's
            value = struct.unpack("<d", struct.pack("<fI", value, 0))[0]
        if len(self.reals) < REALS:
            self.reals.append(value)
        else:
            self.stack.append(struct.unpack("<Q", struct.pack("<d", value))[0])


@dataclass(frozen=True)
class Function:
    """An address, how an argument is added, and what becomes of RAX and XMM0 (as 16 bytes)."""

    address: int
    add: Callable[[Arguments, int, Any], None]
    result: Callable[[bytes], Any]
    check_count: Callable[[int], None]
    finish: Callable[[Any, tuple[Any, ...]], Any] = lambda value, _: value


class Converter:
    """Conversions that need cffi. ffi: any cffi.FFI."""

    def __init__(self, ffi: Any) -> None:
        self.ffi = ffi
        # Functions of ctypes that have been seen, by id, with the types that they had then.
        self.known: dict[int, tuple[ref[Any], Any, Any, Function]] = {}

    # ---- Values -------------------------------------------------------------------------------

    def pointer(self, arguments: Arguments, value: Any) -> int:
        """The address that a value stands for; what it points to is kept."""
        if value is None:
            return 0
        if isinstance(value, self.ffi.CData):
            arguments.keep.append(value)
            return int(self.ffi.cast("uintptr_t", value))
        if isinstance(value, ctypes.c_void_p | ctypes.c_char_p | ctypes.c_wchar_p | _Pointer):
            arguments.keep.append(value)
            return ctypes.cast(value, ctypes.c_void_p).value or 0
        if isinstance(value, ctypes.Array | ctypes.Structure | ctypes.Union):
            arguments.keep.append(value)
            return ctypes.addressof(value)
        if isinstance(value, CFuncPtr | type(ctypes.byref(ctypes.c_int()))):
            arguments.keep.append(value)
            pointer: Any = value
            return ctypes.cast(pointer, ctypes.c_void_p).value or 0
        if isinstance(value, str):
            raise TypeError("text has no address; encode it to bytes")
        if hasattr(value, "__index__"):
            return operator.index(value)
        try:
            buffer = self.ffi.from_buffer(value)
        except TypeError:
            raise TypeError(f"{type(value).__name__} is no pointer, buffer or number") from None
        arguments.keep.append(buffer)
        return int(self.ffi.cast("uintptr_t", buffer))

    def add_any(self, arguments: Arguments, value: Any) -> None:
        """Add an argument of which only the value is known."""
        if isinstance(value, _SimpleCData) and not isinstance(
            value, ctypes.c_void_p | ctypes.c_char_p | ctypes.c_wchar_p
        ):
            self.add_ctypes(arguments, type(value), value)
        elif isinstance(value, self.ffi.CData):
            self.add_cffi(arguments, self.ffi.typeof(value), value)
        elif isinstance(value, numbers.Real) and not hasattr(value, "__index__"):
            arguments.add_real(float(value))
        else:
            arguments.add_integer(self.pointer(arguments, value))

    # ---- ctypes -------------------------------------------------------------------------------

    def add_ctypes(self, arguments: Arguments, kind: Any, value: Any) -> None:
        if isinstance(value, _SimpleCData):
            value = value.value
        if kind in (ctypes.c_double, ctypes.c_float):
            arguments.add_real(float(value), single=kind is ctypes.c_float)
        elif kind in (ctypes.c_char_p, ctypes.c_wchar_p, ctypes.c_void_p) or not (
            isinstance(kind, type) and issubclass(kind, _SimpleCData)
        ):
            if isinstance(kind, type) and issubclass(kind, ctypes.Structure | ctypes.Union):
                raise TypeError(f"{kind.__name__}: structures are not passed by value; use byref()")
            if kind is ctypes.c_wchar_p and isinstance(value, str):
                value = ctypes.create_unicode_buffer(value)
            arguments.add_integer(self.pointer(arguments, value))
        elif kind in (ctypes.c_longdouble, ctypes.py_object):
            raise TypeError(f"{kind.__name__} arguments are not supported")
        elif kind is ctypes.c_char:
            arguments.add_integer(value[0] if isinstance(value, bytes) else operator.index(value))
        else:
            # As C converts: what does not fit is cut off, and signs are extended.
            wrapped: Any = kind
            arguments.add_integer(wrapped(operator.index(value)).value)

    @staticmethod
    def result_ctypes(kind: Any) -> Callable[[bytes], Any]:
        if kind is None:
            return lambda _: None
        if kind in (ctypes.c_double, ctypes.c_float):
            return lambda raw: kind.from_buffer_copy(raw, 8).value
        is_type = isinstance(kind, type)
        if is_type and issubclass(kind, _SimpleCData) and kind not in (
            ctypes.c_longdouble, ctypes.py_object,
        ):  # fmt: skip
            # A subclass of a simple type stays an object, as with ctypes itself.
            plain = kind.__mro__[1] is _SimpleCData
            return lambda raw: (
                kind.from_buffer_copy(raw).value if plain else kind.from_buffer_copy(raw)
            )
        if is_type and issubclass(kind, _Pointer | CFuncPtr):
            return lambda raw: kind.from_buffer_copy(raw)
        if not is_type and callable(kind):
            return lambda raw: kind(int.from_bytes(raw[:4], "little", signed=True))
        raise TypeError(f"{getattr(kind, '__name__', kind)} results are not supported")

    def ctypes_function(self, function: Any) -> Function:
        kinds, result = function.argtypes, function.restype
        number = id(function)
        seen = self.known.get(number)
        if seen and seen[0]() is function and seen[1] is kinds and seen[2] is result:
            return seen[3]

        def add(arguments: Arguments, i: int, value: Any) -> None:
            if kinds is not None and i < len(kinds):
                self.add_ctypes(arguments, kinds[i], value)
            else:
                self.add_any(arguments, value)

        def check_count(count: int) -> None:
            if kinds is not None and count < len(kinds):
                raise TypeError(f"{len(kinds)} arguments expected, {count} given")

        weak = ref(function, lambda _: self.known.pop(number, None))

        def finish(value: Any, args: tuple[Any, ...]) -> Any:
            check = getattr(weak(), "errcheck", None)
            return check(value, weak(), args) if check else value

        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        made = Function(address, add, self.result_ctypes(result), check_count, finish)
        self.known[number] = (weak, kinds, result, made)
        return made

    # ---- cffi ---------------------------------------------------------------------------------

    def add_cffi(self, arguments: Arguments, kind: Any, value: Any) -> None:
        if kind.kind == "primitive" and kind.cname in ("double", "float"):
            arguments.add_real(float(value), single=kind.cname == "float")
        elif kind.kind in ("primitive", "enum"):
            if kind.cname == "long double" or "_Complex" in kind.cname:
                raise TypeError(f"{kind.cname} arguments are not supported")
            arguments.add_integer(int(self.ffi.cast(kind, value)))
        elif kind.kind in ("pointer", "array", "function"):
            arguments.add_integer(self.pointer(arguments, value))
        else:
            raise TypeError(f"{kind.cname}: structures are not passed by value; use addressof()")

    def result_cffi(self, kind: Any) -> Callable[[bytes], Any]:
        if kind.kind == "void":
            return lambda _: None
        if kind.kind == "primitive" and kind.cname in ("double", "float"):
            code = "<d" if kind.cname == "double" else "<f"
            return lambda raw: struct.unpack_from(code, raw, 8)[0]
        if kind.kind in ("primitive", "enum", "pointer"):
            if kind.cname == "long double" or "_Complex" in kind.cname:
                raise TypeError(f"{kind.cname} results are not supported")

            def convert(raw: bytes) -> Any:
                value = self.ffi.cast(kind, int.from_bytes(raw[:8], "little"))
                if kind.kind == "pointer":
                    return value
                if kind.cname == "char":
                    return bytes([int(value)])
                return bool(value) if kind.cname == "_Bool" else int(value)

            return convert
        raise TypeError(f"{kind.cname} results are not supported")

    def cffi_function(self, function: Any) -> Function:
        kind = self.ffi.typeof(function)
        if kind.kind == "pointer":
            kind = kind.item
        if kind.kind != "function":
            raise TypeError(f"{kind.cname} is no function")

        def add(arguments: Arguments, i: int, value: Any) -> None:
            if i < len(kind.args):
                self.add_cffi(arguments, kind.args[i], value)
            else:
                self.add_any(arguments, value)

        def check_count(count: int) -> None:
            if count < len(kind.args) or (count > len(kind.args) and not kind.ellipsis):
                raise TypeError(f"{len(kind.args)} arguments expected, {count} given")

        address = int(self.ffi.cast("uintptr_t", function))
        return Function(address, add, self.result_cffi(kind.result), check_count)

    # ---- Anything -----------------------------------------------------------------------------

    def function(self, function: Any, restype: Any) -> Function:
        """What is to be called. restype: a ctypes type, for what does not say it itself."""
        function = getattr(function, "ctypes", function)  # numba's @cfunc
        if isinstance(function, CFuncPtr) or hasattr(type(function), "argtypes"):
            found = self.ctypes_function(function)
        elif isinstance(function, self.ffi.CData):
            found = self.cffi_function(function)
        elif isinstance(function, int):
            if not 0 < function < 1 << 47:
                raise ValueError(f"{function:#x} is no address of a function")
            kind = ctypes.c_int64 if restype is None else restype
            return Function(
                function,
                lambda arguments, _, value: self.add_any(arguments, value),
                self.result_ctypes(kind),
                lambda _: None,
            )
        else:
            raise TypeError(
                f"{type(function).__name__} is no function of ctypes or cffi and no address; "
                "with cffi's API mode use ffi.addressof(lib, name)"
            )
        if restype is not None:
            raise TypeError("restype is for addresses; this function has a type of its own")
        return found
