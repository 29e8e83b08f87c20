"""Blocks to OTLP metrics in protobuf (opentelemetry-proto 1.11: metrics/v1, common/v1, resource/v1).

A shape is compiled once: everything but the numbers (names, units, attributes, lengths, start times) becomes fixed pieces of
bytes, because a number data point's times and value are fixed64, double or sfixed64 and so never change a length. Encoding
a block is then one `Struct.pack` of piece, value, time, piece, value, time, … Of the ways measured (joining bytes,
%-formatting, pack_into a copied template) it is the fastest: about 15 µs for 500 points.

Rules:

- counter → Sum, cumulative and monotonic; updowncounter → Sum, cumulative; gauge and untyped → Gauge. Histograms and
  summaries are not number data points and are refused.
- An int goes out as as_int, a float as as_double, one type a metric: where one series of a metric is a float (or an int
  beyond 64 bits) all of them are, and a metric that was a float once stays one for as long as its `StartTimes` live.
- Attribute values are strings; those named in `INTEGER_ATTRIBUTES` and `BOOLEAN_ATTRIBUTES`, which the conventions declare
  so, become int and bool where their text is one (`cpu.logical_number="total"` stays a string).
- Times are nanoseconds since the epoch.
"""

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import itemgetter, lt
from typing import NamedTuple

from novel_agent import __version__
from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, Kind, Label, Number, Series, Shape
from novel_agent.model.resource import Resource
from novel_agent.wire.protobuf import FIXED64, LENGTH_DELIMITED, integer, length_delimited, tag, text, varint

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SCOPE_NAME = "novel-engine-agent"

INTEGER_ATTRIBUTES = frozenset(
    {
        "client.port",
        "cpu.logical_number",
        "destination.port",
        "host.cpu.cache.l2.size",
        "http.response.status_code",
        "network.local.port",
        "network.peer.port",
        "process.group_leader.pid",
        "process.parent_pid",
        "process.pid",
        "process.session_leader.pid",
        "process.vpid",
        "server.port",
        "source.port",
        "thread.id",
    }
)
BOOLEAN_ATTRIBUTES = frozenset({"otel.metric.overflow", "process.interactive"})

_FORGET_AFTER_NANOS = 3_600_000_000_000
_MOST_FORGETTABLE = 10_000

_START_TAG = tag(2, FIXED64)
_TIME_TAG = tag(3, FIXED64)
_DOUBLE_TAG = tag(4, FIXED64)
_INTEGER_TAG = tag(6, FIXED64)
_FIXED_FIELD_SIZE_BYTES = 9
_TEMPORALITY_CUMULATIVE = integer(2, 2)
_MONOTONIC = integer(3, 1)

_SCOPE = length_delimited(1, text(1, SCOPE_NAME), text(2, __version__)) + text(3, SCHEMA_URL)
_RESOURCE_SCHEMA = text(3, SCHEMA_URL)


def encode_metrics(resource: bytes, blocks: Iterable[Block], time_unix_nano: int, starts: "StartTimes") -> Batch:
    """One reading of one source as a ResourceMetrics; an empty batch where there are no points.

    `resource` is what `encode_resource` made. `starts` belongs to the source, and `blocks` must be its whole reading: a
    series that is not among them has gone.
    """
    starts.begin(time_unix_nano)
    parts: list[bytes] = []
    items = 0
    for shape, values in blocks:
        if shape.series:
            parts.append(starts.encode(shape, tuple(values)))
            items += len(values)
    starts.end()
    if not items:
        return Batch("metrics", b"", 0)
    metrics = length_delimited(2, _SCOPE, *parts)
    return Batch("metrics", length_delimited(1, resource, metrics, _RESOURCE_SCHEMA), items)


def encode_resource(resource: Resource) -> bytes:
    """The `resource` field of ResourceMetrics, ResourceLogs and ResourceSpans."""
    return length_delimited(1, *(length_delimited(1, attribute(label)) for label in resource.attributes))


def attribute(label: Label) -> bytes:
    """The content of a KeyValue."""
    key, value = label
    return text(1, key) + length_delimited(2, _any_value(key, value))


def _any_value(key: str, value: str) -> bytes:
    if key in INTEGER_ATTRIBUTES and (number := _decimal(value)) is not None:
        return integer(3, number)
    if key in BOOLEAN_ATTRIBUTES and value in {"true", "false"}:
        return integer(2, value == "true")
    return length_delimited(1, value.encode("utf-8", "replace"))


def _decimal(value: str) -> int | None:
    """The number that this text is the one decimal writing of (not `007`), within 64 bits."""
    try:
        number = int(value)
    except ValueError:
        return None
    return number if str(number) == value and -(1 << 63) <= number < 1 << 63 else None


class _Remembered(NamedTuple):
    """What is known of a cumulative series from its last reading."""

    start_unix_nano: int
    value: Number
    time_unix_nano: int


