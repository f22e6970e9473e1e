"""Packets of gdb's remote protocol over a socket."""

from __future__ import annotations

import socket

INTERRUPT = b"\x03"
PACKET_MAX = 0x8000  # bytes of a packet that we take


class ConnectionLost(Exception):
    """gdb has gone away."""


def escape(data: bytes) -> bytes:
    """Binary data as packets carry it."""
    out = bytearray()
    for byte in data:
        if byte in b"#$}*":
            out += bytes((0x7D, byte ^ 0x20))
        else:
            out.append(byte)
    return bytes(out)


def unescape(data: bytes) -> bytes:
    out = bytearray()
    escaped = False
    for byte in data:
        if escaped:
            out.append(byte ^ 0x20)
        elif byte != 0x7D:
            out.append(byte)
        escaped = byte == 0x7D and not escaped
    return bytes(out)


class Packets:
    """One connection. Packets are bytes without frame; an interrupt is INTERRUPT."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.acknowledges = True
        self._buffer = bytearray()
        self._last = b""

    def fileno(self) -> int:
        return self.socket.fileno()

    def _send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise ConnectionLost from error

    def send(self, packet: bytes) -> None:
        """Send one packet. Raises ConnectionLost."""
        self._last = b"$" + packet + b"#" + f"{sum(packet) & 0xFF:02x}".encode()
        self._send(self._last)

    def finish(self, seconds: float) -> None:
        """Wait until gdb has gone, which has got the last packet then. Closing a socket with
        something unread in it may take back what was sent."""
        try:
            self.socket.settimeout(seconds)
            self.socket.shutdown(socket.SHUT_WR)
            while self.socket.recv(65536):
                pass
        except OSError:
            pass

    def receive(self) -> None:
        """Take what has arrived into the buffer; waits if nothing has. Raises ConnectionLost."""
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            raise ConnectionLost from error
        if not data or len(self._buffer) > 4 * PACKET_MAX:
            raise ConnectionLost
        self._buffer += data

    def next(self) -> bytes | None:
        """The next packet in the buffer, or None if there is no whole one."""
        while self._buffer:
            first = self._buffer[:1]
            if first == INTERRUPT:
                del self._buffer[0]
                return INTERRUPT
            if first == b"-":
                del self._buffer[0]
                self._send(self._last)
            elif first != b"$":  # an acknowledgement, or noise
                del self._buffer[0]
            else:
                end = self._buffer.find(b"#")
                if end < 0 or len(self._buffer) < end + 3:
                    return None
                packet = bytes(self._buffer[1:end])
                sent = bytes(self._buffer[end + 1 : end + 3])
                del self._buffer[: end + 3]
                right = sent.lower() == f"{sum(packet) & 0xFF:02x}".encode()
                if self.acknowledges:
                    self._send(b"+" if right else b"-")
                if right or not self.acknowledges:
                    return packet
        return None
