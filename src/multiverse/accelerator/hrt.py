"""`multiverse.Hrt`: an HRT of this process."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NoReturn, Self

from multiverse.accelerator._calls import Calls
from multiverse.accelerator.convert import Converter, Frame
from multiverse.accelerator.library import HrtError, library

MV_HRT_NATIVE = 1
EFAULT = 14


class Hrt(Calls):
    """A hybrid runtime in which single native functions are called, on the process's live data.

    >>> import ctypes, multiverse
    >>> strlen = ctypes.CDLL(None).strlen
    >>> with multiverse.Hrt(fallback=True) as hrt:
    ...     hrt.call(strlen, b"hybrid")
    6

    threads: how many calls can be under way at the same time, from 1 to 64.
    stack_size: of each, bytes; 0: 8 MiB.
    fallback: where no HRT is possible, call functions natively; else HrtError is raised. A wrong
        configuration raises it in any case.
    config: of multiverse-core, as "hrtcpus=0xc,hrtmemory=512": cores for the threads, most MiB for
        the AeroKernel's allocators.

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
        self._converter = Converter(ffi)
        lib = self._library.lib
        pointers = (lib.mv_hrt_call, lib.mv_hrt_invoke, self._handle)
        call, invoke, hrt = (int(ffi.cast("uintptr_t", pointer)) for pointer in pointers)
        self._attach(call, invoke, hrt, self._converter.known)
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

    def _check(self) -> None:
        if self._closed:
            raise HrtError(108, "HRT call: the HRT has been closed; make another one")
        if os.getpid() != self._pid:
            raise HrtError(10, "HRT call: the HRT belongs to the parent of this process; make one")

    def _failed(self, err: int) -> NoReturn:
        self._check()
        raise self._library.fault() if err == -EFAULT else self._library.error(err)

    def _call(self, function: Any, args: tuple[Any, ...], restype: Any) -> Any:
        """call() for all arguments and results."""
        if self._closed:
            self._check()
        target = self._converter.function(function, restype)
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = Frame(self._library.ffi)
        try:
            self._converter.add(target, frame, args)
            err = self._invoke(frame.complete(self._library.ffi, target.address))
            if err:
                self._failed(err)
            result = target.read(frame)
        finally:
            frame.clear()
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
        self._detach()
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
