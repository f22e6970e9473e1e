"""The synchronous event channel of docs/channel.md as a state machine, and its exploration.

One execution group is modelled: the HRT (one virtual CPU and the program on it), two pollers, the
partner, and signals for the program. Every access to shared memory is a step of its own, and all
interleavings are visited. Stores go through store buffers as on x86: they reach memory in order,
but possibly after later loads. Loads see the CPU's own buffer first, and an atomic
read-modify-write or an exit of the virtual machine waits until the buffer is empty. HRT and partner
are one thread of Linux, so they have one buffer; each poller has another.

What must never happen raises Violation in the step that does it; what must be possible (progress)
is decided on the finished graph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

# Values of mv_slot.state and of the word `server`.
FREE, POSTED, ANSWERED, REFUSED = "FREE", "POSTED", "ANSWERED", "REFUSED"
NOBODY, POLLER, WAITED, PARTNER = "NOBODY", "POLLER", "POLLER+WAITED", "PARTNER"

# Kinds of calls that the program makes.
QUICK = "quick"  # a poller may answer it at once
BLOCKS = "blocks"  # waits for ever in a poller, unless that is interrupted
RIGHTS = "rights"  # asynchronous only: changes what the group may do (setuid, unshare)
FORK = "fork"  # asynchronous only: goes on in the parent, or in a child without any poller
LEAVE = "leave"  # asynchronous only: all pollers end, the program goes on natively

TURNS = 1  # of the HRT's waiting loop, beyond the first look

# What can go wrong.
TWICE = "a request is executed twice"
MIXED = "a request that the HRT has not made is executed"
RESULT = "the program gets another result than its call's"
NO_RIGHT = "a poller acts with rights that are not the group's"
TWO_ACTORS = "two parts of the ROS act for the group"
SIGNAL = "a signal meets a call that is neither to come nor complete"
LATE = "the program goes on although a signal waits"
OUTLIVES = "a poller outlives the program's leaving"
LOST_WAKE = "the partner sleeps and nobody will wake it"
STUCK = "the program cannot come to its end"
STARVED = "pollers can keep the group from the partner for ever"


class Violation(Exception):
    """A property does not hold; `trace` are the steps that lead there."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.trace: list[str] = []

    def __str__(self) -> str:
        return "\n  ".join([self.what, *self.trace])


class Poller(NamedTuple):
    """A service thread. What it has read is in registers; its stores may still be in `buffer`."""

    rights: int  # never change: a poller is made with the rights of its time
    at: str = "look"
    number: int = -1
    word: int = -1
    allowed: bool = False
    buffer: tuple[tuple[str, object], ...] = ()


class State(NamedTuple):
    """Everything that a step can depend on."""

    pollers: tuple[Poller, ...]
    executed: tuple[int, ...]  # how often each call has taken place
    signals: int  # still to come
    # The slot: the cache line between HRT and ROS.
    state: str = FREE
    number: int = -1
    word: int = -1  # first argument, then result
    # The HRT.
    at: str = "program"
    call: int = 0  # which call the program is at
    turns: int = 0
    register: int = -1
    buffer: tuple[tuple[str, object], ...] = ()  # the partner's stores, too
    # Memory of the ROS.
    server: str = NOBODY
    rights: int = 0  # of the group, by the number that pollers compare
    actual: int = 0  # what it really may do
    retiring: bool = False
    # The partner.
    partner: str = "guest"
    nothing: bool = False  # the virtual CPU has left without a reason
    signalled: bool = False
    interrupts: int = 0  # sent while waiting; only counted where the count matters


Step = tuple[str, State]

# Where an actor has the group.
POLLER_HOLDS = {"rights", "again", "copy", "blocked", "call", "result", "answer", "refuse", "go"}
PARTNER_HOLDS = {"inspect", "retire", "execute", "deliver", "release"}
PARTNER_WANTS = {"take", "futex", "asleep"}


def argument(call: int) -> int:
    return 10 + call


def result_of(call: int) -> int:
    return 20 + call


