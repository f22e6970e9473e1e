"""From what the core has written to a profile with names and costs."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

from multiverse.crash.report import vector_name
from multiverse.profile.model import (
    Cost,
    Group,
    Memory,
    Process,
    Profile,
    Site,
    Stack,
    Stretch,
)
from multiverse.profile.names import Files, Frame, Names
from multiverse.profile.raw import Counts, Event, RawProfile
from multiverse.profile.raw import Site as RawSite
from multiverse.profile.unwind import Unwinder
from multiverse.syscalls import NAMES

OTHER_NAMES = {
    "fault": "access that Linux does not map",
    "kick": "signal arrived",
    "merge": "memory merged into the HRT",
    "replication": "access done by Linux",
    "signal": "signal handler entered",
}
LANE_MAX = 3000  # stretches of a thread's timeline; shorter ones are joined


def event_name(kind: str, nr: int) -> str:
    if kind in ("syscall", "sync"):
        return NAMES.get(nr, f"call {nr}")
    if kind == "exception":
        return vector_name(nr)
    return OTHER_NAMES.get(kind, kind)


def dearest_first(stacks: list[Stack]) -> list[Stack]:
    """Each backtrace once."""
    merged: dict[tuple[int, ...], Stack] = {}
    for stack in stacks:
        to = merged.setdefault(tuple(stack.frames), Stack(stack.frames, 0, 0))
        to.cycles += stack.cycles
        to.samples += stack.samples
    return sorted(merged.values(), key=lambda stack: -stack.cycles)


class Analysis:
    """Makes a Profile of a RawProfile."""

    def __init__(self, raw: RawProfile) -> None:
        self.raw = raw
        files = Files()
        indices = {s.process for s in raw.sites} | {r.process for r in raw.ranges}
        self.names = {index: Names(raw, index, files) for index in indices}
        self.start = min((p.begin for p in raw.processes), default=0)
        self.frames: dict[Frame, int] = {}

    def _frame(self, frame: Frame) -> int:
        return self.frames.setdefault(frame, len(self.frames))

    def cost(self, counts: Counts) -> Cost:
        """With the parts that nobody could measure: what an exit takes on its way.

        A way that was not measured counts half of what an exit and its return take, and an
        answer by a poller is as long on its way back as the fastest request was on its way there.
        """
        half = self.raw.exit_cycles // 2
        blocked = min(counts.blocked, counts.call)
        return Cost(
            count=counts.count,
            sync=counts.sync,
            there=counts.wait + max(0, counts.exits - counts.stamped) * half,
            linux=counts.call - blocked,
            blocked=blocked,
            back=counts.back + counts.exits * half + counts.sync * self.raw.sync_back,
        )

    def _stacks(self, site: RawSite, cost: Cost) -> list[Stack]:
        """The site's cost, shared out among its backtraces as their samples cost."""
        names = self.names[site.process]
        unwinder = Unwinder(names)
        weight = sum(sample.cycles for sample in site.samples)
        stacks = []
        for sample in site.samples:
            steps = unwinder.walk(site.rip, sample)
            frames = [
                self._frame(names.frame(step.address, sample.tsc, step.found))
                for step in reversed(steps)
            ]
            part = cost.cycles * sample.cycles // weight if weight else 0
            stacks.append(Stack(frames, part, sample.count))
        return stacks

    def _sites(self) -> list[Site]:
        merged: dict[tuple[str, str, int], Site] = {}
        for site in self.raw.sites:
            cost = self.cost(site.counts)
            tsc = site.samples[0].tsc if site.samples else 0
            frame = self._frame(self.names[site.process].frame(site.rip, tsc))
            event = event_name(site.kind, site.nr)
            to = merged.setdefault(
                (site.kind, event, frame), Site(event, site.kind, frame, Cost(), [])
            )
            to.cost.add(cost)
            to.stacks += self._stacks(site, cost)
        for kind, nr, counts in self.raw.rest:
            frame = self._frame(Frame("not kept apart", "", "unknown"))
            event = event_name(kind, nr)
            to = merged.setdefault((kind, event, frame), Site(event, kind, frame, Cost(), []))
            to.cost.add(self.cost(counts))
        for to in merged.values():
            to.stacks = dearest_first(to.stacks)
        return sorted(merged.values(), key=lambda site: -site.cost.cycles)

    def _memory(self) -> list[Memory]:
        merged: dict[tuple[str, str], Memory] = {}
        for of in self.raw.ranges:
            event = event_name(of.kind, of.nr)
            memory = self.names[of.process].memory(of)
            to = merged.setdefault((event, memory), Memory(event, memory, 0, 0))
            to.count += of.count
            to.cycles += of.cycles
        return sorted(merged.values(), key=lambda memory: -memory.cycles)

    def _processes(self) -> list[Process]:
        costs: dict[int, Cost] = defaultdict(Cost)
        for site in self.raw.sites:
            costs[site.process].add(self.cost(site.counts))
        last: Counter[int] = Counter()
        for group in self.raw.groups:
            last[group.process] = max(last[group.process], group.last)
        return [
            Process(
                p.pid, p.parent, p.path, p.begin - self.start,
                max(p.begin, p.end or last[p.index]) - self.start, not p.end, costs[p.index],
            )
            for p in self.raw.processes
        ]  # fmt: skip

    def _groups(self, names: dict[str, int]) -> list[Group]:
        events: dict[tuple[int, int], list[Event]] = defaultdict(list)
        for event in self.raw.events:
            events[event.pid, event.tid].append(event)
        ends = {(p.index, p.pid): p.end for p in self.raw.processes}
        position = {p.index: i for i, p in enumerate(self.raw.processes)}
        found = []
        for g in self.raw.groups:
            # A child in its parent's memory (vfork) does not end with the parent.
            end = g.last if g.ended else max(ends.get((g.process, g.pid), 0), g.last)
            lane = self._lane([e for e in events[g.pid, g.tid] if g.begin <= e.begin <= end], names)
            found.append(
                Group(
                    position.get(g.process, -1), g.pid, g.tid, g.begin - self.start,
                    end - self.start, self.cost(g.counts), lane,
                )
            )  # fmt: skip
        return sorted(found, key=lambda group: group.begin)

    def _lane(self, events: list[Event], names: dict[str, int]) -> list[Stretch]:
        """When the thread was on the ROS side, in stretches that a picture can show."""
        stretches = []
        for event in sorted(events, key=lambda event: event.begin):
            if event.kind in ("group_start", "group_end", "none"):
                continue
            begin = event.asked if 0 < event.asked < event.begin else event.begin
            name = names.setdefault(event_name(event.kind, event.nr), len(names))
            end = max(begin, event.end)
            stretches.append((begin - self.start, end - self.start, name, 1, end - begin))
        return join(stretches, LANE_MAX)

    def profile(self, program: list[str], status: int, seconds: float) -> Profile:
        names: dict[str, int] = {}
        sites = self._sites()
        return Profile(
            program=program,
            status=status,
            seconds=seconds,
            tsc_hz=self.raw.tsc_hz,
            ring=self.raw.processes[0].ring if self.raw.processes else None,
            exit_cycles=self.raw.exit_cycles,
            overhead=sum(group.overhead for group in self.raw.groups),
            processes=self._processes(),
            groups=self._groups(names),
            frames=list(self.frames),
            sites=sites,
            memory=self._memory(),
            names=list(names),
            dropped=self.raw.dropped,
        )


def join(stretches: list[Stretch], most: int) -> list[Stretch]:
    """Join neighbours, those with the smallest gaps first, until so many are left.

    A joined stretch has the name of its longest part.
    """
    if len(stretches) <= most:
        return stretches
    gaps = sorted(b[0] - a[1] for a, b in itertools.pairwise(stretches))
    limit = gaps[len(stretches) - most - 1]
    joined: list[Stretch] = []
    times: Counter[int] = Counter()
    for begin, end, name, count, busy in stretches:
        if joined and begin - joined[-1][1] <= limit:
            times[name] += busy
            first, last, _, before, busy_before = joined[-1]
            last = max(last, end)
            busy = min(busy + busy_before, last - first)
            joined[-1] = (first, last, times.most_common(1)[0][0], before + count, busy)
        else:
            times = Counter({name: busy})
            joined.append((begin, end, name, count, busy))
    return joined
