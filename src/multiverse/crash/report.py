"""From a raw report to everything that can be said about it; to_json() is its form for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multiverse import __version__
from multiverse.crash.raw import CONTROL, SEGMENTS, Event, Raw
from multiverse.crash.symbols import Place, Symbolizer
from multiverse.syscalls import NAMES

FORMAT = 1
SCAN_MAX = 64
VECTORS = {
    0: "#DE divide error",
    1: "#DB debug exception",
    2: "NMI",
    3: "#BP breakpoint",
    4: "#OF overflow",
    5: "#BR bound range",
    6: "#UD invalid opcode",
    7: "#NM device not available",
    8: "#DF double fault",
    10: "#TS invalid TSS",
    11: "#NP segment not present",
    12: "#SS stack fault",
    13: "#GP general protection",
    14: "#PF page fault",
    16: "#MF x87 error",
    17: "#AC alignment check",
    18: "#MC machine check",
    19: "#XM SIMD error",
    21: "#CP control protection",
}
EXITS = {
    0: "unknown", 1: "exception", 2: "I/O", 4: "debug", 5: "HLT", 6: "MMIO", 8: "shutdown",
    9: "failed entry", 10: "interrupted", 17: "internal error", 24: "system event",
    29: "RDMSR", 30: "WRMSR", 37: "notify",
}  # fmt: skip
EXIT_MMIO, EXIT_SHUTDOWN, EXIT_INTERNAL_ERROR = 6, 8, 17
SUBERRORS = {
    1: "emulation failed",
    2: "two exceptions at a time",
    3: "exit while an exception was delivered",
    4: "unexpected exit reason",
}


def vector_name(vector: int) -> str:
    return VECTORS.get(vector, f"vector {vector}")


def exit_name(reason: int) -> str:
    return EXITS.get(reason, "other")


@dataclass(frozen=True, slots=True)
class Step:
    """A line of a backtrace. how: rip, exception, frame, trap, fp, call, scan, scan-unverified."""

    address: int
    how: str
    place: Place | None


def _caller_on_top(raw: Raw, symbols: Symbolizer) -> int | None:
    """Who called what is no code: a call that went wrong leaves its return address on top."""
    if len(raw.context) != 3 or symbols.is_code(raw.context[0]):
        return None
    word = _word(raw.stack, raw.context[1])
    if word is None or not symbols.is_code(word) or symbols.follows_call(word) is False:
        return None
    return word


def _word(memory: dict[int, int], address: int) -> int | None:
    data = [memory.get(address + i) for i in range(8)]
    return None if None in data else int.from_bytes([b or 0 for b in data], "little")


def backtrace(raw: Raw, symbols: Symbolizer) -> list[Step]:
    """Where the thread was: the processor's and the AeroKernel's word, then frame pointers."""
    steps: list[Step] = []
    for how, address in raw.trace:
        if how == "fp":
            break
        steps.append(Step(address, how, symbols.place(address)))
    if not steps and (rip := raw.number.get("core.rip")):
        steps.append(Step(rip, "rip", symbols.place(rip)))
    top = _caller_on_top(raw, symbols)
    if top is not None:
        steps.append(Step(top, "call", symbols.place(top, is_return=True)))
    fault = False  # the next one is not behind a call, but of an instruction that faulted
    for how, address in raw.trace:
        if how != "fp":
            continue
        in_kernel = symbols.begins_handler(address)
        if not in_kernel and not symbols.is_code(address):
            break
        if address != top:
            steps.append(Step(address, how, symbols.place(address, is_return=not fault)))
        fault = in_kernel
    return steps


def stack_scan(raw: Raw, symbols: Symbolizer, known: set[int]) -> list[Step]:
    """Words of the stack that a call may have left there, but those known already."""
    steps: list[Step] = []
    for at in sorted(raw.stack):
        if at % 8 or len(steps) == SCAN_MAX:
            continue
        word = _word(raw.stack, at)
        if word is None or word in known or not symbols.is_code(word - 1):
            continue
        known.add(word)
        called = symbols.follows_call(word)
        if called is False:
            continue
        how = "scan" if called else "scan-unverified"
        steps.append(Step(word, how, symbols.place(word, is_return=True)))
    return steps


def core_scan(raw: Raw, symbols: Symbolizer) -> list[Step]:
    """The same for the core's own stack."""
    words = (_word(raw.core_stack, at) for at in sorted(raw.core_stack) if at % 8 == 0)
    places = ((word, symbols.place(word, is_return=True)) for word in words if word is not None)
    return [
        Step(word, "scan-unverified", place)
        for word, place in places
        if place and place.module == "multiverse-core" and place.symbol
    ]


def event_text(event: Event) -> str:
    """What happened, in one line."""
    a = [*event.a, 0, 0, 0, 0]
    match event.kind:
        case "syscall" | "sync":
            name = NAMES.get(event.nr, f"call {event.nr}")
            way = ", by a poller" if event.kind == "sync" else ""
            arguments = ", ".join(f"{value:#x}" for value in a[:4])
            return f"{name}({arguments}) = {event.result}{way}"
        case "exception":
            address = f", CR2 {a[2]:#x}" if event.nr == 14 else ""
            return f"exception {vector_name(event.nr)}, error {a[0]:#x}, RIP {a[1]:#x}{address}"
        case "fault":
            return f"access that Linux refused, RIP {a[1]:#x}"
        case "kick":
            return f"signal arrived, RIP {a[1]:#x}"
        case "merge":
            return f"merged {a[0]:#x}, {a[1] >> 20} MiB"
        case "replication":
            ended = f"signal {event.result}" if event.result else "completed"
            return f"instruction executed by Linux: {ended}, RIP {a[1]:#x}"
        case "signal":
            return f"handler {a[0]:#x} of signal {event.nr} entered, RIP {a[1]:#x}"
        case "group_start":
            return "thread began"
        case _:
            return event.kind


