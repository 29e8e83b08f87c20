"""What travels from an input to an output: encoded bytes and a count."""

from typing import Literal

import msgspec

Signal = Literal["metrics", "logs", "traces"]
SIGNALS: tuple[Signal, ...] = ("metrics", "logs", "traces")


class Batch(msgspec.Struct, frozen=True):
    """A piece of an OTLP export request.

    `payload` holds whole occurrences of field 1 of ExportMetrics-, ExportLogs- or ExportTraceServiceRequest
    (`resource_metrics`, `resource_logs`, `resource_spans`) in protobuf wire format, so two batches of a signal are
    joined by concatenating them and nothing on the way needs to decode. `items` counts data points, log records or spans.
    """

    signal: Signal
    payload: bytes
    items: int