class Protocol:
    """The protocol, or with `mutation` one that lacks a part of it."""

    def __init__(
        self,
        calls: tuple[str, ...],
        *,
        rights: tuple[int, ...] = (0, 0),
        signals: int = 0,
        mutation: str = "",
    ) -> None:
        """One poller for each of `rights`; the group's are 0, and 1 after a RIGHTS call."""
        self.calls = calls
        self.mutation = mutation
        self.initial = State(
            pollers=tuple(Poller(rights=each) for each in rights),
            executed=(0,) * len(calls),
            signals=signals,
        )

    # ---- What is checked ------------------------------------------------------------------------

    def check(self, s: State) -> None:
        holders = sum(p.at in POLLER_HOLDS for p in s.pollers) + (s.partner in PARTNER_HOLDS)
        if holders > 1:
            raise Violation(TWO_ACTORS)
        woken = s.server == WAITED or any(p.at == "wake" for p in s.pollers)
        if s.partner == "asleep" and not woken:
            raise Violation(LOST_WAKE)
        if s.partner == "native" and any(p.at != "gone" for p in s.pollers):
            raise Violation(OUTLIVES)

    def execute(self, s: State, call: int, word: int) -> State:
        """The moment at which a call takes place, whoever makes it."""
        if 0 <= call < len(s.executed) and s.executed[call]:
            raise Violation(TWICE)
        if call != s.call or word != argument(call):
            raise Violation(MIXED)
        executed = s.executed[:call] + (1,) + s.executed[call + 1 :]
        return s._replace(executed=executed)

    def complete(self, s: State, value: int) -> State:
        """The program has its result and goes on behind its call."""
        if value != result_of(s.call) or not s.executed[s.call]:
            raise Violation(RESULT)
        return s._replace(at="program", call=s.call + 1, register=-1, turns=0)

    def finished(self, s: State) -> bool:
        if s.partner == "native" or s.call == len(self.calls):
            return s.partner in ("native", "guest") and not s.signalled
        # As natively: what the program waits for does not come.
        return any(p.at == "blocked" for p in s.pollers) and not s.signalled

    # ---- HRT: core/aerokernel/entry.S -----------------------------------------------------------

    def hrt(self, s: State) -> Iterator[Step]:
        if s.buffer:
            yield "CPU of the HRT: a store reaches memory", self.drain_one(s)
        if s.partner != "guest":
            return
        if s.signalled and self.mutation != "kick in the entry left alone":
            return
        if s.at == "program" and s.signalled:
            raise Violation(LATE)
        yield "HRT: leaves for nothing", self.leave_guest(s)._replace(nothing=True)
        if s.at == "program" and s.call < len(self.calls):
            kind = self.calls[s.call]
            if kind in (QUICK, BLOCKS):
                yield "HRT: SYSCALL, to be posted", s._replace(at="number")
            yield "HRT: SYSCALL, asynchronous", s._replace(at="ring")
        elif s.at == "number":
            yield "HRT: writes number", self.store(s, "number", s.call, "word")
        elif s.at == "word":
            yield "HRT: writes argument", self.store(s, "word", argument(s.call), "post")
        elif s.at == "post":
            yield "HRT: POSTED", self.store(s, "state", POSTED, "wait")._replace(turns=TURNS)
        elif s.at == "wait":
            state = next((v for name, v in reversed(s.buffer) if name == "state"), s.state)
            lies = self.mutation == "REFUSED taken for an answer"
            if state == ANSWERED or (state == REFUSED and lies):
                yield f"HRT: sees {state}", s._replace(at="take")
            elif state == REFUSED or s.turns == 0:
                yield f"HRT: gives up, {state}", s._replace(at="ring")
            else:
                yield "HRT: one turn", s._replace(turns=s.turns - 1)
        elif s.at == "take":
            yield "HRT: reads result", s._replace(at="free", register=s.word)
        elif s.at == "free":
            # With this instruction the call is complete, wherever the store still is.
            done = self.complete(s, s.register)._replace(at="return")
            if self.mutation == "HRT does not write FREE":
                yield "HRT: is done", done
            else:
                yield "HRT: writes FREE", self.store(done, "state", FREE, "return")
        elif s.at == "return":
            yield "HRT: goes on behind the call", s._replace(at="program")
        elif s.at == "ring":
            yield "HRT: doorbell", self.leave_guest(s)

    def store(self, s: State, name: str, value: object, at: str) -> State:
        return s._replace(buffer=(*s.buffer, (name, value)), at=at)

    def drain_one(self, s: State) -> State:
        return s._replace(buffer=s.buffer[1:], **{s.buffer[0][0]: s.buffer[0][1]})  # type: ignore

    def leave_guest(self, s: State) -> State:
        """A VM exit: what the partner then reads, its own CPU has written."""
        while s.buffer and self.mutation != "an exit leaves stores behind":
            s = self.drain_one(s)
        return s._replace(partner="take")

    # ---- Signals for the program ----------------------------------------------------------------

    def signal(self, s: State) -> Iterator[Step]:
        if s.signals and not s.signalled and s.partner != "native":
            arrived = s._replace(signals=s.signals - 1, signalled=True)
            kicked = s.partner == "guest"
            if self.mutation == "kick in the entry left alone" and s.at != "program":
                kicked = False  # expecting a doorbell that need not come
            yield "signal", self.leave_guest(arrived) if kicked else arrived

    # ---- Poller: core/ros/poller.c --------------------------------------------------------------

    def poller(self, s: State, i: int) -> Iterator[Step]:
        p = s.pollers[i]
        broken = self.mutation

        def go(at: str, **changes: object) -> State:
            pollers = list(s.pollers)
            pollers[i] = p._replace(at=at, **changes)  # type: ignore[arg-type]
            return s._replace(pollers=tuple(pollers))

        def store(name: str, value: object, at: str) -> State:
            return go(at, buffer=(*p.buffer, (name, value)))

        def say(what: str) -> str:
            return f"poller {i}: {what}"

        if p.buffer:
            order = range(len(p.buffer)) if broken == "stores out of order" else range(1)
            for n in order:
                name, value = p.buffer[n]
                rest = p.buffer[:n] + p.buffer[n + 1 :]
                written = go(p.at, buffer=rest)._replace(**{name: value})  # type: ignore[arg-type]
                yield say("a store reaches memory"), written

        if p.at == "look":
            if s.retiring:
                yield say("ends"), go("gone")
            elif s.state == POSTED:
                if p.rights == s.rights:
                    yield say("sees POSTED"), go("grab", allowed=True)
                elif broken == "rights looked at after taking only":
                    yield say("sees POSTED"), go("grab")
        elif p.at == "grab":
            if s.server == NOBODY or broken == "poller takes without asking":
                yield say("takes the group"), go("rights")._replace(server=POLLER)
            else:
                yield say("finds the group taken"), go("look", allowed=False)
        elif p.at == "rights":
            old = broken == "rights looked at before taking only"
            allowed = p.allowed if old else p.rights == s.rights
            yield say("looks at the rights"), go("again", allowed=allowed)
        elif p.at == "again":
            if s.state != POSTED and broken != "state not looked at again":
                yield say("not POSTED any more"), go("go")
            elif not p.allowed:
                yield say("has no right to"), go("go")
            else:
                yield say("still POSTED"), go("copy")
                yield say("cannot make this call"), go("refuse")
        elif p.at == "copy":
            for at in self.ways_of_call(s):
                yield say(f"copies the request ({at})"), go(at, number=s.number, word=s.word)
        elif p.at == "call":
            if p.rights != s.actual:
                raise Violation(NO_RIGHT)
            s = self.execute(s, p.number, p.word)
            first = "answer" if broken == "result after state" else "result"
            if broken == "group let go before the answer":
                first = "go"
            yield say("makes the call"), go(first)
        elif p.at == "result":
            after = "go" if broken == "result after state" else "answer"
            yield say("writes the result"), store("word", result_of(p.number), after)
        elif p.at == "answer":
            after = "result" if broken == "result after state" else "go"
            yield say("ANSWERED"), store("state", ANSWERED, after)
        elif p.at == "refuse":
            yield say("REFUSED"), store("state", REFUSED, "go")
        elif p.at == "go":
            if not p.buffer or broken == "stores out of order":
                wake = s.server == WAITED and broken != "wake-up forgotten"
                after = "wake" if wake else "idle"
                if after == "idle" and broken == "group let go before the answer":
                    after = "late"
                yield say("lets the group go"), go(after)._replace(server=NOBODY)
        elif p.at == "wake":
            woken = s.partner == "asleep"
            after = "late" if broken == "group let go before the answer" else "idle"
            yield (
                say("wakes the partner"),
                go(after)._replace(partner="take" if woken else s.partner),
            )
        elif p.at == "late" and p.number >= 0:
            late = go("idle")._replace(state=ANSWERED, word=result_of(p.number))
            yield say("answers late"), late
        elif p.at in ("idle", "late"):
            yield say("forgets the request"), go("look", number=-1, word=-1, allowed=False)
        # "blocked" ends by an interruption only: see partner().

    def ways_of_call(self, s: State) -> tuple[str, ...]:
        return ("blocked",) if self.calls[s.number] == BLOCKS else ("call",)

    def interrupt(self, s: State, i: int) -> State:
        """The signal that ends a poller's system call. A poller elsewhere takes no notice of it."""
        p = s.pollers[i]
        if p.at == "blocked":
            lies = self.mutation == "interrupted call answered"
            p = p._replace(at="result" if lies else "refuse")
        return s._replace(pollers=s.pollers[:i] + (p,) + s.pollers[i + 1 :])

    # ---- Partner: core/ros/channel.c, core/ros/loop.c -------------------------------------------

    def partner(self, s: State) -> Iterator[Step]:
        broken = self.mutation
        if s.partner == "guest":
            if s.signalled and broken != "kick in the entry left alone":
                yield "partner: KVM_RUN returns at once", self.leave_guest(s)
        elif s.partner == "take":
            if s.buffer and broken != "an exit leaves stores behind":
                pass  # an atomic access waits until they have reached memory
            elif s.server == NOBODY or broken == "partner takes without asking":
                yield "partner: takes the group", s._replace(partner="inspect", server=PARTNER)
            elif broken == "no word to the poller":
                yield "partner: will sleep", s._replace(partner="futex")
            else:
                yield "partner: will sleep", s._replace(partner="futex", server=WAITED)
        elif s.partner == "futex":
            # Comparing and falling asleep is one step: futex(2).
            careless = broken in ("sleeps without comparing", "no word to the poller")
            if s.server == WAITED or careless:
                yield "partner: sleeps", s._replace(partner="asleep", interrupts=0)
            else:
                yield "partner: need not sleep", s._replace(partner="take")
        elif s.partner == "asleep":
            yield from self.interruptions(s)
        elif s.partner == "inspect":
            yield from self.inspect(s)
        elif s.partner == "retire":
            if all(p.at == "gone" for p in s.pollers) or broken == "leaves with pollers":
                native = s._replace(executed=(1,) * len(self.calls), call=len(self.calls))
                native = native._replace(at="program", partner="native", signalled=False)
                yield "partner: the program goes on natively", native
        elif s.partner == "execute":
            yield from self.partner_executes(s)
        elif s.partner == "deliver":
            yield from self.deliver(s)
        elif s.partner == "release":
            # A plain store: as long as the partner has the group, nobody else writes the word.
            released = s._replace(partner="guest", buffer=(*s.buffer, ("server", NOBODY)))
            yield "partner: lets the group go", released

    def interruptions(self, s: State) -> Iterator[Step]:
        """With a signal to deliver, the partner interrupts the poller, again and again."""
        once = self.mutation == "interrupts once"
        if not s.signalled or self.mutation == "no interruption" or (once and s.interrupts):
            return
        for i in range(len(s.pollers)):
            if s.pollers[i].at in POLLER_HOLDS:
                interrupted = self.interrupt(s, i)._replace(interrupts=int(once))
                yield f"partner: interrupts poller {i}", interrupted

    def inspect(self, s: State) -> Iterator[Step]:
        """What has become of the request? The virtual CPU's place tells whether there is one.

        If there is one, the slot is freed as soon as its state has been read.
        """
        broken = self.mutation
        if s.nothing and not s.signalled:
            if broken == "an exit for nothing frees the slot":
                s = self.free(s)
            yield "partner: nothing to do", s._replace(partner="release", nothing=False)
            return
        s = s._replace(nothing=False)
        if s.at == "return" and broken == "return taken for a request":
            s = s._replace(at="wait", call=s.call - 1)
        if s.at in ("program", "return"):
            yield "partner: no request", s._replace(partner="deliver", at="program")
            return
        state, s = s.state, self.free(s)
        if state == ANSWERED and broken != "ANSWERED not looked at":
            done = self.complete(s, s.word)
            if broken == "an answered call is begun again" and s.signalled:
                done = s._replace(at="program")
            yield "partner: hands the result out", done._replace(partner="deliver")
        elif s.signalled and broken != "signal after a call not begun":
            yield "partner: the call has not begun", s._replace(partner="deliver", at="program")
        elif s.signalled:
            skipped = s._replace(partner="deliver", at="program", call=s.call + 1)
            yield "partner: drops the call", skipped
        elif self.calls[s.call] == LEAVE:
            yield "partner: ends the pollers", s._replace(partner="retire", retiring=True)
        else:
            yield "partner: will make the call", s._replace(partner="execute")

    def free(self, s: State) -> State:
        if self.mutation == "partner does not write FREE":
            return s
        return s._replace(buffer=(*s.buffer, ("state", FREE)))

    def partner_executes(self, s: State) -> Iterator[Step]:
        kind = self.calls[s.call]
        s = self.complete(self.execute(s, s.call, argument(s.call)), result_of(s.call))
        s = s._replace(partner="deliver")
        if kind == RIGHTS:
            same = self.mutation == "rights keep their number"
            s = s._replace(actual=1, rights=s.rights if same else 1)
        yield "partner: makes the call", s
        if kind == FORK:
            pollers = tuple(Poller(rights=p.rights) for p in s.pollers)
            yield "partner: goes on in the child, with new pollers", s._replace(pollers=pollers)

    def deliver(self, s: State) -> Iterator[Step]:
        if s.signalled:
            count = len(self.calls)
            if s.executed != (1,) * s.call + (0,) * (count - s.call) or s.at != "program":
                raise Violation(SIGNAL)
            yield "partner: delivers the signal", s._replace(partner="release", signalled=False)
        else:
            yield "partner: no signal", s._replace(partner="release")

    def steps(self, s: State) -> Iterator[Step]:
        yield from self.hrt(s)
        yield from self.signal(s)
        for i in range(len(s.pollers)):
            yield from self.poller(s, i)
        yield from self.partner(s)


