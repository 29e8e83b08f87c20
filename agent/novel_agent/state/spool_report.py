"""The spools of a state directory as they are on disk, for whoever only looks; an agent may be using them.

Nothing here writes. What the agent removes meanwhile is passed over, and a record that it is just writing at the end of the
newest segment looks cut off, as after a kill: that is no damage.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import unquote

import msgspec

from novel_agent.errors import StateError
from novel_agent.model.batch import SIGNALS, Batch, Signal
from novel_agent.state.cursor import CursorFile, Position
from novel_agent.state.segment import Damaged, Foreign, open_segment, records, segment_name
from novel_agent.state.segment_scan import CURSOR_NAME, Extent, Finding, Scan, pieces, scan
from novel_agent.state.spool import directory_name


class StreamReport(msgspec.Struct):
    """One signal of one destination."""

    destination: str
    signal: Signal
    segments: int
    size_bytes: int
    """Of records that are not acknowledged, with what they take beside their payload."""
    items: int
    oldest_unix_seconds: float | None
    acknowledged: Position
    """Everything before it is."""


class VerifyReport(msgspec.Struct):
    """What reading every record of a stream that is not acknowledged has shown."""

    destination: str
    signal: Signal
    segments: int
    records: int
    size_bytes: int
    items: int
    damages: list[Finding]
    cut_off: bool
    """The newest segment ends within a record: its writer was killed, or is writing."""


class Unreadable(msgspec.Struct, frozen=True):
    """A segment whose rest cannot be given."""

    signal: Signal
    segment: int
    problem: str


def destinations(state_directory: str) -> dict[str, str]:
    """The destinations that have a spool and its directory, by name. StateError where that cannot be read."""
    root = os.path.join(state_directory, "spool")
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StateError(f"{root}: {error.strerror}; run this as the agent's user or as root") from None
    return {_destination(name): os.path.join(root, name) for name in names}


def _destination(name: str) -> str:
    """The destination a directory is named for, or that name where it says too little (a long one was cut)."""
    destination = unquote(name, errors="surrogateescape")
    return destination if directory_name(destination) == name else name


def look(destination: str, directory: str) -> list[StreamReport]:
    """What waits, signal by signal. StateError where it cannot be read."""
    return [
        _stream_report(destination, signal, found)
        for signal in SIGNALS
        if (found := _scan(os.path.join(directory, signal))) is not None
    ]


def _stream_report(destination: str, signal: Signal, found: Scan) -> StreamReport:
    waiting = [extent for extent in found.segments if extent.end > extent.start]
    return StreamReport(
        destination,
        signal,
        len(found.segments) + len(found.acknowledged),
        sum(extent.end - extent.start for extent in waiting),
        sum(extent.items for extent in waiting),
        waiting[0].at_nanos / 1e9 if waiting else None,
        found.cursor,
    )


def _scan(directory: str) -> Scan | None:
    try:
        return scan(directory, CursorFile(os.path.join(directory, CURSOR_NAME)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StateError(f"{directory}: {error.strerror}; run this as the agent's user or as root") from None


def waiting_bytes(directory: str) -> int:
    """Bytes that `verify` will read."""
    streams = [_scan(os.path.join(directory, signal)) for signal in SIGNALS]
    return sum(extent.end - extent.start for found in streams if found is not None for extent in found.segments)


def verify(destination: str, directory: str, read: Callable[[int], object]) -> list[VerifyReport]:
    """Read everything that waits and check it. `read` is told how many bytes were, every now and then."""
    return [
        _verify_stream(destination, signal, os.path.join(directory, signal), found, read)
        for signal in SIGNALS
        if (found := _scan(os.path.join(directory, signal))) is not None
    ]


def _verify_stream(
    destination: str, signal: Signal, directory: str, found: Scan, read: Callable[[int], object]
) -> VerifyReport:
    report = VerifyReport(destination, signal, 0, 0, 0, 0, [], cut_off=False)
    for extent in found.segments:
        try:
            finding = _verify_segment(directory, extent, report, read)
        except FileNotFoundError:
            continue
        report.segments += 1
        if finding is not None and finding.fault == "cut off" and extent is found.segments[-1]:
            report.cut_off = True
        elif finding is not None:
            report.damages.append(finding)
    return report


def _verify_segment(
    directory: str, extent: Extent, report: VerifyReport, read: Callable[[int], object]
) -> Finding | None:
    try:
        descriptor = open_segment(os.path.join(directory, segment_name(extent.number)))
    except FileNotFoundError:
        raise
    except (OSError, Foreign):
        return extent.finding or Finding(extent.number, "unreadable", 0, 0)
    try:
        size = os.fstat(descriptor).st_size
        for record in records(descriptor, extent.start, size):
            report.records += 1
            report.items += record.items
            report.size_bytes += record.end - record.start
            read(record.end - record.start)
    except Damaged as damage:
        return Finding(extent.number, "cut off" if damage.torn else "damaged", damage.offset, size - damage.offset)
    except OSError:
        return Finding(extent.number, "unreadable", extent.start, extent.end - extent.start)
    finally:
        os.close(descriptor)
    return None


def waiting(directory: str, signals: Sequence[Signal]) -> Iterator[Batch | Unreadable]:
    """Every batch that is not acknowledged, oldest first within a signal, and what cannot be read where it stands."""
    for signal in signals:
        stream = os.path.join(directory, signal)
        found = _scan(stream)
        for extent in found.segments if found is not None else ():
            if extent.finding is not None and extent.finding.fault != "cut off":
                yield Unreadable(signal, extent.number, extent.finding.fault)
            try:
                for payload, items, _ in pieces(stream, extent):
                    yield Batch(signal, payload, items)
            except FileNotFoundError:
                continue
            except (OSError, Foreign, Damaged) as error:
                if extent.finding is None:
                    yield Unreadable(signal, extent.number, str(error))
