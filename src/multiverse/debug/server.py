"""The debugger's process, which the command line starts before it becomes the core."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from pathlib import Path

from multiverse.debug.process import Page, Process, Reason
from multiverse.debug.stub import Session

_LOOPBACK = "127.0.0.1"
_POLL_S = 1.0


def listen(where: str) -> tuple[socket.socket, str]:
    """A socket for gdb on a TCP port of this machine (0: any), or at a path with a slash in it.

    Returns it with what `target remote` takes. Raises OSError; ValueError for neither.
    """
    if "/" in where:
        server = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)  # who can connect can do what the program can
        try:
            server.bind(where)
        finally:
            os.umask(mask)
        target = os.path.abspath(where)
    else:
        if not where.isdecimal() or int(where) > 65535:
            raise ValueError(where)
        server = socket.socket(socket.AF_INET)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((_LOOPBACK, int(where)))
        target = f"{_LOOPBACK}:{server.getsockname()[1]}"
    server.listen(1)
    return server, target


def start(server: socket.socket, target: str) -> list[str]:
    """Start the debugger's process. Returns what the core has to be told (CONFIG).

    server, target: as listen() gives them. The calling process becomes the core, or makes it. When
    the program can be debugged, one line on stderr says so. Raises OSError.
    """
    page = Page()
    ours, cores = socket.socketpair()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        # Once more, so that it is no child of the program's.
        os.setsid()
        if os.fork():
            os._exit(0)
        page.data.debugger = os.getpid()
        os.write(write_end, b"x")
        _become_debugger(page, server, ours, target)
    os.close(write_end)
    os.waitpid(child, 0)
    started = os.read(read_end, 1)
    os.close(read_end)
    if not started:
        raise OSError(0, "the debugger's process has not started", "--gdb")
    ours.close()
    server.close()
    os.set_inheritable(page.fd, True)
    cores.set_inheritable(True)
    return [f"debug={page.fd}", f"debugsocket={cores.detach()}"]


def _become_debugger(page: Page, server: socket.socket, events: socket.socket, target: str) -> None:
    status = 1
    os.chdir("/")
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        kept = sorted((page.fd, server.fileno(), events.fileno()))
        low = 3
        for fd in kept:
            os.closerange(low, fd)
            low = fd + 1
        os.closerange(low, os.sysconf("SC_OPEN_MAX"))
        _serve(Process(page, events), server, target)
        status = 0
    except OSError as error:
        what = f"{error.filename or 'gdb'}: {error.strerror}"
        print(f"multiverse: debugger: {what}; the program goes on without", file=sys.stderr)
    except BaseException:  # whatever it is, it must not go on as the command line
        sys.excepthook(*sys.exc_info())
    finally:
        if "/" in target:
            with contextlib.suppress(OSError):
                Path(target).unlink()
        os._exit(status)


def _has_begun(process: Process) -> bool:
    """Wait for the program's first instruction. Returns false if it does not come."""
    while not process.over:
        slots = [process.data.group[0]] if process.data.pid else []
        if any(process.is_parked(slot) and slot.reason == Reason.START for slot in slots):
            return True
        process.wait(_POLL_S)
    return False


def _serve(process: Process, server: socket.socket, target: str) -> None:
    if not _has_begun(process):
        return
    process.open()
    print(f"multiverse: run: waiting for gdb: target remote {target}", file=sys.stderr)
    if not os.isatty(2):  # whoever reads it waits for the program's end, not for gdb's
        os.dup2(0, 2)
    while not process.over:
        ready = select.select([server, process.events], [], [], _POLL_S)[0]
        process.drain()
        if process.over or server not in ready:
            continue
        connection, _ = server.accept()
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            Session(process, connection).serve()
