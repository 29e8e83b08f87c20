"""Metrics from elsewhere, decoded (opentelemetry-proto, metrics/v1). The agent's own readings are `model.metric`."""

from typing import Literal, NamedTuple

import msgspec

from novel_agent.model.value import Attributes, Origin

PointKind = Literal["gauge", "sum", "histogram", "exponential_histogram", "summary"]
UNSPECIFIED, DELTA, CUMULATIVE = 0, 1, 2
"""Aggregation temporality."""

NO_RECORDED_VALUE = 1
"""Bit of `flags`: the series has ended; there is no value."""


class Exemplar(msgspec.Struct, kw_only=True):
    """A sample measurement, with the span in which it was made."""

    time_unix_nano: int = 0
    value: int | float = 0
    trace_id: bytes = b""
    span_id: bytes = b""
    attributes: Attributes = msgspec.field(default_factory=dict)


class Point(msgspec.Struct, kw_only=True):
    """What every data point has; times in nanoseconds since the epoch, `start_unix_nano` 0 where unknown."""

    attributes: Attributes = msgspec.field(default_factory=dict)
    start_unix_nano: int = 0
    time_unix_nano: int = 0
    flags: int = 0
    exemplars: list[Exemplar] = msgspec.field(default_factory=list)


class NumberPoint(Point, kw_only=True):
    """Of a gauge or a sum; None where no value was written."""

    value: int | float | None = None


class HistogramPoint(Point, kw_only=True):
    """`counts` has one more member than `bounds`, or both are empty. `total` is the sum, None where it was not kept."""

    count: int = 0
    total: float | None = None
    counts: list[int] = msgspec.field(default_factory=list)
    bounds: list[float] = msgspec.field(default_factory=list)
    minimum: float | None = None
    maximum: float | None = None


class Buckets(msgspec.Struct, kw_only=True):
    """Bucket `index` of base 2**(2**-scale): values in (base**(offset+index), base**(offset+index+1)]."""

    offset: int = 0
    counts: list[int] = msgspec.field(default_factory=list)


class ExponentialHistogramPoint(Point, kw_only=True):
    """A histogram whose bounds are powers of 2**(2**-scale)."""

    count: int = 0
    total: float | None = None
    scale: int = 0
    zero_count: int = 0
    zero_threshold: float = 0.0
    positive: Buckets = msgspec.field(default_factory=Buckets)
    negative: Buckets = msgspec.field(default_factory=Buckets)
    minimum: float | None = None
    maximum: float | None = None


class SummaryPoint(Point, kw_only=True):
    """`quantiles` are pairs of quantile (0–1) and value."""

    count: int = 0
    total: float = 0.0
    quantiles: list[tuple[float, float]] = msgspec.field(default_factory=list)


AnyPoint = NumberPoint | HistogramPoint | ExponentialHistogramPoint | SummaryPoint


class Metric(msgspec.Struct, kw_only=True):
    """One metric and its points. `temporality` is UNSPECIFIED for gauges and summaries, `monotonic` is said of sums only."""

    name: str
    description: str = ""
    unit: str = ""
    kind: PointKind = "gauge"
    temporality: int = UNSPECIFIED
    monotonic: bool = False
    points: list[AnyPoint] = msgspec.field(default_factory=list)
    metadata: Attributes = msgspec.field(default_factory=dict)


class MetricGroup(NamedTuple):
    """The metrics of one scope of one resource.

    `raw` holds the content of each metric's message, in the same order; the two last are as in `RawGroup`, for `assemble`.
    What is made by hand has neither.
    """

    origin: Origin
    metrics: list[Metric]
    raw: list[memoryview]
    resource_fields: bytes = b""
    scope_fields: bytes = b""
