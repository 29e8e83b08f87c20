"""Talking to systemd: sd_notify(3) and sd_watchdog_enabled(3) are one datagram and two variables."""

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Sends state to the service manager; without NOTIFY_SOCKET it does nothing."""

    def __init__(self, environ: Mapping[str, str] = os.environ, pid: int | None = None) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = _watchdog_seconds(environ, pid or os.getpid())

    @property
    def watched(self) -> bool:
        """Whether a service manager listens."""
        return self._address[:1] in {"/", "\0"}

    def send(self, *assignments: str) -> None:
        """Send assignments such as READY=1 in one datagram; a manager that does not take it is not our failure."""
        if not self.watched:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as client:
            try:
                client.sendto("\n".join(assignments).encode(), self._address)
            except OSError:
                return

    def ready(self, status: str) -> None:
        """Start-up, or a reload, is complete."""
        self.send("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self.send(f"STATUS={text}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it. Type=notify-reload wants the monotonic time in microseconds."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Shutdown begins."""
        self.send("STOPPING=1", "STATUS=shutting down")

    def watchdog(self) -> None:
        """The event loop turns."""
        self.send("WATCHDOG=1")


def _watchdog_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    period = environ.get("WATCHDOG_USEC", "")
    if not period.isdigit() or int(period) == 0 or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(period) / 1e6
