"""Blocks to Prometheus remote write, 1.0 (prometheus.WriteRequest) and 2.0 (io.prometheus.write.v2.Request).

Sources: prometheus.io/docs/specs/prw/remote_write_spec and remote_write_spec_2_0, prompb/remote.proto, prompb/types.proto and
prompb/io/prometheus/write/v2/types.proto of Prometheus 3.

What waits for a remote-write destination is pieces of a 1.0 request: whole occurrences of its fields 1 (a series with its
sample) and 3 (what a family is), which are joined by concatenating them, as OTLP's are. `RemoteWriteEncoder` makes them from
the blocks that /metrics shows, under the same names. 1.0 sends them as they are; `Version2` turns them into a 2.0 request,
whose table of symbols cannot be joined.

A shape is compiled once: all but value and time, both of fixed width, becomes constant pieces, and encoding a block is one
`Struct.pack`. Units are left out: those of `Family` are UCUM and for OpenTelemetry, and /metrics shows none.
"""

import math
import re
import struct
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, Kind, Label, Number, Series, Shape
from novel_agent.wire.prometheus_text import canonical_bound
from novel_agent.wire.protobuf import (
    FIXED64,
    LENGTH_DELIMITED,
    VARINT,
    WireValue,
    fields,
    integer,
    length_delimited,
    tag,
    text,
    varint,
)

STALE_MARKER = (0x7FF0_0000_0000_0002).to_bytes(8, "little")
"""The NaN that says that a series has ended (model/value/value.go of Prometheus)."""

_KINDS: dict[Kind, int] = {
    "untyped": 0,
    "counter": 1,
    "gauge": 2,
    "updowncounter": 2,
    "histogram": 3,
    "summary": 5,
}
"""MetricMetadata.MetricType; the numbers of 2.0 are the same."""

_POINT_LABELS: dict[Kind, str] = {"histogram": "le", "summary": "quantile"}
"""Their values are written as Prometheus 3 stores them when it scrapes, whatever the page has: `1.0`."""

_SUFFIXES = (b"_bucket", b"_sum", b"_count")
_SURROGATES = re.compile("[\ud800-\udfff]+")
_VALUE_TAG = tag(1, FIXED64)
_TIME_TAG = tag(2, VARINT)
_VALUE_BYTES = 8
_SAMPLE_START = b"\x12\x10\x09"
_SAMPLE_BYTES = 18
"""A sample with a time between the years 1971 and 2109, as a field of its series."""


