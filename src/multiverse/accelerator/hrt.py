"""`multiverse.Hrt`: an HRT of this process."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from multiverse.accelerator.convert import Converter, Frame
from multiverse.accelerator.library import HrtError, library

MV_HRT_NATIVE = 1
EFAULT = 14


class Hrt:
    """A hybrid runtime in which single native functions are called, on the process's live data.

    >>> import ctypes, multiverse
    >>> strlen = ctypes.CDLL(None).strlen
    >>> with multiverse.Hrt(fallback=True) as hrt:
    ...     hrt.call(strlen, b"hybrid")
    6

    threads: how many calls can be under way at the same time, from 1 to 64.
    stack_size: of each, bytes; 0: 8 MiB.
    fallback: where no HRT is possible, call functions natively; else HrtError is raised.

    There is one HRT at a time in a process; another one raises HrtError (errno EBUSY). In a process
    that runs as an HRT already (``multiverse run``) functions are simply called.
    """

    def __init__(
        self, *, threads: int = 1, stack_size: int = 0, fallback: bool = False, config: str = ""
    ) -> None:
        self._library = library()
        ffi = self._library.ffi
        if not 1 <= threads <= 64:
            raise ValueError(f"threads: {threads} is not from 1 to 64")
        text = ffi.new("char[]", config.encode())
        options = ffi.new("struct mv_hrt_options *")
        options.threads = threads
        options.flags = MV_HRT_NATIVE if fallback else 0
        options.stack_size = stack_size
        options.config = text
        handle = ffi.new("struct mv_hrt **")
        err = self._library.lib.mv_hrt_create(options, handle)
        if err:
            raise self._library.error(err)
        self._handle = handle[0]
        self._call = self._library.lib.mv_hrt_call
        self._converter = Converter(ffi)
        self._frames: list[Frame] = []  # that no call uses
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        self._pid = os.getpid()
        self._closed = False

    @property
    def ring(self) -> int | None:
        """The ring that functions run at, 0 or 3; None where they are called natively."""
        ring = int(self._library.lib.mv_hrt_ring(self._handle))
        return ring if ring >= 0 else None

    @property
    def errno(self) -> int:
        """C's errno as the calling thread's last call left it."""
        return int(self._library.ffi.errno)

    def _check(self) -> None:
        if self._closed:
            raise HrtError(108, "HRT call: the HRT has been closed; make another one")
        if os.getpid() != self._pid:
            raise HrtError(10, "HRT call: the HRT belongs to the parent of this process; make one")

    def call(self, function: Any, *args: Any, restype: Any = None) -> Any:
        """Call a function in the HRT and return its result.

        function: a function of ctypes or cffi, a numba @cfunc, or an address (int), whose result
        `restype` (a ctypes type; 64-bit integer) describes. args: numbers, bytes, buffers such as
        NumPy arrays, None, and what ctypes and cffi have; converted as the function's types say.
        Other Python threads go on meanwhile. The function runs on a thread of the HRT with the
        calling thread's thread-local storage.

        Raises HrtFault if an instruction of it raises a signal (SIGSEGV, SIGFPE, ...), HrtError if
        the HRT has been closed or belongs to a parent process, TypeError for what cannot be
        converted.
        """
        if self._closed:
            self._check()
        target = self._converter.function(function, restype)
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = Frame(self._library.ffi)
        try:
            if len(args) == len(target.adders):
                for add, value in zip(target.adders, args, strict=False):
                    add(frame, value)
            else:
                self._converter.add_variable(target, frame, args)
            if frame.reals or frame.stack or target.real:
                call = frame.complete(self._library.ffi, target.address)
                err = self._library.lib.mv_hrt_invoke(self._handle, call)
            else:  # the same, with fewer cache lines
                err = self._call(
                    self._handle, frame.result, target.address, frame.integers, frame.words
                )
            if err == -EFAULT:
                raise self._library.fault()
            if err:
                raise self._library.error(err)
            result = target.read(frame)
        finally:
            if frame.reals or frame.keep or frame.stack:
                frame.clear()
            frame.integers = 0
            self._frames.append(frame)
        if target.checked:
            check = function.errcheck
            if check is not None:
                return check(result, function, args)
        return result

    def submit(self, function: Any, *args: Any, restype: Any = None) -> Future[Any]:
        """Begin a call; the future has its result or exception."""
        self._check()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="hrt")
        return self._executor.submit(self.call, function, *args, restype=restype)

    def reboot(self) -> None:
        """Make the virtual machine anew, after the calls that are under way."""
        self._check()
        err = self._library.lib.mv_hrt_reboot(self._handle)
        if err:
            raise self._library.error(err)

    def close(self) -> None:
        """End the HRT, after the calls that are under way. Again: nothing."""
        if self._closed or os.getpid() != self._pid:
            return
        if self._executor:
            self._executor.shutdown()
        self._closed = True
        err = self._library.lib.mv_hrt_destroy(self._handle)
        if err:
            raise self._library.error(err)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
