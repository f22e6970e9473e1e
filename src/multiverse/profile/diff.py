"""What differs between two profiles."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from multiverse.crash.raw import printable
from multiverse.profile.model import Cost, Profile

FORMAT = "multiverse-profile-diff-1"


@dataclass(frozen=True)
class Change:
    """Events of one kind, or from one function, in both profiles; costs in ns."""

    event: str
    place: str
    count: tuple[int, int]
    cost: tuple[int, int]
    waiting: tuple[int, int]

    @property
    def difference(self) -> int:
        return self.cost[1] - self.cost[0]

    @property
    def what(self) -> str:
        if not self.count[1]:
            return "gone"
        return "new" if not self.count[0] else "changed"


@dataclass
class Difference:
    """seconds, lifetime, cost: of the runs, of all threads, of all legacy events; the last two in
    ns."""

    programs: tuple[list[str], list[str]]
    seconds: tuple[float, float]
    lifetime: tuple[int, int]
    cost: tuple[int, int]
    count: tuple[int, int]
    events: list[Change] = field(default_factory=list)
    sites: list[Change] = field(default_factory=list)


def _ns(profile: Profile, cycles: int) -> int:
    return round(profile.milliseconds(cycles) * 1e6)


def _changes(
    profiles: tuple[Profile, Profile], costs: list[dict[tuple[str, str], Cost]]
) -> list[Change]:
    found = []
    for key in dict.fromkeys((*costs[0], *costs[1])):
        pair = [of.get(key, Cost()) for of in costs]
        ns = [_ns(p, c.cycles) for p, c in zip(profiles, pair, strict=True)]
        waiting = [_ns(p, c.blocked) for p, c in zip(profiles, pair, strict=True)]
        counts = (pair[0].count, pair[1].count)
        found.append(Change(*key, counts, (ns[0], ns[1]), (waiting[0], waiting[1])))
    return sorted(found, key=lambda change: -abs(change.difference))


def compare(before: Profile, after: Profile) -> Difference:
    """The differences of two profiles, the greatest first."""
    both = (before, after)
    events = [{(name, ""): cost for (_, name), cost in p.events().items()} for p in both]
    sites: list[dict[tuple[str, str], Cost]] = []
    for profile in both:
        of: dict[tuple[str, str], Cost] = {}
        for site in profile.sites:
            of.setdefault((site.event, _place(profile, site.frame)), Cost()).add(site.cost)
        sites.append(of)
    totals = [p.total for p in both]
    return Difference(
        programs=(before.program, after.program),
        seconds=(before.seconds, after.seconds),
        lifetime=(_ns(before, before.lifetime), _ns(after, after.lifetime)),
        cost=(_ns(before, totals[0].cycles), _ns(after, totals[1].cycles)),
        count=(totals[0].count, totals[1].count),
        events=_changes(both, events),
        sites=_changes(both, sites),
    )


def _place(profile: Profile, index: int) -> str:
    """A function's name without what differs from run to run."""
    frame = profile.frames[index]
    return "JIT code" if frame.kind == "jit" and frame.name.startswith("JIT code") else frame.name


def to_json(difference: Difference) -> dict[str, Any]:
    def changes(of: list[Change]) -> list[dict[str, Any]]:
        return [asdict(c) | {"what": c.what, "difference": c.difference} for c in of]

    return {
        "format": FORMAT,
        **asdict(difference),
        "events": changes(difference.events),
        "sites": changes(difference.sites),
    }


def _table(title: str, changes: list[Change], limit: int, *, places: bool) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("event", overflow="fold")
    if places:
        table.add_column("function", overflow="fold", ratio=1)
    for name in ("events A", "events B", "cost A ms", "cost B ms", "difference ms"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for change in changes[:limit]:
        cells = [Text(change.event)]
        if places:
            cells.append(Text(printable(change.place)))
        style = "green" if change.difference < 0 else "red" if change.difference > 0 else ""
        table.add_row(
            *cells,
            *(f"{n:,}" for n in change.count),
            *(f"{ns / 1e6:,.2f}" for ns in change.cost),
            Text(f"{change.difference / 1e6:+,.2f}", style=style),
            "" if change.what == "changed" else change.what,
        )
    return table


def show(difference: Difference, console: Console, *, limit: int = 15) -> None:
    """Print the differences."""
    for letter, program in zip("AB", difference.programs, strict=True):
        console.print(Text(f"{letter}: {printable(' '.join(program))}"))
    rows = (
        ("run", [s * 1e3 for s in difference.seconds]),
        ("threads", [ns / 1e6 for ns in difference.lifetime]),
        ("legacy events", [ns / 1e6 for ns in difference.cost]),
    )
    for name, (a, b) in rows:
        console.print(Text(f"{name}: {a:,.1f} ms, then {b:,.1f} ms ({b - a:+,.1f})"))
    a, b = difference.count
    console.print(Text(f"events: {a:,}, then {b:,}" + (f" ({a / b:,.1f} : 1)" if a and b else "")))
    console.print(_table("By event", difference.events, limit, places=False))
    console.print(_table("By function", difference.sites, limit, places=True))