def notes(raw: Raw) -> list[str]:
    """What is remarkable about the state."""
    found = []
    number = raw.number
    if not raw.complete:
        found.append("the report is not whole: taking it down met a fault or its time limit")
    if "core.rip" in number:
        found.append(f"signal {number.get('core.signal', 0)} in the core, at address "
                     f"{number.get('core.address', 0):#x}")  # fmt: skip
        return found
    if not number.get("usable"):
        found.append("KVM has reset the virtual CPU: its registers are lost, saved ones are shown")
        return found
    for key, words in (
        ("cr3", "CR3 does not point to the AeroKernel's page tables"),
        ("gdt", "GDTR does not point to the AeroKernel's GDT"),
        ("idt", "IDTR does not point to the AeroKernel's IDT"),
    ):
        actual = number.get(key if key == "cr3" else f"{key}.base", 0)
        expected = number.get(f"expected.{key}", 0)
        if (actual & ~0xFFF if key == "cr3" else actual) != expected:
            found.append(f"{words} ({expected:#x}) but to {actual:#x}")
    return found


class Report:
    """A raw report with names for its addresses."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.symbols = Symbolizer(raw)
        self.backtrace = backtrace(raw, self.symbols)
        self.scan = stack_scan(raw, self.symbols, {step.address for step in self.backtrace})
        self.core_scan = core_scan(raw, self.symbols)
        self.notes = notes(raw)

    @property
    def usable(self) -> bool:
        """The virtual CPU's registers are those of the crash."""
        return bool(self.raw.number.get("usable"))

    @property
    def rip(self) -> int:
        """Where it happened."""
        if len(self.raw.exception) > 2:
            return self.raw.exception[2]
        return self.raw.number.get("core.rip") or self.raw.number.get("rip", 0)

    def to_json(self) -> dict[str, Any]:
        """Plain values. Addresses and registers are hexadecimal strings: they exceed 2**53."""
        raw, number = self.raw, self.raw.number
        reason: dict[str, Any] = {
            "what": raw.text.get("what", ""),
            "detail": number.get("detail", 0),
            "rip": hex(self.rip),
            "cr2": hex(number.get("cr2", 0)),
            "exit": number.get("exit.reason"),
            "exit_name": exit_name(number.get("exit.reason", 0)),
            "suberror": number.get("exit.suberror", 0),
            "words": [hex(word) for word in raw.words],
            "exception": None,
            "notes": self.notes,
        }
        if len(raw.exception) == 5:
            vector, error, rip, rsp, rflags = raw.exception
            reason["exception"] = {
                "vector": vector,
                "name": vector_name(vector),
                "error_code": error,
                **{k: hex(v) for k, v in (("rip", rip), ("rsp", rsp), ("rflags", rflags))},
            }
        return {
            "format": FORMAT,
            "version": __version__,
            "complete": raw.complete,
            "reason": reason,
            "program": raw.text.get("program", ""),
            "arguments": raw.arguments,
            **{key: number.get(key, 0) for key in ("pid", "tid", "time", "ring", "vcpu", "tsc")},
            "registers_valid": self.usable,
            "registers": {k: hex(v) for k, v in raw.registers().items()},
            "saved_registers": {k: hex(v) for k, v in raw.registers("frame.").items()},
            "control": {k: hex(number.get(k, 0)) for k in CONTROL},
            "segments": {
                name: {"selector": s.selector, "base": hex(s.base), "limit": hex(s.limit)}
                for name in SEGMENTS
                if (s := raw.segments.get(name))
            },
            "gdt": hex(number.get("gdt.base", 0)),
            "idt": hex(number.get("idt.base", 0)),
            "code": _blocks(raw.code),
            "backtrace": [_step(step) for step in self.backtrace],
            "stack_scan": [_step(step) for step in self.scan],
            "core_stack_scan": [_step(step) for step in self.core_scan],
            "threads": [
                {
                    "tid": t.tid,
                    "vcpu": t.vcpu,
                    "stopped": t.rip is not None,
                    "rip": None if t.rip is None else hex(t.rip),
                    "rsp": None if t.rsp is None else hex(t.rsp),
                    "place": _place(None if t.rip is None else self.symbols.place(t.rip)),
                    "called_from": _place(self.symbols.place(t.frame_rip)),
                }
                for t in raw.threads
            ],
            "events": [
                {
                    "begin": e.begin,
                    "kind": e.kind,
                    "nr": e.nr,
                    "result": e.result,
                    "a": [hex(value) for value in e.a],
                    "text": event_text(e),
                }
                for e in raw.events
            ],
            "stack": _blocks(raw.stack),
            "mappings": [
                {
                    "start": hex(m.start),
                    "end": hex(m.end),
                    "permissions": m.permissions,
                    "offset": m.offset,
                    "path": m.path,
                }
                for m in raw.mappings
            ],
        }


def _place(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    return {
        "module": place.module,
        "symbol": place.symbol,
        "name": place.name,
        "offset": place.offset,
    }


def _step(step: Step) -> dict[str, Any]:
    return {"address": hex(step.address), "how": step.how, "place": _place(step.place)}


def _blocks(memory: dict[int, int]) -> list[dict[str, str]]:
    """Bytes by address as runs of them."""
    blocks: list[tuple[int, bytearray]] = []
    for address, byte in sorted(memory.items()):
        if not blocks or address != blocks[-1][0] + len(blocks[-1][1]):
            blocks.append((address, bytearray()))
        blocks[-1][1].append(byte)
    return [{"address": hex(address), "bytes": data.hex()} for address, data in blocks]