class Hostile(Protocol):
    """An HRT that rings when it likes and whose other threads write any state at any time."""

    def __init__(self, *, mutation: str = "") -> None:
        super().__init__((QUICK,), rights=(0, 1), signals=1, mutation=mutation)

    def hrt(self, s: State) -> Iterator[Step]:
        if s.buffer:
            yield "CPU of the HRT: a store reaches memory", self.drain_one(s)
        for state in (FREE, POSTED, ANSWERED, REFUSED):
            if state != s.state:
                yield f"HRT: writes {state}", s._replace(state=state)
        if s.partner == "guest":
            yield "HRT: doorbell", s._replace(partner="take")

    def ways_of_call(self, s: State) -> tuple[str, ...]:
        return "call", "blocked"

    def execute(self, s: State, call: int, word: int) -> State:
        return s  # its own calls are its own affair; the rights have been looked at

    def inspect(self, s: State) -> Iterator[Step]:
        state, s = s.state, self.free(s)
        if state == ANSWERED:
            yield "partner: hands a result out", s._replace(partner="deliver")
        else:
            yield "partner: will make a call", s._replace(partner="execute")
            yield "partner: ends the pollers", s._replace(partner="retire", retiring=True)

    def partner_executes(self, s: State) -> Iterator[Step]:
        done = s._replace(partner="deliver")
        yield "partner: makes the call", done
        other = done._replace(rights=1 - s.rights, actual=1 - s.rights)
        yield "partner: changes the rights", other

    def signal(self, s: State) -> Iterator[Step]:
        for _, state in super().signal(s):
            yield "signal", state._replace(signals=1)  # any number of them

    def deliver(self, s: State) -> Iterator[Step]:
        yield "partner: delivers what there is", s._replace(partner="release", signalled=False)

    def finished(self, s: State) -> bool:
        waits = any(p.at == "blocked" for p in s.pollers)
        return s.partner == "native" or (s.partner == "guest" and not s.buffer and not waits)