class _Template:
    """A compiled shape: the arguments of one `Struct.pack`, three a series (piece, value, time), and where each one began."""

    __slots__ = ("_arguments", "_counters", "_last_counters", "_pack", "_size", "last", "starts", "time_unix_nano")

    def __init__(self, shape: Shape, values: tuple[Number, ...], starts: list[int], fractional: set[str]) -> None:
        pieces, layout = _compile(shape, starts, fractional)
        self._pack = struct.Struct(layout).pack
        self._size = len(pieces)
        self._arguments: list[bytes | Number] = [b""] * (3 * len(pieces))
        self._arguments[::3] = pieces
        self._counters = _picker(
            [index for index, series in enumerate(shape.series) if series.family.kind == "counter"]
        )
        self.starts = starts
        self.last = values
        self._last_counters = self._counters(values)
        self.time_unix_nano = 0

    def advance(self, values: tuple[Number, ...], now_unix_nano: int) -> None:
        """Let counters that fell start anew at the reading before; if the clock was set back since, now."""
        now = self._counters(values)
        if any(map(lt, now, self._last_counters)):
            fallen = set(self._counters(range(self._size)))
            for index, (value, last) in enumerate(zip(values, self.last, strict=True)):
                if index in fallen and value < last:
                    self._restart(index, min(self.time_unix_nano, now_unix_nano))
        self.last = values
        self._last_counters = now

    def _restart(self, index: int, start_unix_nano: int) -> None:
        self.starts[index] = start_unix_nano
        piece = self._arguments[3 * index]
        assert isinstance(piece, bytes)
        self._arguments[3 * index] = piece[:-9] + start_unix_nano.to_bytes(8, "little") + piece[-1:]

    def turn_back(self, time_unix_nano: int) -> None:
        """The clock was set back: nothing may have begun after now."""
        for index, start in enumerate(self.starts):
            if start > time_unix_nano:
                self._restart(index, time_unix_nano)

    def fill(self, values: tuple[Number, ...], time_unix_nano: int) -> bytes:
        """The metrics of the shape; struct.error where a number does not fit its place."""
        arguments = self._arguments
        arguments[1::3] = values
        arguments[2::3] = [_TIME_TAG + time_unix_nano.to_bytes(8, "little")] * self._size
        self.time_unix_nano = time_unix_nano
        return self._pack(*arguments)


class StartTimes:
    """Since when the cumulative series of one source count.

    A series starts at `origin_unix_nano` (boot time for what the kernel counts, the agent's start for its own; 0 where
    unknown, and then at its first reading) if its family had not been read before, else, having joined later, at the reading
    before. When a counter falls it starts at the reading
    before the fall. A series that goes is forgotten an hour later, so that a collector that failed for a while, or a device
    that came back, goes on where it was if it still counts on from there.
    """

    def __init__(self, origin_unix_nano: int) -> None:
        self._origin_unix_nano = origin_unix_nano
        self._time_unix_nano = 0
        self._before_unix_nano = 0
        self._templates: dict[Shape, _Template] = {}
        self._live: dict[tuple[str, tuple[Label, ...]], tuple[_Template, int]] = {}
        self._gone: dict[tuple[str, tuple[Label, ...]], _Remembered] = {}
        self._families: set[str] = set()
        self._fractional: set[str] = set()

    def known(self) -> int:
        """How many cumulative series are known, those that have gone but are not forgotten included."""
        return len(self._live) + len(self._gone)

    def begin(self, time_unix_nano: int) -> None:
        """A reading was taken at this time."""
        if time_unix_nano < self._time_unix_nano:
            for template in self._templates.values():
                template.turn_back(time_unix_nano)
        self._before_unix_nano = min(self._time_unix_nano, time_unix_nano)
        self._time_unix_nano = time_unix_nano

    def encode(self, shape: Shape, values: tuple[Number, ...]) -> bytes:
        """The metrics of one block of the reading; ValueError where a value is missing or no number."""
        if len(values) != len(shape):
            raise ValueError(f"{len(values)} values for {len(shape)} series")
        template = self._templates.get(shape)
        if template is None:
            template = self._adopt(shape, values)
        else:
            template.advance(values, self._time_unix_nano)
        try:
            return template.fill(values, self._time_unix_nano)
        except struct.error:
            return self._widen(shape, values, template)

    def end(self) -> None:
        """Every block of the reading was encoded."""
        for shape in [
            shape for shape, template in self._templates.items() if template.time_unix_nano != self._time_unix_nano
        ]:
            self._retire(shape, self._templates.pop(shape))
        forgotten_before = self._time_unix_nano - _FORGET_AFTER_NANOS
        while self._gone:
            key = next(iter(self._gone))
            if len(self._gone) <= _MOST_FORGETTABLE and self._gone[key].time_unix_nano >= forgotten_before:
                break
            del self._gone[key]

    def _adopt(self, shape: Shape, values: tuple[Number, ...]) -> _Template:
        self._fractional.update(
            series.family.name for series, value in zip(shape.series, values, strict=True) if not _fits_int64(value)
        )
        starts = [
            self._start(series, value) if series.family.kind in {"counter", "updowncounter"} else 0
            for series, value in zip(shape.series, values, strict=True)
        ]
        self._families.update(series.family.name for series in shape.series)
        return self._install(shape, values, starts)

    def _install(self, shape: Shape, values: tuple[Number, ...], starts: list[int]) -> _Template:
        template = self._templates[shape] = _Template(shape, values, starts, self._fractional)
        for index, (series, start) in enumerate(zip(shape.series, starts, strict=True)):
            if start:
                self._live[_identity(series)] = template, index
        return template

    def _start(self, series: Series, value: Number) -> int:
        known = self._recall(_identity(series))
        if known is not None:
            restarted = series.family.kind == "counter" and value < known.value
            start = known.time_unix_nano if restarted else known.start_unix_nano
        elif series.family.name in self._families:
            start = self._before_unix_nano
        else:
            start = self._origin_unix_nano or self._time_unix_nano
        return max(1, min(start, self._time_unix_nano))

    def _recall(self, key: tuple[str, tuple[Label, ...]]) -> _Remembered | None:
        if key in self._live:
            template, index = self._live[key]
            return _Remembered(template.starts[index], template.last[index], template.time_unix_nano)
        return self._gone.pop(key, None)

    def _retire(self, shape: Shape, template: _Template) -> None:
        for index, series in enumerate(shape.series):
            key = _identity(series)
            live = self._live.get(key)
            if live is not None and live[0] is template:
                del self._live[key]
                self._gone[key] = _Remembered(template.starts[index], template.last[index], template.time_unix_nano)

    def _widen(self, shape: Shape, values: tuple[Number, ...], template: _Template) -> bytes:
        """The general path: some value does not fit the integer that its metric was until now."""
        for series, value in zip(shape.series, values, strict=True):
            if not isinstance(value, int | float):
                raise ValueError(f"{series.family.name}: {value!r} is not a number")
            if not _fits_int64(value):
                self._fractional.add(series.family.name)
        wider = self._install(shape, values, template.starts)
        return wider.fill(tuple(map(_as_double, values)), self._time_unix_nano)


