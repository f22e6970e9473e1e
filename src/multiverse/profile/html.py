"""A profile as one self-contained page."""

from __future__ import annotations

from typing import Any

import jinja2
from markupsafe import Markup

from multiverse import __version__
from multiverse.crash.raw import printable
from multiverse.profile.gains import LOCAL_CYCLES, Gain
from multiverse.profile.model import Cost, Profile
from multiverse.profile.text import dropped_text, percent, site_text, status_text

SITES_MAX = 1000
GROUPS_MAX = 40

#: The paper's words (Hale, Hetland, Dinda, HPDC 2016), explained where they are used.
WORDS = {
    "ROS": "The regular operating system: Linux, and the program's Linux process.",
    "HRT": "The hybrid runtime: the program, running in a virtual machine of its own process.",
    "AeroKernel": "The small kernel under the HRT. What it answers by itself never leaves the HRT.",
    "event channel": "How the HRT asks the ROS. Asynchronous: the virtual CPU leaves the virtual"
    " machine (an exit) and its partner answers. Synchronous: a poller on another core answers"
    " through memory, and the virtual CPU never leaves.",
    "legacy event": "A system call, page fault or exception of the HRT that the ROS handles.",
    "partner": "The Linux thread that belongs to a thread of the HRT and acts for it on the ROS"
    " side.",
    "execution group": "A partner and its HRT thread: what the program believes to be one thread.",
    "poller": "A service thread of the ROS that answers the synchronous channels of groups.",
    "override": "A function in the AeroKernel that takes over a system call or a function.",
}


def _row(profile: Profile, cost: Cost) -> dict[str, Any]:
    """The cells of a line: values to sort by."""
    ms = profile.milliseconds
    return {
        "count": cost.count,
        "sync": cost.sync / cost.count if cost.count else 0.0,
        "ms": ms(cost.cycles),
        "share": profile.share(cost.cycles),
        "channel": ms(cost.channel),
        "linux": ms(cost.linux),
        "blocked": ms(cost.blocked),
        "each": cost.cycles // max(cost.count, 1),
    }


def _parts(profile: Profile) -> list[dict[str, Any]]:
    """What the threads' time consists of."""
    total = profile.total
    rest = max(0, profile.lifetime - total.cycles - total.blocked)
    parts = (
        ("hrt", "in the HRT", rest),
        ("channel", "on the event channel", total.channel),
        ("linux", "in Linux", total.linux),
        ("waiting", "waiting in calls", total.blocked),
    )
    whole = sum(cycles for _, _, cycles in parts) or 1
    return [
        {"key": key, "name": name, "ms": profile.milliseconds(cycles), "share": cycles / whole}
        for key, name, cycles in parts
    ]


def _groups(profile: Profile) -> list[dict[str, Any]]:
    """Timelines, those of the longest-lived threads if there are too many."""
    groups = sorted(profile.groups, key=lambda g: g.begin - g.end)[:GROUPS_MAX]
    groups.sort(key=lambda group: group.begin)
    scale = 1e6 / profile.tsc_hz
    found = []
    for group in groups:
        known = 0 <= group.process < len(profile.processes)
        path = profile.processes[group.process].path if known else ""
        found.append(
            {
                "name": printable(path.rpartition("/")[2]),
                "pid": group.pid,
                "tid": group.tid,
                "begin": round(group.begin * scale, 1),
                "end": round(group.end * scale, 1),
                "lane": [
                    [round(begin * scale, 1), round(end * scale, 1), name, count,
                     round(busy * scale, 2)]
                    for begin, end, name, count, busy in group.lane
                ],
            }
        )  # fmt: skip
    return found


def _data(profile: Profile) -> dict[str, Any]:
    """What the scripts draw."""
    stacks = []
    for site in profile.sites:
        left = site.cost.cycles
        for stack in site.stacks:
            stacks.append([site.event, site.kind, stack.frames, profile.milliseconds(stack.cycles)])
            left -= stack.cycles
        if left > 0 and not site.stacks:
            stacks.append([site.event, site.kind, [site.frame], profile.milliseconds(left)])
    frames = [[printable(f.name), printable(f.module), f.kind, f.found] for f in profile.frames]
    return {
        "frames": frames,
        "stacks": stacks,
        "names": profile.names,
        "groups": _groups(profile),
    }


def render(profile: Profile, gains: list[Gain]) -> str:
    """The page: HTML with everything that it needs in it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("multiverse.profile"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = percent

    def asset(name: str) -> Markup:
        return Markup(environment.loader.get_source(environment, name)[0])  # type: ignore[union-attr]

    total = profile.total
    return environment.get_template("report.html.j2").render(
        asset=asset,
        version=__version__,
        words=WORDS,
        profile=profile,
        program=printable(" ".join(profile.program)),
        status=status_text(profile.status),
        total=_row(profile, total),
        lifetime=profile.milliseconds(profile.lifetime),
        parts=_parts(profile),
        events=[
            {"name": name, "kind": kind, **_row(profile, cost)}
            for (kind, name), cost in profile.events().items()
        ],
        sites=[
            {"name": s.event, "place": site_text(profile, s), **_row(profile, s.cost)}
            for s in profile.sites[:SITES_MAX]
        ],
        memory=[
            {
                "name": m.event,
                "memory": printable(m.memory),
                "count": m.count,
                "ms": profile.milliseconds(m.cycles),
            }
            for m in profile.memory
        ],
        gains=[
            {
                "name": gain.name,
                "count": gain.events,
                "ms": profile.milliseconds(gain.cycles),
                "share": profile.share(gain.cycles),
                "calls": ", ".join(gain.calls),
            }
            for gain in gains
        ],
        local_cycles=LOCAL_CYCLES,
        groups_left_out=max(0, len(profile.groups) - GROUPS_MAX),
        notes=dropped_text(profile),
        data=_data(profile),
    )
