import os
import socket

import pytest

from novel_agent.runtime.sdnotify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    address = f"{tmp_path}/notify" if request.param == "path" else f"\0novel-agent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address)
        server.settimeout(5)
        yield server, address.replace("\0", "@")


def test_ready_and_status_are_one_datagram(manager):
    server, address = manager
    Notifier({"NOTIFY_SOCKET": address}).ready("healthy")
    assert server.recv(4096) == b"READY=1\nSTATUS=healthy"


def test_reloading_carries_the_monotonic_time(manager):
    server, address = manager
    Notifier({"NOTIFY_SOCKET": address}).reloading()
    first, second = server.recv(4096).split(b"\n")
    assert first == b"RELOADING=1"
    assert int(second.removeprefix(b"MONOTONIC_USEC=")) > 0


def test_without_a_manager_nothing_happens():
    Notifier({}).ready("healthy")


def test_a_manager_that_went_is_no_error(tmp_path):
    Notifier({"NOTIFY_SOCKET": f"{tmp_path}/gone"}).watchdog()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "42"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_period_is_for_this_process_only(environ, seconds):
    assert Notifier(environ, pid=42).watchdog_seconds == seconds
