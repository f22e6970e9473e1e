"""The program that is debugged: its threads, its memory, breakpoints (core/abi/debug.h)."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import fcntl
import mmap
import os
import select
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Any

import cffi

from multiverse.core import core_header

_SYS_FUTEX, _SYS_RT_TGSIGQUEUEINFO = 202, 297
_FUTEX_WAKE, _SI_QUEUE = 1, -1
_PAGE = 4096
_UPPER_HALF = 1 << 47
_PTE_PRESENT, _PTE_LARGE, _PTE_ADDRESS = 1, 1 << 7, 0x000FFFFFFFFFF000
_STOP_S = 2.0  # how long to wait for threads that do not stop
_STUCK_S = 0.1  # the same, for such as Linux does not let be interrupted
_KICK_S = 0.05  # after which a thread is told again
# linux/pidfd.h: struct pidfd_info, whose first word is a mask and whose last the status.
_PIDFD_INFO = struct.Struct("<Q56x")
_PIDFD_GET_INFO, _PIDFD_INFO_EXIT = 0xC040FF0B, 1 << 3
_FRAME = struct.Struct("<18Q")


class State(enum.IntEnum):
    """enum mv_debug_state."""

    ABSENT = 0
    RUNNING = 1
    PARKED = 2


class Reason(enum.IntEnum):
    """enum mv_debug_reason."""

    TOLD = 0
    START = 1
    BREAKPOINT = 2
    STEPPED = 3
    SIGNAL = 4


class Command(enum.IntEnum):
    """enum mv_debug_command."""

    NOTHING = 0
    CONTINUE = 1
    STEP = 2


def interface() -> Any:
    """cffi's view of the header."""
    ffi = cffi.FFI()
    ffi.cdef(core_header("debug.h"))
    return ffi


class Page:
    """The memory that core and debugger share."""

    def __init__(self) -> None:
        self.ffi = interface()
        size = -(-self.ffi.sizeof("struct mv_debug") // _PAGE) * _PAGE
        self.fd = os.memfd_create("multiverse-debug", 0)
        os.ftruncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size)
        self.data = self.ffi.cast("struct mv_debug *", self.ffi.from_buffer(self.map))
        constants = self.ffi.dlopen(None)
        self.data.magic = constants.MV_DEBUG_MAGIC
        self.data.version = constants.MV_DEBUG_VERSION
        self.opcode = int(constants.MV_DEBUG_OPCODE)
        self.cookie = int(constants.MV_DEBUG_COOKIE)


