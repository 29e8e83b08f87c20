"""What an output is."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from novel_agent.model.batch import Batch


class Delivered(NamedTuple):
    """A batch the destination has answered for.

    `rejected_items` of it were refused for good; 0 with a message is a warning. `wire_bytes` is the size of the request's
    body as sent, compressed if so configured.
    """

    wire_bytes: int
    rejected_items: int = 0
    message: str = ""


class Output(Protocol):
    """One destination: a transport without clock, queue or retry, which belong to whoever runs it.

    Texts of the errors it raises are fit to show: no credentials. Several sends may be under way at a time.
    """

    in_order: bool
    """Whether one batch must be settled before the next is sent: the destination refuses what is older than it has."""

    async def start(self) -> None:
        """Make ready; touches no network, so a destination that is down is no reason not to start.

        ConfigError where a file named by the configuration (certificate, key) cannot be used.
        """

    async def send(self, batch: Batch) -> Delivered:
        """Hand one batch over, within the configured timeout.

        OutputUnavailable: not now, the batch is to be sent again. OutputRejected: never. Cancellation at any point leaves
        the output usable; whether the destination got the batch is then unknown. An empty batch is asked for by whoever
        wants to know whether the destination is there and takes what is sent in this way; it leaves no trace there.
        """

    async def stop(self) -> None:
        """Close connections; safe at any time, more than once."""


@runtime_checkable
class Joining(Protocol):
    """An output that sends several batches as one without joining them first, which spares copying them."""

    async def send_joined(self, batches: Sequence[Batch]) -> Delivered:
        """As `Output.send` of the batches joined: of one signal, at least one."""
