"""Sends single OTLP/HTTP requests, and makes small ones of metrics and logs; of traces: `trace_payloads`."""

import time
import urllib.error
import urllib.request
from email.message import Message
from typing import Any, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from trace_payloads import pairs


class Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


def post(port: int, signal: str, body: bytes, **headers: str) -> Answer:
    """The answer, whatever its status; in names of headers `_` is a dash."""
    named = {
        "Content-Type": "application/x-protobuf",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/{signal}", body, named)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as answer:
        with answer:
            return Answer(answer.code, answer.headers, answer.read())


def gauge(name: str, value: float, unit: str = "", *, service: str = "novel-engine", **attributes: Any) -> bytes:
    """A request with one point of a gauge, now."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.extend(pairs({"service.name": service}))
    metric = resource.scope_metrics.add().metrics.add(name=name, unit=unit)
    point = metric.gauge.data_points.add(as_double=value, time_unix_nano=time.time_ns())
    point.attributes.extend(pairs({key.replace("__", "."): each for key, each in attributes.items()}))
    return request.SerializeToString()


def counter(name: str, value: int, unit: str = "", *, service: str = "novel-engine", **attributes: Any) -> bytes:
    """A request with one point of a cumulative monotonic sum, now."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.extend(pairs({"service.name": service}))
    metric = resource.scope_metrics.add().metrics.add(name=name, unit=unit)
    metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2
    now = time.time_ns()
    point = metric.sum.data_points.add(as_int=value, start_time_unix_nano=now - 10**9, time_unix_nano=now)
    point.attributes.extend(pairs({key.replace("__", "."): each for key, each in attributes.items()}))
    return request.SerializeToString()


def log_records(*bodies: str, severity: int = 9, service: str = "novel-engine") -> bytes:
    """A request with a record for each body, now."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.extend(pairs({"service.name": service}))
    records = resource.scope_logs.add().log_records
    for body in bodies:
        records.add(time_unix_nano=time.time_ns(), severity_number=severity).body.string_value = body
    return request.SerializeToString()