class RemoteWriteEncoder:
    """Makes batches of the readings of one host, and tells which series have ended.

    Not for more than one thread. A second destination gets the same batch.
    """

    def __init__(self) -> None:
        self._live: dict[Shape, _Template] = {}
        self._external: tuple[Label, ...] = ()

    def encode(self, blocks: Iterable[Block], time_unix_nano: int, external_labels: Sequence[Label] = ()) -> Batch:
        """One whole reading, with a stale marker for each series that the last one had and this has not.

        `external_labels` (job, instance) are added to the series that have none of that name. `items` counts samples,
        stale markers included. ValueError where a block has another number of values than series.
        """
        before = self._live
        known = before if self._external == tuple(external_labels) else {}
        self._external = tuple(external_labels)
        time = _TIME_TAG + varint(time_unix_nano // 1_000_000)
        live: dict[Shape, _Template] = {}
        parts: list[bytes] = []
        items = 0
        for block in blocks:
            shape = block.shape
            template = known.get(shape)
            if template is None or template.time_bytes != len(time):
                template = _Template(shape, self._external, len(time))
            live[shape] = template
            parts.append(template.metadata)
            parts.append(template.fill(tuple(block.values), time))
            items += len(shape)
        self._live = live
        ended = _ended(before, live)
        parts.extend(_series(labels, STALE_MARKER, time) for labels in ended)
        return Batch("metrics", b"".join(parts), items + len(ended))


class _Template:
    """A shape's request with holes for the values and times. `labels` are the encoded labels of each series."""

    __slots__ = ("_arguments", "_pack", "_size", "labels", "metadata", "time_bytes")

    def __init__(self, shape: Shape, external_labels: tuple[Label, ...], time_bytes: int) -> None:
        self.labels = [_labels(series, external_labels) for series in shape.series]
        self.metadata = b"".join([_metadata(family) for family, _ in groupby(shape.series, key=_family)])
        self.time_bytes = time_bytes
        pieces = [_series_start(labels, time_bytes) for labels in self.labels]
        self._size = len(pieces)
        self._pack = struct.Struct("<" + "".join([f"{len(piece)}sd{time_bytes}s" for piece in pieces])).pack
        self._arguments: list[bytes | Number] = [b""] * (3 * len(pieces))
        self._arguments[::3] = pieces

    def fill(self, values: tuple[Number, ...], time: bytes) -> bytes:
        if len(values) != self._size:
            raise ValueError(f"{len(values)} values for {self._size} series")
        self._arguments[1::3] = values
        self._arguments[2::3] = [time] * self._size
        try:
            return self._pack(*self._arguments)
        except (OverflowError, struct.error):  # an integer beyond a float's range
            return self.fill(tuple(map(_as_double, values)), time)


def _family(series: Series) -> Family:
    return series.family


def _as_double(value: Number) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _labels(series: Series, external_labels: tuple[Label, ...]) -> bytes:
    """The labels of a series, sorted, none of them empty, as the specification demands."""
    labels = {**dict(external_labels), **dict(series.labels), "__name__": series.family.name + series.suffix}
    point = _POINT_LABELS.get(series.family.kind, "")
    if labels.get(point):
        labels[point] = canonical_bound(float(labels[point]))
    return b"".join(
        [
            length_delimited(1, text(1, _valid(name)) + text(2, _valid(value)))
            for name, value in sorted(labels.items())
            if value
        ]
    )


def _valid(content: str) -> str:
    """As /metrics shows names of files that are not UTF-8."""
    return _SURROGATES.sub("\ufffd", content)


def _metadata(family: Family) -> bytes:
    about = integer(1, _KINDS[family.kind]) + text(2, family.name) + text(4, _valid(family.help))
    return length_delimited(3, about)


def _series_start(labels: bytes, time_bytes: int) -> bytes:
    """A TimeSeries up to the value of its one sample."""
    sample_size = len(_VALUE_TAG) + _VALUE_BYTES + time_bytes
    start = labels + tag(2, LENGTH_DELIMITED) + varint(sample_size)
    return tag(1, LENGTH_DELIMITED) + varint(len(start) + sample_size) + start + _VALUE_TAG


def _series(labels: bytes, value: bytes, time: bytes) -> bytes:
    return _series_start(labels, len(time)) + value + time


def _ended(before: "dict[Shape, _Template]", live: "dict[Shape, _Template]") -> list[bytes]:
    """The labels of the series that are in no live shape any more."""
    replaced = [template for shape, template in before.items() if live.get(shape) is not template]
    if not replaced:
        return []
    still = {labels for template in live.values() for labels in template.labels}
    return [labels for template in replaced for labels in template.labels if labels not in still]


class _Compiled(NamedTuple):
    """What repeats from one 2.0 request to the next: the symbols, and of each series all but its samples.

    `words` are the label names and values of each series, by its labels as encoded for 1.0.
    """

    key: tuple[tuple[bytes, ...], tuple[bytes, ...]]
    symbols: bytes
    starts: list[bytes]
    words: dict[bytes, tuple[bytes, ...]]


class Version2:
    """Turns what `RemoteWriteEncoder` made into 2.0 requests; keeps the symbols of the last one, which mostly come again.

    Samples of one series become one TimeSeries, in the order in which they stand. May be used by several threads.
    """

    def __init__(self) -> None:
        self._last = _Compiled(((), ()), b"", [], {})

    def request(self, payload: bytes) -> bytes:
        """The request; WireError where the payload is no piece of a 1.0 request."""
        samples: dict[bytes, list[bytes]] = {}
        families: dict[bytes, None] = {}
        for number, wire_type, value in fields(payload):
            if (number, wire_type) == (1, LENGTH_DELIMITED):
                labels, sample = _split(_bytes(value))
                samples.setdefault(labels, []).append(sample)
            elif (number, wire_type) == (3, LENGTH_DELIMITED):
                families[_bytes(value)] = None
        key = tuple(samples), tuple(families)
        compiled = self._last
        if compiled.key != key:
            compiled = self._last = _compile(key, compiled.words)
        parts = [compiled.symbols]
        for start, of_series in zip(compiled.starts, samples.values(), strict=True):
            sample = of_series[0] if len(of_series) == 1 else b"".join(of_series)
            parts.append(length_delimited(5, start, sample))
        return b"".join(parts)


def _bytes(value: WireValue) -> bytes:
    assert isinstance(value, memoryview)
    return bytes(value)


def _split(series: bytes) -> tuple[bytes, bytes]:
    """The labels and the samples of a 1.0 series, each as fields; a sample has the same fields in both versions."""
    sample = series[-_SAMPLE_BYTES:]
    if sample.startswith(_SAMPLE_START) and sample[-7:-6] == _TIME_TAG:
        return series[:-_SAMPLE_BYTES], sample
    labels: list[bytes] = []
    samples: list[bytes] = []
    for number, wire_type, value in fields(series):
        if wire_type == LENGTH_DELIMITED and number in {1, 2}:
            (labels if number == 1 else samples).append(length_delimited(number, _bytes(value)))
    return b"".join(labels), b"".join(samples)


def _compile(
    key: tuple[tuple[bytes, ...], tuple[bytes, ...]], known_words: dict[bytes, tuple[bytes, ...]]
) -> _Compiled:
    symbols: dict[bytes, int] = {b"": 0}
    about = {name: (kind, help_text) for name, kind, help_text in map(_read_metadata, key[1])}
    words = {labels: known_words.get(labels) or _words(labels) for labels in key[0]}
    starts = []
    for of_series in words.values():
        references = [symbols.setdefault(word, len(symbols)) for word in of_series]
        kind, help_text = _of_family(about, of_series)
        metadata = integer(1, kind) + integer(3, symbols.setdefault(help_text, len(symbols)))
        starts.append(length_delimited(1, *map(varint, references)) + length_delimited(5, metadata))
    return _Compiled(key, b"".join([length_delimited(4, symbol) for symbol in symbols]), starts, words)


def _words(labels: bytes) -> tuple[bytes, ...]:
    """Name, value, name, value … of labels as encoded for 1.0."""
    return tuple(word for number, _, value in fields(labels) if number == 1 for word in _read_strings(value))


def _read_strings(message: WireValue) -> tuple[bytes, bytes]:
    """Fields 1 and 2 of a message of two strings."""
    assert isinstance(message, memoryview)
    content = {number: value for number, wire_type, value in fields(message) if wire_type == LENGTH_DELIMITED}
    return bytes(content.get(1, b"")), bytes(content.get(2, b""))


def _read_metadata(message: bytes) -> tuple[bytes, int, bytes]:
    """Family name, type and help of a MetricMetadata."""
    name = help_text = b""
    kind = 0
    for number, wire_type, value in fields(message):
        if (number, wire_type) == (1, VARINT):
            assert isinstance(value, int)
            kind = value
        elif (number, wire_type) == (2, LENGTH_DELIMITED):
            name = _bytes(value)
        elif (number, wire_type) == (4, LENGTH_DELIMITED):
            help_text = _bytes(value)
    return name, kind, help_text


def _of_family(about: dict[bytes, tuple[int, bytes]], words: tuple[bytes, ...]) -> tuple[int, bytes]:
    """Type and help of the family that a series of these labels belongs to; of one that has ended they may be unknown."""
    name = words[words.index(b"__name__") + 1] if b"__name__" in words else b""
    if name in about:
        return about[name]
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and name.removesuffix(suffix) in about:
            return about[name.removesuffix(suffix)]
    return 0, b""