class Graph(NamedTuple):
    """All reachable states, by number, with the steps between them."""

    states: list[State]
    before: list[list[int]]  # predecessors
    after: list[list[int]]
    reached_by: list[tuple[int, str]]  # the first way to a state

    def trace(self, number: int) -> list[str]:
        steps = []
        while number:
            number, label = self.reached_by[number]
            steps.append(label)
        return steps[::-1]


def explore(protocol: Protocol) -> Graph:
    """Visit every state. Raises Violation with the shortest trace."""
    numbers = {protocol.initial: 0}
    graph = Graph([protocol.initial], [[]], [[]], [(0, "")])
    todo = deque([0])
    while todo:
        number = todo.popleft()
        label = ""
        try:
            for label, state in protocol.steps(graph.states[number]):
                known = numbers.get(state)
                if known is None:
                    known = numbers[state] = len(graph.states)
                    graph.states.append(state)
                    graph.before.append([])
                    graph.after.append([])
                    graph.reached_by.append((number, label))
                    protocol.check(state)
                    todo.append(known)
                graph.before[known].append(number)
                graph.after[number].append(known)
        except Violation as violation:
            violation.trace = [*graph.trace(number), f"then, after or instead of: {label}"]
            raise
    return graph


def check_progress(protocol: Protocol, graph: Graph) -> None:
    """From every state the end can be reached."""
    todo = [n for n, state in enumerate(graph.states) if protocol.finished(state)]
    live = bytearray(len(graph.states))
    for number in todo:
        live[number] = 1
    while todo:
        for number in graph.before[todo.pop()]:
            if not live[number]:
                live[number] = 1
                todo.append(number)
    if not all(live):
        violation = Violation(STUCK)
        violation.trace = graph.trace(live.index(0))
        raise violation


