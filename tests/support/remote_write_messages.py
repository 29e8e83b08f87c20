"""Prometheus's remote-write messages for protobuf's own decoder: what the encoder writes is read by somebody else.

The field numbers are those of prompb/remote.proto, prompb/types.proto and prompb/io/prometheus/write/v2/types.proto.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_SCALARS = {"string": 9, "double": 1, "int64": 3, "uint32": 13, "int32": 5}


def _message(name: str, *fields: tuple[int, str, str, bool]) -> descriptor_pb2.DescriptorProto:
    message = descriptor_pb2.DescriptorProto(name=name)
    for number, field, kind, repeated in fields:
        one = message.field.add(name=field, number=number, label=3 if repeated else 1)
        if kind in _SCALARS:
            one.type = _SCALARS[kind]
        else:
            one.type, one.type_name = 11, kind
    return message


def _classes(package: str, *messages: descriptor_pb2.DescriptorProto) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    file.message_type.extend(messages)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{message.name}"))
        for message in messages
    }


_ONE = _classes(
    "prometheus",
    _message("Label", (1, "name", "string", False), (2, "value", "string", False)),
    _message("Sample", (1, "value", "double", False), (2, "timestamp", "int64", False)),
    _message("TimeSeries", (1, "labels", ".prometheus.Label", True), (2, "samples", ".prometheus.Sample", True)),
    _message(
        "MetricMetadata",
        (1, "type", "int32", False),
        (2, "metric_family_name", "string", False),
        (4, "help", "string", False),
        (5, "unit", "string", False),
    ),
    _message(
        "WriteRequest",
        (1, "timeseries", ".prometheus.TimeSeries", True),
        (3, "metadata", ".prometheus.MetricMetadata", True),
    ),
)
_TWO = _classes(
    "write.v2",
    _message("Sample", (1, "value", "double", False), (2, "timestamp", "int64", False)),
    _message(
        "Metadata", (1, "type", "int32", False), (3, "help_ref", "uint32", False), (4, "unit_ref", "uint32", False)
    ),
    _message(
        "TimeSeries",
        (1, "labels_refs", "uint32", True),
        (2, "samples", ".write.v2.Sample", True),
        (5, "metadata", ".write.v2.Metadata", False),
    ),
    _message("Request", (4, "symbols", "string", True), (5, "timeseries", ".write.v2.TimeSeries", True)),
)

WriteRequest = _ONE["WriteRequest"]
Request = _TWO["Request"]
