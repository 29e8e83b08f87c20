"""Which batches of a refused request are at fault, found so that nobody's are lost for those of others.

A request is made of batches that came from different clients, and a receiver refuses it as a whole. What it is refused for is
looked for from the cheap to the dear:

1. Every batch is read to the bottom. What cannot be read is dropped, the rest is sent again as one.
2. What some receivers refuse though it can be read (`wire.otlp_strict`) is sent apart from the rest.
3. What is refused still is sent in halves, and halves of halves, until a bad batch stands alone.

Once the destination takes a part, the rest is taken apart as far as it must be: that is at most twice as many requests as
clients made, however many of their batches are bad, and a batch is dropped only when it was refused by itself. One that has
taken nothing may well refuse everything. It is asked a bounded number of times, in places far from each other, and what was
refused by then is dropped together unless something is taken after all.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from novel_agent.errors import OutputRejected
from novel_agent.model.batch import Batch, Signal
from novel_agent.wire.otlp_strict import is_sound, is_strict

Parts: TypeAlias = Sequence[Batch]

_FURTHER_CUTS = 16
_OFF_LOOP_BYTES = 64 << 10


class Refused(NamedTuple):
    """Parts that are given up, and the refusal; None where they were found to be malformed."""

    parts: Parts
    error: OutputRejected | None


class Isolation:
    """What of one lease is still to be sent, and in what company."""

    def __init__(self, parts: Parts, *, is_otlp: bool, in_order: bool, is_hopeful: bool) -> None:
        """`in_order`: none may be sent before one that is older. `is_hopeful` False: all of the lease before was refused."""
        self._pending: deque[Parts] = deque([parts])
        self._put_off: list[Refused] = []
        self._is_soundness_known = not is_otlp
        self._is_strictness_known = not is_otlp or in_order
        self._in_order = in_order
        self._most_cuts = 2 * len(parts).bit_length() + (_FURTHER_CUTS if is_hopeful else 0)
        self._cuts = 0
        self._are_several = len(parts) > 1
        self._has_refused = False
        self._is_elsewhere = False
        self.has_taken = False
        """Whether the destination took any of it."""

    def next(self) -> Parts | None:
        """What to send now, None where that is all."""
        if not self._pending:
            return None
        if self._is_elsewhere and not self.has_taken and not self._in_order:
            self._is_elsewhere = False
            largest = max(range(len(self._pending)), key=lambda index: len(self._pending[index]))
            self._pending.rotate(-largest)
        return self._pending.popleft()

    @property
    def is_hopeless(self) -> bool:
        """Whether all of several batches were refused, by themselves or put off: what the destination takes is not known."""
        return self._are_several and self._has_refused and not self.has_taken

    def again(self, parts: Parts) -> None:
        """These could not be sent now."""
        self._pending.appendleft(parts)

    def taken(self) -> None:
        """The destination took what was sent."""
        self.has_taken = True
        self._pending.extend([refused.parts for refused in self._put_off])
        self._put_off.clear()

    def refused_alone(self) -> None:
        """One batch was refused by itself; while nothing is taken the next is looked for where least is known."""
        self._is_elsewhere = self._has_refused = True

    async def refused(self, parts: Parts, error: OutputRejected) -> Refused | None:
        """Batches were refused together for what is in them: what is given up at once, None where all go on."""
        if not self._is_soundness_known:
            self._is_soundness_known = True
            sound, malformed = await _sorted(parts, is_sound)
            if malformed:
                if sound:
                    self._pending.appendleft(sound)
                return Refused(malformed, None)
        if not self._is_strictness_known:
            self._is_strictness_known = True
            strict, doubtful = await _sorted(parts, is_strict)
            if strict and doubtful:
                self._pending.extendleft([doubtful, strict])
                return None
        return self._cut(parts, error)

    def _cut(self, parts: Parts, error: OutputRejected) -> Refused | None:
        if not self.has_taken and self._cuts >= self._most_cuts:
            self._has_refused = True
            if self._in_order:
                return Refused(parts, error)
            self._put_off.append(Refused(parts, error))
            return None
        self._cuts += 1
        middle = len(parts) // 2
        self._pending.extendleft([parts[middle:], parts[:middle]])
        return None

    def given_up(self) -> Sequence[Refused]:
        """At the end: what was put off, and nothing was taken since."""
        return self._put_off


async def _sorted(parts: Parts, test: Callable[[Signal, bytes], bool]) -> tuple[list[Batch], list[Batch]]:
    """Those that pass and those that do not; in a thread where there is much to read."""
    parts = parts[:]  # made once: to iterate over what was read from a spool is to make each part from all

    def passing() -> list[bool]:
        return [test(batch.signal, batch.payload) for batch in parts]

    is_much = sum([len(batch.payload) for batch in parts]) >= _OFF_LOOP_BYTES
    passed = await asyncio.to_thread(passing) if is_much else passing()
    pairs = list(zip(parts, passed, strict=True))
    return [batch for batch, passes in pairs if passes], [batch for batch, passes in pairs if not passes]
