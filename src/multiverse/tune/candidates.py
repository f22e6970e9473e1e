"""Which sets a program's profile says cannot matter."""

from __future__ import annotations

from collections.abc import Iterable

from multiverse.overrides.sets import Set
from multiverse.profile.gains import Answers, answered, gains, works
from multiverse.profile.model import Profile

#: Less than this share of the threads' time is not measurable.
SHARE_MIN = 0.0005
#: Calls that decide what other things cost: page faults. Their own cost says little.
MEMORY_CALLS = {"mmap", "munmap", "mremap", "mprotect", "madvise", "brk"}
#: Functions that are no system call natively, so that a profile does not show them.
UNSEEN = {"clock_gettime", "clock_getres", "gettimeofday", "time", "getcpu"}


def without_effect(profile: Profile, sets: Iterable[Set]) -> dict[str, str]:
    """Reasons by name for the sets whose calls the program does not make, or hardly."""
    made = {name for kind, name in profile.events() if kind == "syscall"}
    reasons = {}
    for one in sets:
        if not works(one.name, profile.ring):
            reasons[one.name] = f"it does nothing at ring {profile.ring}"
            continue
        calls = answered(one.name, one.syscalls)
        unseen = any(name in UNSEEN or name not in calls for name in one.functions)
        saved = sum(g.cycles for g in gains(profile, [Answers(one.name, calls)]))
        if unseen:
            continue
        if not calls & made:
            reasons[one.name] = "the program makes none of its calls"
        elif not calls & made & MEMORY_CALLS and profile.share(saved) < SHARE_MIN:
            reasons[one.name] = f"its calls are {profile.share(saved):.3%} of the time"
    return reasons
