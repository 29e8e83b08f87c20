"""Leaves out encoded records by their severity, the one step that need not look further inside: nothing is decoded."""

from collections.abc import Sequence

from novel_agent.config.schema import LogFilter
from novel_agent.processors.log_fields import highest, lowest
from novel_agent.processors.span_bytes import content, walk
from novel_agent.wire.protobuf import WireError

_RECORD = 0x12
_TIME, _SEVERITY, _OBSERVED = 0x09, 0x10, 0x59
_FIXED64_BYTES = 9
_NUMBERS = 25
"""Severities are 0 (none) to 24; what is beyond matches nothing."""


class EncodedFilter:
    """Several filters by severity as one.

    Records are whole `log_records` fields of a ScopeLogs message, one after the other. Of a severity that stands twice the
    first counts; the agent writes one.
    """

    def __init__(self, filters: Sequence[LogFilter]) -> None:
        self._passes = [all(_passes(each, number) for each in filters) for number in range(_NUMBERS)]
        self._passes_unknown = all(_passes(each, _NUMBERS) for each in filters)

    def __call__(self, records: bytes) -> tuple[bytes, int]:
        """Those that go on, and how many do not; the same object where all do. Raises WireError of what are no records."""
        kept: list[bytes] = []
        dropped = 0
        run_start = position = 0
        size = len(records)
        passes = self._passes
        while position < size:
            if records[position] != _RECORD:
                raise WireError("not a log record")
            start, stop = content(records, position + 1)
            number = _severity(records, start, stop)
            if not (passes[number] if number < _NUMBERS else self._passes_unknown):
                kept.append(records[run_start:position])
                run_start = stop
                dropped += 1
            position = stop
        if not dropped:
            return records, 0
        kept.append(records[run_start:])
        return b"".join(kept), dropped


def _passes(config: LogFilter, number: int) -> bool:
    match = config.keep or config.drop
    if match is None:
        return True
    high_enough = match.min_severity is None or number >= lowest(match.min_severity)
    low_enough = match.max_severity is None or 0 < number <= highest(match.max_severity)
    return (high_enough and low_enough) is (config.keep is not None)


def _severity(records: bytes, position: int, stop: int) -> int:
    """The severity number of the record between these places; 0 where it has none."""
    while position < stop:
        tag = records[position]
        if tag == _SEVERITY and position + 1 < stop and records[position + 1] < 0x80:
            return records[position + 1]
        if tag in (_TIME, _OBSERVED):
            position += _FIXED64_BYTES
            continue
        return _searched(records[position:stop])
    return 0


def _searched(record: bytes) -> int:
    for tag, _, start, stop in walk(record):
        if tag == _SEVERITY:
            return record[start] if stop - start == 1 else _NUMBERS
    return 0
