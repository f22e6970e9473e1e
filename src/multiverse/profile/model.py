"""A profile with names and costs, and its form as a file. Costs are TSC cycles."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from multiverse.profile.names import Frame

FORMAT = "multiverse-profile-1"

#: A stretch of a timeline: begin, end, the index of the event's name, how many events, and for how
#: long of it these were under way.
Stretch = tuple[int, int, int, int, int]


@dataclass
class Cost:
    """Legacy events and what they cost.

    Attributes:
        count: events.
        sync: of these, answered by pollers over the synchronous channel.
        there: from the HRT's request until the ROS took it up.
        linux: in the call, on a processor: Linux, and what the core does for it.
        blocked: in the call, waiting for something else: no cost of the channel's, and none that an
            override could save.
        back: from the end of the call until the HRT goes on.
    """

    count: int = 0
    sync: int = 0
    there: int = 0
    linux: int = 0
    blocked: int = 0
    back: int = 0

    @property
    def channel(self) -> int:
        return self.there + self.back

    @property
    def cycles(self) -> int:
        """What the events cost the program."""
        return self.there + self.linux + self.back

    def add(self, other: Cost) -> None:
        for name in Cost.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Stack:
    """Events with the same backtrace; frames: indices, outermost first."""

    frames: list[int]
    cycles: int
    samples: int


@dataclass
class Site:
    """Events of one kind from one function. event: a system call's or another event's name."""

    event: str
    kind: str
    frame: int
    cost: Cost
    stacks: list[Stack]


@dataclass
class Memory:
    """Events of one kind that were about one kind of memory."""

    event: str
    memory: str
    count: int
    cycles: int


@dataclass
class Group:
    """An execution group (a thread). begin, end: cycles since the run began.

    lane: when it was on the ROS side.
    """

    process: int
    pid: int
    tid: int
    begin: int
    end: int
    cost: Cost
    lane: list[Stretch] = field(default_factory=list)


@dataclass
class Process:
    pid: int
    parent: int
    path: str
    begin: int
    end: int
    killed: bool
    cost: Cost


@dataclass
class Profile:
    """Everything. status: the program's wait status; seconds: the whole run's time.

    overrides: the names of those that were in force.
    """

    program: list[str]
    status: int
    seconds: float
    tsc_hz: int = 0
    ring: int | None = None
    exit_cycles: int = 0
    overhead: int = 0  # what profiling itself took of the threads' time
    processes: list[Process] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of events, for the groups' lanes
    dropped: dict[str, int] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)

    @property
    def hrt(self) -> bool:
        return bool(self.groups)

    @property
    def total(self) -> Cost:
        cost = Cost()
        for site in self.sites:
            cost.add(site.cost)
        return cost

    @property
    def lifetime(self) -> int:
        """How long all threads lived, together."""
        return sum(group.end - group.begin for group in self.groups)

    def events(self) -> dict[tuple[str, str], Cost]:
        """Costs by kind and name of event, the dearest first."""
        found: dict[tuple[str, str], Cost] = {}
        for site in self.sites:
            found.setdefault((site.kind, site.event), Cost()).add(site.cost)
        return dict(sorted(found.items(), key=lambda item: -item[1].cycles))

    def share(self, cycles: int) -> float:
        """Of the threads' time."""
        return cycles / self.lifetime if self.lifetime else 0.0

    def milliseconds(self, cycles: int) -> float:
        return cycles * 1e3 / self.tsc_hz if self.tsc_hz else 0.0

    def to_json(self) -> dict[str, Any]:
        from multiverse import __version__

        total = self.total
        return {
            "format": FORMAT,
            "version": __version__,
            "hrt": self.hrt,
            "totals": asdict(total)
            | {
                "cycles": total.cycles,
                "lifetime": self.lifetime,
                "share": self.share(total.cycles),
            },
            **asdict(self),
        }


def _cost(of: dict[str, Any]) -> Cost:
    return Cost(**{name: int(of[name]) for name in Cost.__dataclass_fields__})


def from_json(data: Any) -> Profile:
    """Read what to_json() has made. Raises ValueError if it is something else."""
    try:
        if data["format"] != FORMAT:
            raise ValueError("not a profile of this version")
        return Profile(
            program=[str(word) for word in data["program"]],
            status=int(data["status"]),
            seconds=float(data["seconds"]),
            tsc_hz=int(data["tsc_hz"]),
            ring=data["ring"],
            exit_cycles=int(data["exit_cycles"]),
            overhead=int(data["overhead"]),
            processes=[Process(**p | {"cost": _cost(p["cost"])}) for p in data["processes"]],
            groups=[
                Group(**g | {"cost": _cost(g["cost"]), "lane": [tuple(x) for x in g["lane"]]})
                for g in data["groups"]
            ],
            frames=[Frame(**f) for f in data["frames"]],
            sites=[
                Site(**s | {"cost": _cost(s["cost"]), "stacks": [Stack(**x) for x in s["stacks"]]})
                for s in data["sites"]
            ],
            memory=[Memory(**m) for m in data["memory"]],
            names=[str(name) for name in data["names"]],
            dropped={str(k): int(v) for k, v in data["dropped"].items()},
            overrides=[str(name) for name in data.get("overrides", [])],
        )
    except KeyError as error:
        raise ValueError(f"not a profile: {error} is missing") from None
    except (TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"not a profile: {error}") from None


def load(path: Path) -> Profile:
    """Read a profile's file. Raises OSError, or ValueError if it is none."""
    with path.open() as file:
        return from_json(json.load(file))
