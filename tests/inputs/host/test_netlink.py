import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from novel_agent.inputs.host import netlink
from novel_agent.inputs.host.netlink import (
    Link,
    LinkEvents,
    LinkNames,
    Netlink,
    attribute,
    link_index,
    messages,
    shows_this_process,
)

NEW_LINK, DEL_LINK = 16, 17
NO_OPERATION, ERROR, DONE = 1, 2, 3
IFNAME = 3


def message(kind: int, content: bytes, sequence: int = 1) -> bytes:
    head = struct.pack("=IHHII", 16 + len(content), kind, 0, sequence, 0)
    return head + content + bytes(-len(content) % 4)


def attr(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def link(index: int, name: str, *, kind: int = NEW_LINK, family: int = 0, sequence: int = 1) -> bytes:
    body = struct.pack("=BxHiII", family, 1, index, 0x1003, 0) + attr(IFNAME, name.encode() + b"\0")
    return message(kind, body, sequence)


def done(code: int = 0, sequence: int = 1) -> bytes:
    return message(DONE, struct.pack("=i", code), sequence)


class Kernel:
    """The other end of every socket opened: what it answers to the first, the second, …"""

    def __init__(self) -> None:
        self.answers: list[list[bytes]] = []
        self.ends: list[socket.socket] = []

    def open(self, protocol: int) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for datagram in self.answers[len(self.ends)]:
            theirs.send(datagram)
        self.ends.append(theirs)
        return ours


@pytest.fixture
def kernel(monkeypatch):
    scripted = Kernel()
    monkeypatch.setattr(netlink, "_open", scripted.open)
    monkeypatch.setattr(netlink, "_subscribe", lambda: scripted.open(0))
    yield scripted
    for end in scripted.ends:
        end.close()


@pytest.fixture
def routes():
    opened = Netlink(socket.NETLINK_ROUTE)
    yield opened
    opened.close()


@pytest.fixture
def links():
    opened = LinkNames()
    yield opened
    opened.close()


def contents(answer) -> list[tuple[int, bytes]]:
    return [(kind, datagram[start:end]) for datagram, kind, start, end in answer]


def test_messages_are_aligned_to_four_bytes():
    datagram = message(92, b"abcde") + message(3, b"")
    assert [(kind, sequence, datagram[start:end]) for kind, sequence, start, end in messages(datagram)] == [
        (92, 1, b"abcde"),
        (3, 1, b""),
    ]


@pytest.mark.parametrize(
    "datagram",
    [
        b"\x10\0\0\0",
        message(92, b"abcd")[:-1],
        struct.pack("=IHHII", 15, 92, 0, 1, 0),
        struct.pack("=IHHII", 0, 92, 0, 1, 0),
        struct.pack("=IHHII", 0xFFFFFFFF, 92, 0, 1, 0),
    ],
)
def test_a_message_that_does_not_fit_its_datagram_is_refused(datagram):
    with pytest.raises(ValueError, match="netlink message"):
        list(messages(datagram))


def test_an_attribute_is_found_behind_others_and_under_its_flags():
    datagram = attr(1, b"x") + attr(0x8000 | 5, b"value") + attr(7, b"")
    assert datagram[slice(*attribute(datagram, 0, len(datagram), 5))] == b"value"
    assert datagram[slice(*attribute(datagram, 0, len(datagram), 7))] == b""
    assert attribute(datagram, 0, len(datagram), 6) is None


@pytest.mark.parametrize("length", [0, 3, 13])
def test_an_attribute_that_does_not_fit_its_message_is_refused(length):
    datagram = struct.pack("=HH", length, 1) + bytes(8)
    with pytest.raises(ValueError, match="netlink attribute"):
        attribute(datagram, 0, len(datagram), 5)


def test_a_dump_goes_on_until_the_kernel_says_done(kernel, routes):
    kernel.answers = [[message(92, b"one") + message(92, b"two"), message(92, b"three"), done()]]
    assert contents(routes.dump(94, b"ask!")) == [(92, b"one"), (92, b"two"), (92, b"three")]
    assert kernel.ends[0].recv(100) == struct.pack("=IHHII", 20, 94, 0x301, 1, 0) + b"ask!"


def test_the_end_may_come_in_the_datagram_of_the_last_message(kernel, routes):
    kernel.answers = [[message(92, b"one") + done()]]
    assert contents(routes.dump(94, b"")) == [(92, b"one")]


def test_what_answers_another_request_is_passed_over(kernel, routes):
    kernel.answers = [
        [message(92, b"late", sequence=9), message(NO_OPERATION, b"") + message(92, b"mine"), done(0, 9), done()]
    ]
    assert contents(routes.dump(94, b"")) == [(92, b"mine")]


def test_the_socket_and_its_sequence_serve_the_next_dump(kernel, routes):
    kernel.answers = [[done(), message(92, b"second", sequence=2), done(0, 2)]]
    assert contents(routes.dump(94, b"")) == []
    assert contents(routes.dump(94, b"")) == [(92, b"second")]
    assert len(kernel.ends) == 1


@pytest.mark.parametrize("last", [message(ERROR, struct.pack("=i", -1) + bytes(16)), done(-1)])
def test_a_refusal_is_an_os_error_and_the_next_dump_has_a_new_socket(kernel, routes, last):
    kernel.answers = [[last], [message(92, b"again", sequence=2) + done(0, 2)]]
    with pytest.raises(PermissionError):
        contents(routes.dump(94, b""))
    assert contents(routes.dump(94, b"")) == [(92, b"again")]


def test_a_dump_that_is_left_leaves_nothing_for_the_next(kernel, routes):
    kernel.answers = [[message(92, b"one"), message(92, b"two"), done()], [done(0, 2)]]
    answer = routes.dump(94, b"")
    next(answer)
    answer.close()
    assert contents(routes.dump(94, b"")) == []


def test_links_are_listed_once(kernel, links):
    kernel.answers = [[], [link(1, "lo") + link(2, "eth0"), done()]]
    names = links.current()
    assert names == {1: "lo", 2: "eth0"}
    assert links.current() is names


def test_links_follow_what_the_kernel_says_of_them(kernel, links):
    kernel.answers = [[], [link(1, "lo") + link(2, "eth0") + link(3, "veth1"), done()]]
    before = links.current()
    events = kernel.ends[0]
    events.send(link(2, "eth0", sequence=0))
    assert links.current() is before, "an event that changes no name"
    events.send(link(2, "uplink", sequence=0))
    events.send(link(4, "eth0", sequence=0) + link(3, "veth1", kind=DEL_LINK, sequence=0))
    assert links.current() == {1: "lo", 2: "uplink", 4: "eth0"}
    assert before == {1: "lo", 2: "eth0", 3: "veth1"}


def test_an_interface_that_leaves_its_bridge_stays(kernel, links):
    kernel.answers = [[], [link(3, "veth1"), done()]]
    before = links.current()
    kernel.ends[0].send(link(3, "veth1", kind=DEL_LINK, family=socket.AF_BRIDGE, sequence=0))
    assert links.current() is before


def test_links_are_listed_anew_when_events_were_lost(kernel, links, monkeypatch):
    kernel.answers = [[], [link(1, "lo"), done(), link(1, "lo", sequence=2) + link(8, "late", sequence=2), done(0, 2)]]
    links.current()

    outcomes = iter([OSError(errno.ENOBUFS, "lost"), link(7, "stale", sequence=0), BlockingIOError()])

    def recv(size: int, flags: int) -> bytes:
        outcome = next(outcomes)
        if isinstance(outcome, bytes):
            return outcome
        raise outcome

    monkeypatch.setattr(links._events, "_socket", SimpleNamespace(recv=recv))
    assert links.current() == {1: "lo", 8: "late"}
    monkeypatch.undo()


def test_after_a_failure_links_begin_anew(kernel, links):
    kernel.answers = [[], [done(-1)], [], [link(1, "lo", sequence=2), done(0, 2)]]
    with pytest.raises(PermissionError):
        links.current()
    assert links.current() == {1: "lo"}


def test_a_mounted_proc_shows_this_process():
    assert shows_this_process("/proc")


def test_a_recorded_proc_does_not(tmp_path):
    assert not shows_this_process(str(tmp_path))
    namespaces = tmp_path / "self" / "ns"
    namespaces.mkdir(parents=True)
    (namespaces / "net").symlink_to("net:[4026531840]")
    assert not shows_this_process(str(tmp_path))
    (namespaces / "net:[4026531840]").touch()
    assert not shows_this_process(str(tmp_path))


def test_the_names_are_those_of_this_machine(links):
    assert links.current() == dict(socket.if_nameindex())
    assert links.current() is links.current()


def test_events_are_taken_once(kernel):
    kernel.answers = [[]]
    events = LinkEvents()
    assert events.take() is None, "what was before is not known"
    assert events.take() == []
    kernel.ends[0].send(link(2, "eth0", sequence=0) + link(3, "veth1", kind=DEL_LINK, sequence=0))
    said = events.take()
    assert [(kind, link_index((datagram, kind, start, end))) for datagram, kind, start, end in said] == [
        (NEW_LINK, 2),
        (DEL_LINK, 3),
    ]
    assert events.take() == []
    events.close()


def test_events_begin_anew_after_what_is_no_message(kernel):
    kernel.answers = [[], []]
    events = LinkEvents()
    events.take()
    kernel.ends[0].send(b"garbage")
    with pytest.raises(ValueError, match="netlink message"):
        events.take()
    assert events.take() is None
    events.close()


def test_a_listing_has_names_and_addresses(kernel, routes):
    body = struct.pack("=BxHiII", 0, 1, 7, 0x1003, 0)
    named = attr(IFNAME, b"eth0\0") + attr(1, bytes.fromhex("00005e005315"))
    kernel.answers = [[message(NEW_LINK, body + named) + link(8, "tun0") + message(NEW_LINK, body[:8]), done()]]
    assert netlink.links(routes) == {7: Link("eth0", "00:00:5e:00:53:15"), 8: Link("tun0", "")}


@pytest.mark.root
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"), reason="makes interfaces"
)
def test_real_interfaces_that_come_go_and_swap_their_names_are_followed():
    script = """
        import subprocess
        from novel_agent.inputs.host.netlink import LinkNames
        def ip(*words):
            subprocess.run(["ip", "link", *words], check=True)
        links = LinkNames()
        assert set(links.current().values()) == {"lo"}
        ip("add", "a0", "type", "veth", "peer", "name", "b0")
        index = {name: index for index, name in links.current().items()}
        assert set(index) == {"lo", "a0", "b0"}, index
        for old, new in (("a0", "x0"), ("b0", "a0"), ("x0", "b0")):
            ip("set", old, "name", new)
        assert links.current() == {index["lo"]: "lo", index["a0"]: "b0", index["b0"]: "a0"}
        ip("set", "a0", "up")
        for number in range(80):  # more events than fit into the socket
            ip("set", "a0", "alias", str(number))
        ip("del", "a0")
        assert set(links.current().values()) == {"lo"}
        links.close()
    """
    subprocess.run(["unshare", "--net", sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
