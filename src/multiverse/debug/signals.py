"""Numbers of signals: gdb's remote protocol has its own, the same for all systems."""

from __future__ import annotations

import signal

# From the protocol's documentation, by Linux's names.
_NAMED = {
    "SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGFPE": 8,
    "SIGKILL": 9, "SIGBUS": 10, "SIGSEGV": 11, "SIGSYS": 12, "SIGPIPE": 13, "SIGALRM": 14,
    "SIGTERM": 15, "SIGURG": 16, "SIGSTOP": 17, "SIGTSTP": 18, "SIGCONT": 19, "SIGCHLD": 20,
    "SIGTTIN": 21, "SIGTTOU": 22, "SIGIO": 23, "SIGXCPU": 24, "SIGXFSZ": 25, "SIGVTALRM": 26,
    "SIGPROF": 27, "SIGWINCH": 28, "SIGUSR1": 30, "SIGUSR2": 31, "SIGPWR": 32,
}  # fmt: skip
_UNKNOWN = 143
_TO_GDB = {int(getattr(signal, name)): number for name, number in _NAMED.items()}
_TO_GDB |= {number: number + 12 for number in range(33, 64)} | {32: 77, 64: 78}
_FROM_GDB = {theirs: ours for ours, theirs in _TO_GDB.items()}


def to_gdb(number: int) -> int:
    """gdb's number for one of Linux's."""
    return _TO_GDB.get(number, _UNKNOWN)


def from_gdb(number: int) -> int:
    """Linux's number for one of gdb's; 0 if Linux has none."""
    return _FROM_GDB.get(number, 0)
