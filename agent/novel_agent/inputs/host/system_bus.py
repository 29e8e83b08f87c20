"""A connection to the D-Bus system bus for method calls, and nothing else of D-Bus.

Blocking; every wait ends after the time given. Calls are pipelined: many questions cost one trip.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from types import TracebackType

from novel_agent.errors import InputError
from novel_agent.wire.dbus import (
    ERROR,
    FIXED_HEADER_BYTES,
    METHOD_RETURN,
    Call,
    Message,
    decode,
    encode_call,
    message_size,
)

_BUS = "org.freedesktop.DBus"
_HELLO = Call(_BUS, "/org/freedesktop/DBus", _BUS, "Hello")
_CALLS_UNDERWAY = 128
_LONGEST_AUTH_LINE_BYTES = 16 << 10


def property_of(destination: str, path: str, interface: str, name: str) -> Call:
    """The call that asks an object for one property."""
    return Call(destination, path, "org.freedesktop.DBus.Properties", "Get", (interface, name))


class SystemBus:
    """One connection. After an exception it is of no more use but to be closed."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        """Connect, authenticate as this process's user, and say hello. OSError or `InputError` where that fails."""
        self._received = bytearray()
        self._serial = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_seconds)
            self._socket.connect(path)
            self._authenticate()
            (hello,) = self.call([_HELLO])
            if hello.kind == ERROR:
                raise InputError(f"the system bus refuses to talk: {hello.error_name}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "SystemBus":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, calls: Sequence[Call]) -> list[Message]:
        """The replies, in the order of the calls; some may be errors."""
        replies: list[Message] = []
        for start in range(0, len(calls), _CALLS_UNDERWAY):
            replies += self._exchange(calls[start : start + _CALLS_UNDERWAY])
        return replies

    def _exchange(self, calls: Sequence[Call]) -> Iterator[Message]:
        serials = range(self._serial + 1, self._serial + 1 + len(calls))
        self._serial = serials[-1]
        self._socket.sendall(b"".join(map(encode_call, calls, serials)))
        awaited = dict.fromkeys(serials)
        replies: dict[int, Message] = {}
        while len(replies) < len(awaited):
            message = self._message()
            if message.kind in (METHOD_RETURN, ERROR) and message.reply_serial in awaited:
                replies[message.reply_serial] = message
        return map(replies.__getitem__, serials)

    def _authenticate(self) -> None:
        """The EXTERNAL mechanism: the bus knows who is at the other end of the socket."""
        self._socket.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
        while b"\r\n" not in self._received:
            self._receive()
            if len(self._received) > _LONGEST_AUTH_LINE_BYTES:
                raise InputError("the system bus does not answer as a bus")
        answer, _, rest = bytes(self._received).partition(b"\r\n")
        if answer[:3] != b"OK ":
            raise InputError(f"the system bus refuses this user: {answer[:80].decode(errors='replace')}")
        self._received[:] = rest
        self._socket.sendall(b"BEGIN\r\n")

    def _message(self) -> Message:
        size = message_size(self._wait_for(FIXED_HEADER_BYTES))
        message = self._wait_for(size)
        del self._received[:size]
        return decode(message)

    def _wait_for(self, size: int) -> bytes:
        while len(self._received) < size:
            self._receive()
        return bytes(self._received[:size])

    def _receive(self) -> None:
        data = self._socket.recv(256 << 10)
        if not data:
            raise InputError("the system bus closed the connection")
        self._received += data

    def close(self) -> None:
        """Hang up; safe at any time, more than once."""
        self._socket.close()
