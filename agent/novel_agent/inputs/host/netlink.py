"""Asking the kernel over netlink for what its /proc tables do not say, or say slowly: a table is dumped, message by message.

A dump is one request and as many datagrams as the table needs; each holds whole messages, and a message a fixed head and
attributes. Everything is in the machine's byte order and aligned to four bytes. The kernel answers for the network
namespace of the socket, which is this process's.

Sources: Documentation/userspace-api/netlink/intro.rst, RFC 3549, the headers linux/netlink.h, linux/rtnetlink.h and
linux/if_link.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18

_NLMSG_NOOP, _NLMSG_ERROR, _NLMSG_DONE = 1, 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_RTMGRP_LINK = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_EXT_MASK = 1, 3, 29
_RTEXT_FILTER_SKIP_STATS = 8
_ATTRIBUTE_TYPE = 0x3FFF

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_LINK = struct.Struct("=B3xi8x")  # struct ifinfomsg: family, index
_LIST_LINKS = struct.pack("=16xHHI", 8, _IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
_INT = struct.Struct("=i")

_LARGEST_DATAGRAM_BYTES = 32768  # what the kernel fills at most in a dump (netlink_dump)
_EVENT_BUFFER_BYTES = 32768
_ANSWER_SECONDS = 2

NOT_OFFERED = frozenset(
    (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.ENOENT, errno.EPERM, errno.EACCES)
)
"""What a sandbox or an old kernel answers to a protocol or a request that it does not have."""

Message = tuple[bytes, int, int, int]
"""A datagram, and of one message in it the type, where its content starts and where it ends."""


def shows_this_process(proc: str) -> bool:
    """Whether `proc` is a mounted procfs. Then netlink and the tables below its `net` show the same network namespace.

    In a recorded tree there is no namespace behind the name.
    """
    path = f"{proc}/self/ns/net"
    try:
        return os.readlink(path) == f"net:[{os.stat(path).st_ino}]"
    except OSError:
        return False


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Type, sequence number, start and end of the content of each message. ValueError where the lengths do not fit."""
    position, size = 0, len(datagram)
    while position < size:
        if size - position < _HEADER.size:
            raise ValueError("a netlink message ends within its header")
        length, kind, _, sequence, _ = _HEADER.unpack_from(datagram, position)
        if not _HEADER.size <= length <= size - position:
            raise ValueError(f"a netlink message of {length} bytes where there are {size - position}")
        yield kind, sequence, position + _HEADER.size, position + length
        position += (length + 3) & ~3


def attribute(datagram: bytes, start: int, end: int, wanted: int) -> tuple[int, int] | None:
    """Where the value of the attribute of type `wanted` starts and ends; None where the message has none."""
    while end - start >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(datagram, start)
        if not _ATTRIBUTE.size <= length <= end - start:
            raise ValueError(f"a netlink attribute of {length} bytes where there are {end - start}")
        if kind & _ATTRIBUTE_TYPE == wanted:
            return start + _ATTRIBUTE.size, start + length
        start += (length + 3) & ~3
    return None


