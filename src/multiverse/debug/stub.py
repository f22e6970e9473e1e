"""gdb's remote protocol: what each packet means."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from multiverse.debug.packets import INTERRUPT, PACKET_MAX, ConnectionLost, Packets, unescape
from multiverse.debug.packets import escape as escaped
from multiverse.debug.process import Command, Process, Reason
from multiverse.debug.registers import Layout, rip_of
from multiverse.debug.signals import from_gdb, to_gdb

_OK, _ERROR, _UNSUPPORTED = b"OK", b"E01", b""
_EXPEDITED = ("rbp", "rsp", "rip")
_FINISH_S = 5.0  # for gdb to take the last packet and go
_POLL_S = 0.2  # how often to look whether something has been missed
_ALL = -1


class Closed(Exception):
    """The session with gdb has come to its end."""


@dataclass
class Action:
    """What a vCont packet wants of a thread."""

    command: Command
    deliver: int = 0  # signal, Linux's number
    low: int = 0  # step on while RIP is in [low, high)
    high: int = 0


class _Answered(Exception):
    """A packet's answer has been sent already."""


class Session:
    """One gdb, from its connection to its end."""

    def __init__(self, process: Process, connection: socket.socket) -> None:
        self.process = process
        self.packets = Packets(connection)
        self.layout = Layout(int(process.data.xcr0))
        self.multiprocess = False
        self.current = 0  # thread of g, p and their kin
        self.reported: set[int] = set()  # threads whose reason gdb has been told
        self.told_of_leaving = False
        self.stop = b""  # the last stop's packet
        self.running: dict[int, Action] = {}
        # Linux's numbers of what the program gets if gdb leaves it there.
        self.passed_at_end = set(range(1, 65)) - {signal.SIGINT, signal.SIGTRAP}
        self.commands: dict[bytes, Callable[[bytes], bytes]] = {
            b"!": lambda _: _UNSUPPORTED,
            b"?": lambda _: self.stop,
            b"g": self._read_registers,
            b"G": self._write_registers,
            b"p": self._read_register,
            b"P": self._write_register,
            b"m": self._read_memory,
            b"M": self._write_memory,
            b"X": self._write_binary,
            b"H": self._select,
            b"T": lambda text: _OK if self._slot(text) is not None else _ERROR,
            b"q": self._query,
            b"Q": self._set,
            b"v": self._v,
            b"Z": self._insert,
            b"z": self._remove,
            b"D": self._detach,
            b"k": self._kill,
            b"c": lambda text: self._go_on(text, Command.CONTINUE),
            b"s": lambda text: self._go_on(text, Command.STEP),
            b"C": lambda text: self._go_on(text, Command.CONTINUE, signalled=True),
            b"S": lambda text: self._go_on(text, Command.STEP, signalled=True),
        }

    # ---- Running -------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer until gdb detaches, goes away or the program ends; then the program goes on."""
        process = self.process
        first = self._first_packet()
        if first is None:
            return
        process.data.passed = 0
        process.data.attached = 1
        process.stop_all()
        slots = process.slots()
        self.current = int(slots[0].tid) if slots else 0
        self.stop = self._stop_packet(signal.SIGTRAP, self.current)
        for slot in slots:
            if slot.reason != Reason.SIGNAL:
                self.reported.add(int(slot.tid))
        try:
            packet: bytes | None = first
            while True:
                if packet is None:
                    self.packets.receive()
                elif packet != INTERRUPT:
                    self._answer(packet)
                packet = self.packets.next()
        except Closed:
            self._let_go()
            self.packets.finish(_FINISH_S)
        except ConnectionLost:
            pass
        finally:
            self._let_go()

    def _first_packet(self) -> bytes | None:
        """What gdb begins with. None if it is no gdb, and goes, or if the program ends."""
        try:
            while (packet := self.packets.next()) is None and not self.process.over:
                self._wait_for_something()
        except ConnectionLost:
            return None
        return packet

    def _let_go(self) -> None:
        process = self.process
        if process.over or not process.data.attached:
            return
        process.stop_all()  # so that nobody executes what is being changed
        process.remove_all()
        process.data.attached = 0
        for slot in process.slots():
            if process.is_parked(slot):
                deliver = int(slot.signal) if slot.reason == Reason.SIGNAL else 0
                if int(slot.tid) in self.reported and deliver not in self.passed_at_end:
                    deliver = 0
                process.resume(slot, Command.CONTINUE, deliver)
        process.data.stopping = 0

    def _answer(self, packet: bytes) -> None:
        command = self.commands.get(packet[:1])
        try:
            answer = command(packet[1:]) if command else _UNSUPPORTED
        except (ValueError, IndexError):
            answer = _ERROR  # not as the protocol has it
        except _Answered:
            return
        self.packets.send(answer)

    def _resume(self, wanted: Callable[[Any], Action | None]) -> bytes:
        """Let threads go on, each as `wanted` says, until one has something to tell."""
        process = self.process
        slots = [slot for slot in process.slots() if process.is_parked(slot)]
        actions = {int(slot.tid): wanted(slot) for slot in slots}
        for slot in slots:
            if slot.reason == Reason.SIGNAL and actions[slot.tid] and self._is_news(slot):
                return self._report(slot)
        self.running = {}
        process.data.stopping = 0
        for slot in slots:
            action = actions[slot.tid]
            if action:
                self.running[int(slot.tid)] = action
        held = set(actions) - set(self.running)
        for slot in slots:
            if slot.tid in self.running:
                self.reported.discard(int(slot.tid))
                action = self.running[slot.tid]
                process.resume(slot, action.command, action.deliver)
        return self._wait(held)

    def _is_news(self, slot: Any) -> bool:
        return int(slot.tid) not in self.reported

    def _wait(self, held: set[int]) -> bytes:
        process = self.process
        while True:
            slots = process.slots()
            for slot in slots:
                if not process.is_parked(slot) or slot.tid in held:
                    continue
                if slot.reason == Reason.TOLD:  # it was late for a stop that is over
                    process.resume(slot, Command.CONTINUE)
                elif not self._steps_on(slot):
                    process.stop_all()
                    return self._report(slot)
            if process.has_ended():
                return self._end_packet()
            if process.over and process.data.left and not self.told_of_leaving:
                self._tell("the program has left the HRT: it cannot be stopped any more")
                self.told_of_leaving = True
            if not process.over and held and not {int(s.tid) for s in slots} - held:
                return b"N"
            self._wait_for_something()
            packet = self.packets.next()
            if packet == INTERRUPT:
                if self.told_of_leaving:
                    raise Closed
                if process.over:
                    continue  # the end comes first
                return self._interrupt()

    def _wait_for_something(self) -> None:
        sources: list[Packets | socket.socket] = [self.packets]
        if not self.process.over:
            sources.append(self.process.events)
        seconds = _POLL_S / 10 if self.process.over else _POLL_S
        ready = select.select(sources, [], [], seconds)[0]
        if self.packets in ready:
            self.packets.receive()
        self.process.drain()

    def _steps_on(self, slot: Any) -> bool:
        action = self.running.get(int(slot.tid))
        if slot.reason != Reason.STEPPED or not action or not action.high:
            return False
        if not action.low <= rip_of(slot) < action.high:
            return False
        self.process.resume(slot, Command.STEP)
        return True

    def _interrupt(self) -> bytes:
        process = self.process
        process.stop_all()
        slots = process.slots()
        for slot in slots:
            if process.is_parked(slot) and slot.reason != Reason.TOLD and self._is_news(slot):
                return self._report(slot)
        for slot in slots:
            self.reported.add(int(slot.tid))
        tids = [int(slot.tid) for slot in slots]
        if self.current not in tids and tids:
            self.current = tids[0]
        self.stop = self._stop_packet(signal.SIGINT, self.current)
        return self.stop

    # ---- Telling -------------------------------------------------------------------------------

    def _thread(self, slot_or_tid: Any) -> str:
        tid = slot_or_tid if isinstance(slot_or_tid, int) else int(slot_or_tid.tid)
        return f"p{self.process.pid:x}.{tid:x}" if self.multiprocess else f"{tid:x}"

    def _report(self, slot: Any) -> bytes:
        self.reported.add(int(slot.tid))
        self.current = int(slot.tid)
        number = int(slot.signal) if slot.reason == Reason.SIGNAL else int(signal.SIGTRAP)
        swbreak = "swbreak:;" if slot.reason == Reason.BREAKPOINT else ""
        self.stop = self._stop_packet(number, self.current, swbreak)
        return self.stop

    def _stop_packet(self, number: int, tid: int, extra: str = "") -> bytes:
        slot = self.process.slot(tid)
        registers = ""
        if slot is not None and self.process.is_parked(slot):
            for name in _EXPEDITED:
                value = self.layout.read(slot, name, bytearray())
                registers += f"{self.layout.number[name]:x}:{value.hex()};"
        return f"T{to_gdb(number):02x}thread:{self._thread(tid)};{extra}{registers}".encode()

    def _end_packet(self) -> bytes:
        status = self.process.wait_status()
        if status is None:
            self._tell("the program has ended; its status is not known")
            status = 0
        self.process.over = True
        process = f";process:{self.process.pid:x}" if self.multiprocess else ""
        if os.WIFSIGNALED(status):
            packet = f"X{to_gdb(os.WTERMSIG(status)):02x}{process}"
        else:
            packet = f"W{os.WEXITSTATUS(status):02x}{process}"
        self.packets.send(packet.encode())
        raise Closed

    def _tell(self, text: str) -> None:
        self.packets.send(b"O" + f"multiverse: {text}\n".encode().hex().encode())

    # ---- Threads and registers -----------------------------------------------------------------

    def _tid(self, text: bytes) -> int:
        """A thread id of the protocol; _ALL for all."""
        if text.startswith(b"p"):
            text = text[1:].partition(b".")[2] or b"-1"
        return _ALL if text == b"-1" else int(text, 16)

    def _slot(self, text: bytes) -> Any:
        return self.process.slot(self._tid(text))

    def _selected(self) -> Any:
        slot = self.process.slot(self.current)
        if slot is None:
            raise ValueError
        if not self.process.is_parked(slot):
            self.process.load_frame(slot)
        return slot

    def _select(self, text: bytes) -> bytes:
        tid = self._tid(text[1:])
        if text[:1] == b"g" and tid > 0:
            if self.process.slot(tid) is None:
                return _ERROR
            self.current = tid
        return _OK

    def _read_registers(self, text: bytes) -> bytes:
        slot = self._selected()
        image = self.layout.normal(slot)
        values = (self.layout.read(slot, r.name, image) for r in self.layout.registers)
        return b"".join(values).hex().encode()

    def _write_registers(self, text: bytes) -> bytes:
        slot = self._selected()
        if not self.process.is_parked(slot):
            return _ERROR
        data = bytes.fromhex(text.decode())
        image = self.layout.normal(slot)
        for register in self.layout.registers:
            value, data = data[: register.size], data[register.size :]
            if len(value) == register.size and value != self.layout.read(
                slot, register.name, image
            ):
                self.layout.write(slot, register.name, value)
        return _OK

    def _read_register(self, text: bytes) -> bytes:
        slot = self._selected()
        register = self.layout.registers[int(text, 16)]
        return self.layout.read(slot, register.name, self.layout.normal(slot)).hex().encode()

    def _write_register(self, text: bytes) -> bytes:
        number, _, value = text.partition(b"=")
        slot = self._selected()
        register = self.layout.registers[int(number, 16)]
        data = bytes.fromhex(value.decode())
        if not self.process.is_parked(slot) or len(data) != register.size:
            return _ERROR
        self.layout.write(slot, register.name, data)
        return _OK

    # ---- Memory --------------------------------------------------------------------------------

    def _read_memory(self, text: bytes) -> bytes:
        address, _, size = text.partition(b",")
        data = self.process.read(int(address, 16), min(int(size, 16), PACKET_MAX // 2))
        return data.hex().encode() if data or int(size, 16) == 0 else _ERROR

    def _write_memory(self, text: bytes) -> bytes:
        where, _, data = text.partition(b":")
        return self._store(where, bytes.fromhex(data.decode()))

    def _write_binary(self, text: bytes) -> bytes:
        where, _, data = text.partition(b":")
        return self._store(where, unescape(data))

    def _store(self, where: bytes, data: bytes) -> bytes:
        address, _, size = where.partition(b",")
        if len(data) != int(size, 16):
            return _ERROR
        return _OK if self.process.write(int(address, 16), data) else _ERROR

    def _insert(self, text: bytes) -> bytes:
        kind, address, *_ = text.split(b";")[0].split(b",")
        if kind != b"0":
            return _UNSUPPORTED
        return _OK if self.process.insert(int(address, 16)) else _ERROR

    def _remove(self, text: bytes) -> bytes:
        kind, address, *_ = text.split(b",")
        if kind != b"0":
            return _UNSUPPORTED
        self.process.remove(int(address, 16))
        return _OK

    # ---- Going on and ending -------------------------------------------------------------------

    def _go_on(self, text: bytes, command: Command, signalled: bool = False) -> bytes:
        """The packets c, s, C and S; an address to go on at is not taken."""
        deliver = from_gdb(int(text.split(b";")[0], 16)) if signalled else 0

        def wanted(slot: Any) -> Action:
            chosen = slot.tid == self.current
            return Action(command if chosen else Command.CONTINUE, deliver if chosen else 0)

        return self._resume(wanted)

    def _v(self, text: bytes) -> bytes:
        if text == b"Cont?":
            return b"vCont;c;C;s;S;r"
        if text.startswith(b"Cont;"):
            return self._continue(text.split(b";")[1:])
        if text.startswith(b"Kill"):
            return self._kill(b"", told=True)
        return _UNSUPPORTED

    def _continue(self, parts: list[bytes]) -> bytes:
        actions: list[tuple[int, Action]] = []
        for part in parts:
            what, _, thread = part.partition(b":")
            kind, rest = what[:1], what[1:]
            if kind in b"cC" and kind:
                action = Action(Command.CONTINUE)
            elif kind in b"sSr" and kind:
                action = Action(Command.STEP)
            else:
                raise ValueError
            if kind in b"CS":
                action.deliver = from_gdb(int(rest, 16))
            if kind == b"r":
                low, _, high = rest.partition(b",")
                action.low, action.high = int(low, 16), int(high, 16)
            actions.append((self._tid(thread) if thread else _ALL, action))

        def wanted(slot: Any) -> Action | None:
            tid = int(slot.tid)
            return next((action for who, action in actions if who in (_ALL, tid)), None)

        return self._resume(wanted)

    def _detach(self, text: bytes) -> bytes:
        self._let_go()
        self.packets.send(_OK)
        raise Closed

    def _kill(self, text: bytes, told: bool = False) -> bytes:
        self.process.kill()
        self.process.over = True
        if told:
            self.packets.send(_OK)
        raise Closed

    # ---- Queries -------------------------------------------------------------------------------

    def _query(self, text: bytes) -> bytes:
        name = text.split(b":")[0].split(b",")[0].split(b";")[0]
        if name == b"Supported":
            return self._supported(text)
        if name == b"Xfer":
            return self._transfer(text)
        if name == b"ThreadExtraInfo":
            return self.process.name(self._slot(text.split(b",")[1])).encode().hex().encode()
        if name == b"fThreadInfo":
            threads = ",".join(self._thread(slot) for slot in self.process.slots())
            return b"m" + threads.encode() if threads else b"l"
        if name == b"sThreadInfo":
            return b"l"
        if name == b"C":
            return b"QC" + self._thread(self.current).encode()
        if name == b"Attached":
            return b"1"  # so that gdb detaches at its end, and does not kill
        if name == b"Symbol":
            return _OK
        return _UNSUPPORTED

    def _supported(self, text: bytes) -> bytes:
        theirs = text.partition(b":")[2].split(b";")
        self.multiprocess = b"multiprocess+" in theirs
        self.stop = self._stop_packet(signal.SIGTRAP, self.current)
        features = [
            f"PacketSize={PACKET_MAX:x}",
            *("QStartNoAckMode+", "multiprocess+", "swbreak+", "vContSupported+", "no-resumed+"),
            *("QPassSignals+", "QProgramSignals+"),
            *("qXfer:features:read+", "qXfer:auxv:read+", "qXfer:threads:read+"),
            *("qXfer:exec-file:read+", "qXfer:siginfo:read+"),
        ]
        return ";".join(features).encode()

    def _set(self, text: bytes) -> bytes:
        if text == b"StartNoAckMode":
            self.packets.send(_OK)
            self.packets.acknowledges = False
            # Its acknowledgement of our answer is skipped like any.
            raise _Answered
        name, _, numbers = text.partition(b":")
        if name in (b"PassSignals", b"ProgramSignals"):
            ours = {from_gdb(int(number, 16)) for number in numbers.split(b";") if number} - {0}
            if name == b"ProgramSignals":
                self.passed_at_end = ours
            else:
                self.process.data.passed = sum(1 << (number - 1) for number in ours)
            return _OK
        return _UNSUPPORTED

    def _transfer(self, text: bytes) -> bytes:
        _, what, action, annex, part = text.split(b":", 4)
        offset, size = (int(number, 16) for number in part.split(b","))
        if action != b"read":
            return _UNSUPPORTED
        if what == b"features" and annex == b"target.xml":
            data = self.layout.description().encode()
        elif what == b"auxv":
            data = self.process.auxv()
        elif what == b"exec-file":
            data = self.process.program()
        elif what == b"threads":
            data = self._threads().encode()
        elif what == b"siginfo":
            data = self._siginfo()
        else:
            return b"E00"
        piece = data[offset : offset + min(size, PACKET_MAX // 2 - 8)]
        more = offset + len(piece) < len(data)
        return (b"m" if more else b"l") + escaped(piece)

    def _siginfo(self) -> bytes:
        slot = self._selected()
        if slot.reason != Reason.SIGNAL:
            raise ValueError
        return bytes(slot.siginfo)

    def _threads(self) -> str:
        lines = [
            f'<thread id="{self._thread(slot)}" name={quoteattr(self.process.name(slot))}/>'
            for slot in self.process.slots()
        ]
        return f"<?xml version='1.0'?><threads>{''.join(lines)}</threads>"