def check_waiting(graph: Graph) -> None:
    """While the partner wants the group, pollers do not take it again and again."""
    waiting = [s.partner in PARTNER_WANTS for s in graph.states]
    component = components(graph, waiting)
    for number, state in enumerate(graph.states):
        if waiting[number] and state.server == NOBODY:
            for other in graph.after[number]:
                taken = graph.states[other].server == POLLER
                if taken and waiting[other] and component[number] == component[other]:
                    violation = Violation(STARVED)
                    violation.trace = graph.trace(number)
                    raise violation


def components(graph: Graph, among: list[bool]) -> list[int]:
    """Strongly connected components of the states in `among`: a number for each state."""
    order: list[int] = []
    seen = bytearray(len(among))
    for root in range(len(among)):
        if not among[root] or seen[root]:
            continue
        seen[root] = 1
        path = [(root, iter(graph.after[root]))]
        while path:
            number, rest = path[-1]
            for other in rest:
                if among[other] and not seen[other]:
                    seen[other] = 1
                    path.append((other, iter(graph.after[other])))
                    break
            else:
                order.append(path.pop()[0])
    found = [-1] * len(among)
    for root in reversed(order):
        todo = [root]
        while todo:
            number = todo.pop()
            if found[number] < 0:
                found[number] = root
                todo += [n for n in graph.before[number] if among[n] and found[n] < 0]
    return found


def verify(protocol: Protocol) -> int:
    """Check everything; returns the number of states visited."""
    graph = explore(protocol)
    check_progress(protocol, graph)
    if not isinstance(protocol, Hostile):  # such an HRT can keep its own partner busy
        check_waiting(graph)
    return len(graph.states)
