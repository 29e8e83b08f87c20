"""What the collectors share that ask over netlink where they can and read files elsewhere."""

import socket
from abc import abstractmethod
from typing import ClassVar, TypeVar

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import Kernel
from novel_agent.inputs.host.netlink import NOT_OFFERED, LinkNames, Netlink, shows_this_process

Reading = TypeVar("Reading")


class NetlinkCollector(HostCollector[Reading]):
    """A collector with two sources of one reading.

    It asks where the /proc it is given is live, so that both show one network namespace; over a recorded tree, and where a
    sandbox keeps netlink away, it looks into files.
    """

    protocol: ClassVar[int] = socket.NETLINK_ROUTE

    def __init__(self, kernel: Kernel, options: msgspec.Struct) -> None:
        self.netlink = Netlink(self.protocol)
        self.links = LinkNames()
        self._asks: bool | None = None
        super().__init__(kernel, options)

    @abstractmethod
    def ask(self) -> Reading:
        """The reading over `self.netlink`."""

    @abstractmethod
    def look(self) -> Reading:
        """The reading from files."""

    def read(self) -> Reading:
        if self._asks is None:
            self._asks = shows_this_process(self.kernel.proc)
        if self._asks:
            try:
                return self.ask()
            except OSError as error:
                if error.errno not in NOT_OFFERED:
                    raise
                self._asks = False
        return self.look()

    def close(self) -> None:
        super().close()
        self.netlink.close()
        self.links.close()