def _identity(series: Series) -> tuple[str, tuple[Label, ...]]:
    return series.family.name, series.labels


def _fits_int64(value: Number) -> bool:
    return isinstance(value, int) and -(1 << 63) <= value < 1 << 63


def _as_double(value: Number) -> Number:
    try:
        float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return value


def _picker(indexes: Sequence[int]) -> Callable[[Sequence[Number]], Sequence[Number]]:
    """A function that gives the values at these indexes."""
    if not indexes:
        return lambda values: ()
    if len(indexes) == 1:
        (only,) = indexes
        return lambda values: (values[only],)
    return itemgetter(*indexes)


def _compile(shape: Shape, starts: list[int], fractional: set[str]) -> tuple[list[bytes], str]:
    """The bytes before each value, and the struct layout of all."""
    pieces: list[bytes] = []
    layout = ["<"]
    for family, members in groupby(zip(shape.series, starts, strict=True), key=lambda member: member[0].family):
        value_code, value_tag = ("d", _DOUBLE_TAG) if family.name in fractional else ("q", _INTEGER_TAG)
        points = [_point(series.labels, start) + value_tag for series, start in members]
        pieces.append(_metric_header(family, points) + points[0])
        pieces.extend(points[1:])
        layout.extend(f"{len(piece)}s{value_code}{_FIXED_FIELD_SIZE_BYTES}s" for piece in pieces[-len(points) :])
    return pieces, "".join(layout)


def _point(labels: tuple[Label, ...], start_unix_nano: int) -> bytes:
    """A NumberDataPoint up to its value's tag; value and time follow."""
    content = b"".join([length_delimited(7, attribute(label)) for label in labels])
    if start_unix_nano:
        content += _START_TAG + start_unix_nano.to_bytes(8, "little")
    size = len(content) + 2 * _FIXED_FIELD_SIZE_BYTES
    return tag(1, LENGTH_DELIMITED) + varint(size) + content


def _metric_header(family: Family, points: list[bytes]) -> bytes:
    """A Metric up to its first point: what Sum says of itself stands before its points, so that nothing follows them."""
    field, about = _DATA[family.kind] if family.kind in _DATA else _refuse(family)
    points_size = sum(len(point) + 8 + _FIXED_FIELD_SIZE_BYTES for point in points)
    data = tag(field, LENGTH_DELIMITED) + varint(len(about) + points_size) + about
    content = text(1, family.name) + text(2, family.help) + text(3, family.unit) + data
    return tag(2, LENGTH_DELIMITED) + varint(len(content) + points_size) + content


def _refuse(family: Family) -> tuple[int, bytes]:
    raise ValueError(f"{family.name}: a {family.kind} has no number data points")


_DATA: dict[Kind, tuple[int, bytes]] = {
    "gauge": (5, b""),
    "untyped": (5, b""),
    "counter": (7, _TEMPORALITY_CUMULATIVE + _MONOTONIC),
    "updowncounter": (7, _TEMPORALITY_CUMULATIVE),
}
