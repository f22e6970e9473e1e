"""A profile as tables on a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import PurePath

from rich.console import Console
from rich.table import Table
from rich.text import Text

from multiverse.crash.raw import printable
from multiverse.profile.gains import Gain
from multiverse.profile.model import Cost, Profile, Site

#: What tables can be sorted by.
SORTS: dict[str, Callable[[Cost], int]] = {
    "cost": lambda cost: cost.cycles,
    "count": lambda cost: cost.count,
    "channel": lambda cost: cost.channel,
    "linux": lambda cost: cost.linux,
    "waiting": lambda cost: cost.blocked,
    "each": lambda cost: cost.cycles // max(cost.count, 1),
}
COLUMNS = ("events", "sync", "cost ms", "of time", "channel ms", "Linux ms", "waiting ms", "each")
CALLERS = 3  # functions that a site's line names besides its own


def percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 else "<0.1%" if share else "0"


def _columns(table: Table) -> None:
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)


def _cells(profile: Profile, cost: Cost) -> list[str]:
    ms = profile.milliseconds
    return [
        f"{cost.count:,}",
        f"{cost.sync / cost.count:.0%}" if cost.count else "",
        f"{ms(cost.cycles):,.2f}",
        percent(profile.share(cost.cycles)),
        f"{ms(cost.channel):,.2f}",
        f"{ms(cost.linux):,.2f}",
        f"{ms(cost.blocked):,.2f}",
        f"{cost.cycles // max(cost.count, 1):,}",
    ]


def status_text(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"status {os.waitstatus_to_exitcode(status)}"


def site_text(profile: Profile, site: Site) -> str:
    """Where a site is: its function, and who called it in its dearest backtrace."""
    names = [profile.frames[site.frame].name]
    if site.stacks:
        callers = [profile.frames[index] for index in site.stacks[0].frames[:-1]]
        for frame in reversed(callers):
            if frame.name != names[-1] and len(names) <= CALLERS:
                names.append(f"{frame.name}?" if frame.found else frame.name)
    module = profile.frames[site.frame].module
    where = f" ({PurePath(module).name})" if module.startswith("/") else ""
    return printable(" < ".join(names) + where)


def _events(profile: Profile, sort: str, limit: int) -> Table:
    table = Table(title="Legacy events", title_justify="left")
    table.add_column("event", overflow="fold")
    _columns(table)
    rows = sorted(profile.events().items(), key=lambda item: -SORTS[sort](item[1]))
    for (_kind, name), cost in rows[:limit]:
        table.add_row(name, *_cells(profile, cost))
    if len(rows) > limit:
        rest = Cost()
        for _, cost in rows[limit:]:
            rest.add(cost)
        table.add_row(f"{len(rows) - limit} others", *_cells(profile, rest))
    table.add_section()
    table.add_row("all", *_cells(profile, profile.total))
    return table


def _sites(profile: Profile, sort: str, limit: int) -> Table:
    table = Table(
        title="From where (innermost first; ?: may not be a caller)", title_justify="left"
    )
    table.add_column("event", no_wrap=True)
    table.add_column("called from", overflow="fold", ratio=1)
    for name in ("events", "cost ms", "of time"):
        table.add_column(name, justify="right", no_wrap=True)
    sites = sorted(profile.sites, key=lambda site: -SORTS[sort](site.cost))
    for site in sites[:limit]:
        cost = site.cost
        table.add_row(
            site.event,
            Text(site_text(profile, site)),
            f"{cost.count:,}",
            f"{profile.milliseconds(cost.cycles):,.2f}",
            percent(profile.share(cost.cycles)),
        )
    return table


def _memory(profile: Profile, limit: int) -> Table:
    table = Table(title="About which memory", title_justify="left")
    table.add_column("event")
    table.add_column("memory", overflow="fold")
    for name in ("events", "cost ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for memory in profile.memory[:limit]:
        ms = profile.milliseconds(memory.cycles)
        table.add_row(memory.event, printable(memory.memory), f"{memory.count:,}", f"{ms:,.2f}")
    return table


def _gains(profile: Profile, gains: list[Gain]) -> Table:
    table = Table(title="What shipped override sets would remove (estimates)", title_justify="left")
    table.add_column("multiverse run --override")
    for name in ("events", "saves ms", "of time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("above all", overflow="fold", ratio=1)
    for gain in gains:
        table.add_row(
            gain.name,
            f"{gain.events:,}",
            f"{profile.milliseconds(gain.cycles):,.2f}",
            percent(profile.share(gain.cycles)),
            ", ".join(gain.calls[:6]),
        )
    return table


def dropped_text(profile: Profile) -> list[str]:
    """What is missing, in words."""
    words = {
        "events": "events are not on the timeline (--events): counts and costs have them",
        "ranges": "events are missing in the table of memory",
        "samples": "sampled backtraces had no room",
        "processes": "processes are not kept apart; their events are counted",
        "groups": "threads are missing in the timeline and the threads' time",
    }
    return [f"{n:,} {words[key]}" for key, n in profile.dropped.items() if n and key in words]


def summary(profile: Profile) -> str:
    total = profile.total
    ms = profile.milliseconds
    return (
        f"{profile.seconds:.3f} s ({status_text(profile.status)}), ring {profile.ring}, "
        f"{len(profile.processes)} processes, {len(profile.groups)} threads; "
        f"{total.count:,} legacy events: {ms(total.cycles):,.1f} ms, "
        f"{percent(profile.share(total.cycles))} of the threads' {ms(profile.lifetime):,.0f} ms, "
        f"besides {ms(total.blocked):,.1f} ms of waiting; "
        f"profiling took {percent(profile.share(profile.overhead))}"
    )


def show(
    profile: Profile, gains: list[Gain], console: Console, *, sort: str = "cost", limit: int = 15
) -> None:
    """Print everything."""
    console.print(Text(f"multiverse profile: {printable(' '.join(profile.program))}"))
    if not profile.hrt:
        console.print("nothing ran as an HRT; there is nothing to profile")
        return
    console.print(Text(summary(profile)))
    if profile.overrides:
        console.print(Text(f"with overrides: {printable(', '.join(profile.overrides))}"))
    console.print(_events(profile, sort, limit))
    console.print(_sites(profile, sort, limit))
    if profile.memory:
        console.print(_memory(profile, limit))
    if gains:
        console.print(_gains(profile, gains))
    for line in dropped_text(profile):
        console.print(Text(line))