class Process:
    """One debugged process.

    page: shared with its core; events: the socket on which the core tells of changes, whose end is
    the end of the process, or of its being an HRT.
    """

    def __init__(self, page: Page, events: socket.socket) -> None:
        self.page = page
        self.data = page.data
        self.events = events
        self.events.setblocking(False)
        self.over = False  # the socket has ended
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._memory = -1
        self._pidfd = -1
        self._inserted: dict[int, int] = {}  # breakpoints: index in the page, by address
        self._free = list(reversed(range(len(self.data.breakpoint))))

    # ---- Threads -------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return int(self.data.pid)

    def open(self) -> None:
        """Take hold of the process once it has begun. Raises OSError."""
        self._pidfd = os.pidfd_open(self.pid)
        self._memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)

    def slots(self) -> list[Any]:
        """The threads that there are."""
        found = []
        for i in range(min(self.data.groups, len(self.data.group))):
            slot = self.data.group[i]
            if slot.state != State.ABSENT:
                found.append(slot)
        return [slot for slot in found if self.is_parked(slot) or self._linux_state(slot)]

    def slot(self, tid: int) -> Any:
        """The thread with this id, or None."""
        return next((slot for slot in self.slots() if slot.tid == tid), None)

    @staticmethod
    def is_parked(slot: Any) -> bool:
        # In this order: the core takes a command back only when the state says that it runs.
        return bool(slot.command == Command.NOTHING and slot.state == State.PARKED)

    def name(self, slot: Any) -> str:
        try:
            text = Path(f"/proc/{slot.pid}/task/{slot.tid}/comm").read_text(errors="replace")
        except OSError:
            return ""
        return text.rstrip("\n")

    @staticmethod
    def _linux_state(slot: Any) -> str:
        """The state's letter in /proc; empty for a thread that has ended."""
        try:
            text = Path(f"/proc/{slot.pid}/task/{slot.tid}/stat").read_text(errors="replace")
        except OSError:
            return ""
        state = text.rsplit(")", 1)[1].split()[0]
        return "" if state in "ZX" else state

    def drain(self) -> None:
        """Take the core's notes, which say only that something has changed."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = self.events.recv(4096)
                except ConnectionError:
                    data = b""
                if not data:
                    self.over = True
                    return

    def wait(self, seconds: float) -> None:
        """Wait until the core has something to tell, or for this long."""
        if self.over:
            time.sleep(min(seconds, 0.01))
        else:
            select.select([self.events], [], [], seconds)
        self.drain()

    def _kick(self, slot: Any) -> None:
        # Nobody may become another program, which would die of the signal, between the look and it.
        self.data.kicking = 1
        self._libc.sched_yield()  # ctypes takes a lock behind it, which orders store and loads
        if not self.data.left and slot.state == State.RUNNING:
            self._send_stop(slot)
        self.data.kicking = 0

    def _send_stop(self, slot: Any) -> None:
        info = struct.pack(
            "<iiiiiiq", signal.SIGTRAP, 0, _SI_QUEUE, 0, os.getpid(), os.getuid(), self.page.cookie
        ).ljust(128, b"\0")
        self._libc.syscall(
            _SYS_RT_TGSIGQUEUEINFO, int(slot.pid), int(slot.tid), int(signal.SIGTRAP), info
        )

    def stop_all(self) -> None:
        """Have all threads park. One that Linux does not let be interrupted parks later."""
        self.data.stopping = 1
        begin = time.monotonic()
        kicked: dict[int, float] = {}
        while not self.over:
            left = [slot for slot in self.slots() if not self.is_parked(slot)]
            now = time.monotonic()
            stuck = all(self._linux_state(slot) in ("D", "T", "t", "") for slot in left)
            if not left or now - begin > (_STUCK_S if stuck else _STOP_S):
                return
            for slot in left:
                if now - kicked.get(slot.tid, 0.0) > _KICK_S:
                    self._kick(slot)
                    kicked[slot.tid] = now
            self.wait(_KICK_S / 5)

    def resume(self, slot: Any, command: Command, deliver: int = 0) -> None:
        """Let a parked thread go on. deliver: a signal, Linux's number, or 0."""
        self.data.stopping = 0
        slot.signal = deliver
        slot.command = command
        ffi = self.page.ffi
        address = int(ffi.cast("uintptr_t", ffi.addressof(slot, "command")))
        self._libc.syscall(
            _SYS_FUTEX, ctypes.c_void_p(address), _FUTEX_WAKE, 0x7FFFFFFF, None, None, 0
        )

    def load_frame(self, slot: Any) -> None:
        """Fetch the state of a thread that is in a system call into its slot."""
        with contextlib.suppress(OSError, struct.error):
            words = _FRAME.unpack(os.pread(self._memory, _FRAME.size, slot.frame))
            if not self.is_parked(slot):
                slot.registers = list(words)

    # ---- Its end -------------------------------------------------------------------------------

    def has_ended(self) -> bool:
        if self._pidfd < 0:
            return self.over
        return bool(select.select([self._pidfd], [], [], 0)[0])

    def wait_status(self) -> int | None:
        """How the process has ended, as wait(2) gives it; None if nobody says."""
        if self.data.ended:
            return int(self.data.status)
        info = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT))
        with contextlib.suppress(OSError):  # Linux before 6.15
            fcntl.ioctl(self._pidfd, _PIDFD_GET_INFO, info)
            if int.from_bytes(info[:8], "little") & _PIDFD_INFO_EXIT:
                return int.from_bytes(info[-4:], "little")
        with contextlib.suppress(OSError, IndexError, ValueError):  # until its parent has looked
            text = Path(f"/proc/{self.pid}/stat").read_text(errors="replace")
            return int(text.rsplit(")", 1)[1].split()[49])
        # As an HRT nobody but Linux ends it without a word.
        return None if self.data.left else int(signal.SIGKILL)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    # ---- Memory --------------------------------------------------------------------------------

    def _translate(self, address: int) -> int | None:
        """Where a byte of the upper half, as the HRT's page tables have it, is in the process."""
        table = int(self.data.tables_root)
        for shift in (39, 30, 21, 12):
            at = self._host(table + (address >> shift & 511) * 8)
            if at is None:
                return None
            entry = int.from_bytes(os.pread(self._memory, 8, at), "little")
            if not entry & _PTE_PRESENT:
                return None
            if shift == 12 or (shift < 39 and entry & _PTE_LARGE):
                mask = (1 << shift) - 1
                return self._host((entry & _PTE_ADDRESS & ~mask) + (address & mask))
            table = entry & _PTE_ADDRESS
        return None

    def _host(self, gpa: int) -> int | None:
        offset = gpa - int(self.data.memory_gpa)
        inside = 0 <= offset < int(self.data.memory_bytes)
        return int(self.data.memory_host) + offset if inside else None

    def _pieces(self, address: int, size: int) -> list[tuple[int, int]]:
        """Where a range is in the process, page by page, up to the first page that is nowhere."""
        pieces = []
        while size > 0:
            part = min(size, _PAGE - address % _PAGE)
            if address >= 1 << 63:
                host = self._translate(address)
            else:
                core = self.data.region_start - part < address < self.data.region_end
                host = None if core or address >= _UPPER_HALF else address
            if host is None:
                break
            pieces.append((host, part))
            address += part
            size -= part
        return pieces

    def read(self, address: int, size: int) -> bytes:
        """Memory as the program has it, as much as is there. Breakpoints do not show."""
        data = bytearray()
        for host, part in self._pieces(address, size):
            try:
                got = os.pread(self._memory, part, host)
            except OSError:
                break
            data += got
            if len(got) < part:
                break
        for b in self._breakpoints_in(address, len(data)):
            if data[b.address - address] == self.page.opcode:
                data[b.address - address] = b.original
        return bytes(data)

    def write(self, address: int, data: bytes) -> bool:
        """Change memory, whatever its protection. Returns false if not all of it could be."""
        shown = bytearray(data)
        pieces = self._pieces(address, len(data))
        if sum(part for _, part in pieces) < len(data):
            return False
        for b in self._breakpoints_in(address, len(data)):
            b.original = data[b.address - address]
            shown[b.address - address] = self.page.opcode
        at = 0
        for host, part in pieces:
            try:
                if os.pwrite(self._memory, shown[at : at + part], host) != part:
                    return False
            except OSError:
                return False
            at += part
        return True

    # ---- Breakpoints ---------------------------------------------------------------------------

    def _breakpoints_in(self, address: int, size: int) -> list[Any]:
        entries = (self.data.breakpoint[i] for i in sorted(self._inserted.values()))
        return [b for b in entries if address <= b.address < address + size]

    def insert(self, address: int) -> bool:
        """Set a breakpoint. Returns false where none can be."""
        if address in self._inserted:
            return True
        pieces = self._pieces(address, 1)
        kernel = self.data.kernel_start <= address < self.data.kernel_end
        if not pieces or not self._free or not (address < _UPPER_HALF or kernel):
            return False
        host = pieces[0][0]
        index = self._free.pop()
        entry = self.data.breakpoint[index]
        try:
            entry.original = os.pread(self._memory, 1, host)[0]
            entry.host = host
            self.data.breakpoints = max(self.data.breakpoints, index + 1)
            entry.address = address  # before whoever meets it looks for it
            os.pwrite(self._memory, bytes([self.page.opcode]), host)
        except (OSError, IndexError):
            entry.address = 0
            self._free.append(index)
            return False
        self._inserted[address] = index
        return True

    def remove(self, address: int) -> None:
        """Take a breakpoint out; nothing happens where there is none, or is no more."""
        index = self._inserted.pop(address, None)
        if index is None:
            return
        entry = self.data.breakpoint[index]
        with contextlib.suppress(OSError):
            if os.pread(self._memory, 1, entry.host) == bytes([self.page.opcode]):
                os.pwrite(self._memory, bytes([entry.original]), entry.host)
        entry.address = 0
        self._free.append(index)

    def remove_all(self) -> None:
        for address in list(self._inserted):
            self.remove(address)

    # ---- Files ---------------------------------------------------------------------------------

    def auxv(self) -> bytes:
        """The program's auxiliary vector, from its first stack: its end is AT_NULL."""
        data = self.read(self.data.stack, 0x10000) or b""
        words = [w for (w,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8])]
        at = words[0] + 2 if words else 0  # argc, argv and its end
        while at < len(words) and words[at]:
            at += 1
        at += 1
        end = at
        while end + 1 < len(words) and words[end]:
            end += 2
        return data[at * 8 : (end + 2) * 8]

    def program(self) -> bytes:
        return bytes(self.page.ffi.string(self.data.program))