class Netlink:
    """A socket of one netlink protocol, opened at its first use and again after a failure."""

    def __init__(self, protocol: int) -> None:
        self._protocol = protocol
        self._socket: socket.socket | None = None
        self._sequence = 0

    def dump(self, kind: int, body: bytes) -> Iterator[Message]:
        """Every message of the answer to the dump request `kind`. OSError as the kernel refuses it."""
        complete = False
        try:
            if self._socket is None:
                self._socket = _open(self._protocol)
            self._sequence = sequence = self._sequence % 0xFFFFFFFF + 1
            flags = _NLM_F_REQUEST | _NLM_F_DUMP
            self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body)
            while not complete:
                datagram = self._socket.recv(_LARGEST_DATAGRAM_BYTES)
                for answer, answered, start, end in messages(datagram):
                    if answered != sequence or answer == _NLMSG_NOOP:
                        continue
                    if answer in (_NLMSG_DONE, _NLMSG_ERROR):
                        _raise_refusal(datagram, start, end)
                        complete = True
                        break
                    yield datagram, answer, start, end
        finally:
            if not complete:  # what is left of the answer would mix with the next one
                self.close()

    def close(self) -> None:
        """Give the socket back; the next dump opens one anew."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _open(protocol: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _ANSWER_SECONDS, 0))
    return opened


def _raise_refusal(datagram: bytes, start: int, end: int) -> None:
    """Both kinds of last message begin with 0 or a negated error number."""
    if end - start >= _INT.size:
        (code,) = _INT.unpack_from(datagram, start)
        if code < 0:
            raise OSError(-code, os.strerror(-code))


class LinkEvents:
    """What the kernel says of the network interfaces as they come, change and go (RTNLGRP_LINK)."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def take(self) -> list[Message] | None:
        """What was said since the last call; None where something may have been missed.

        That is so at the first call, after `close`, and where there was more than the socket holds.
        """
        if self._socket is None:
            self._socket = _subscribe()
            return None
        try:
            return self._pending(self._socket)
        except (OSError, ValueError):
            self.close()
            raise

    @staticmethod
    def _pending(events: socket.socket) -> list[Message] | None:
        said: list[Message] = []
        lost = False
        while True:
            try:
                datagram = events.recv(_LARGEST_DATAGRAM_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None if lost else said
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True  # there were more events than the buffer holds
            else:
                said += [(datagram, kind, start, end) for kind, _, start, end in messages(datagram)]

    def close(self) -> None:
        """Give the socket back; the next call begins anew."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Link(NamedTuple):
    """What a message says of a network interface: its name, and its hardware address as sysfs writes it."""

    name: str
    address: str


class LinkNames:
    """The names of the network interfaces by index.

    They are listed once and then kept current by the kernel's link events, so a reading costs one system call while
    nothing changes, however many interfaces there are.
    """

    def __init__(self) -> None:
        self._routes = Netlink(socket.NETLINK_ROUTE)
        self._events = LinkEvents()
        self._names: dict[int, str] = {}

    def current(self) -> dict[int, str]:
        """The names now. The same object as before means that none changed; it is not written to any more."""
        try:
            said = self._events.take()
            if said is None:
                self._replace({index: link.name for index, link in links(self._routes).items()})
            elif said:
                names = self._names.copy()
                for message in said:
                    _apply(names, message)
                self._replace(names)
        except (OSError, ValueError):
            self.close()
            raise
        return self._names

    def _replace(self, names: dict[int, str]) -> None:
        if names != self._names:
            self._names = names

    def close(self) -> None:
        """Give the sockets back; the next reading begins anew."""
        self._routes.close()
        self._events.close()


def _subscribe() -> socket.socket:
    events = _open(socket.NETLINK_ROUTE)
    try:
        events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _EVENT_BUFFER_BYTES)
        events.bind((0, _RTMGRP_LINK))
    except OSError:
        events.close()
        raise
    return events


def links(routes: Netlink) -> dict[int, Link]:
    """The network interfaces there are, by index. OSError as the kernel refuses to list them."""
    found: dict[int, Link] = {}
    for message in routes.dump(RTM_GETLINK, _LIST_LINKS):
        datagram, kind, start, end = message
        index = link_index(message)
        if kind == RTM_NEWLINK and index is not None and (name := _name(message)) is not None:
            place = attribute(datagram, start + _LINK.size, end, _IFLA_ADDRESS)
            found[index] = Link(name, datagram[slice(*place)].hex(":") if place else "")
    return found


def link_index(message: Message) -> int | None:
    """The index of the network interface that a link message is about; None where it is about none.

    A bridge's word about its ports has a family of its own and says less; that counts as none.
    """
    datagram, kind, start, end = message
    if kind not in (RTM_NEWLINK, RTM_DELLINK) or end - start < _LINK.size:
        return None
    family, index = _LINK.unpack_from(datagram, start)
    return index if family == socket.AF_UNSPEC else None


def _name(message: Message) -> str | None:
    datagram, _, start, end = message
    found = attribute(datagram, start + _LINK.size, end, _IFLA_IFNAME)
    return datagram[slice(*found)].rstrip(b"\0").decode(errors="replace") if found else None


def _apply(names: dict[int, str], message: Message) -> None:
    """Enter what a message says of a link."""
    index = link_index(message)
    if index is None:
        return
    if message[1] == RTM_DELLINK:
        names.pop(index, None)
    elif (name := _name(message)) is not None:
        names[index] = name
