"""Log records to the body of Loki's push API, as JSON.

Source: grafana.com/docs/loki "Loki HTTP API" (POST /loki/api/v1/push), and Loki's own translation of OTLP, whose choices are
followed: dots in names become underscores, what is no stream label is structured metadata, which needs Loki 3.

JSON, because msgspec writes it faster than Python writes the protobuf that promtail sends (see
docs/explanation/other-outputs.md), and because every proxy and copy of Loki reads it.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from novel_agent.model.log import LogGroup, LogRecord
from novel_agent.model.value import Attributes, Value, as_text

MOST_LABELS = 15
LONGEST_LABEL_VALUE_BYTES = 2048
MOST_METADATA = 128
MOST_METADATA_BYTES = 64_000
"""Loki's limits as shipped. What is beyond them would cost the whole line, so it is cut or left out."""

_UNKNOWN = {"service_name": "unknown_service"}
"""The label of a stream that has none of the configured ones: Loki wants one."""

_LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")

Stream = tuple[tuple[str, str], ...]


def encode_push(groups: Iterable[LogGroup], labels: Sequence[str], now_unix_nano: int) -> bytes:
    """The body that pushes these records.

    `labels` names the attributes, of the resource or else of the record, that become stream labels; further ones than Loki
    takes are structured metadata like the rest. A record without any time has the time `now_unix_nano`.
    """
    streams: dict[Stream, list[tuple[str, str, dict[str, str]]]] = {}
    wanted = labels[:MOST_LABELS]
    for group in groups:
        _add(streams, group, wanted, now_unix_nano)
    pushed = [{"stream": dict(stream) or _UNKNOWN, "values": values} for stream, values in streams.items()]
    return msgspec.json.encode({"streams": pushed})


def _add(
    streams: dict[Stream, list[tuple[str, str, dict[str, str]]]],
    group: LogGroup,
    wanted: Sequence[str],
    now_unix_nano: int,
) -> None:
    origin = group.origin
    resource = origin.resource
    of_resource = tuple((label_name(name), _label_value(resource[name])) for name in wanted if resource.get(name))
    of_records = [name for name in wanted if not resource.get(name)]
    shared = _metadata({name: value for name, value in resource.items() if name not in wanted})
    if origin.scope:
        shared["scope_name"] = origin.scope
    if origin.scope_version:
        shared["scope_version"] = origin.scope_version
    for record in group.records:
        attributes, stream = record.attributes, of_resource
        if of_records and any(attributes.get(name) for name in of_records):
            own = [name for name in of_records if attributes.get(name)]
            stream += tuple((label_name(name), _label_value(attributes[name])) for name in own)
            attributes = {name: value for name, value in attributes.items() if name not in own}
        time_unix_nano = record.time_unix_nano or record.observed_unix_nano or now_unix_nano
        entry = str(time_unix_nano), as_text(record.body), _bounded(_of_record(record, attributes), shared)
        streams.setdefault(stream, []).append(entry)


def _of_record(record: LogRecord, attributes: Attributes) -> dict[str, str]:
    """The structured metadata of a record's own; what the record states by itself comes before an attribute of that name."""
    metadata = {}
    if level := level_of(record):
        metadata["level"] = level
    if len(record.trace_id) == 16:
        metadata["trace_id"] = record.trace_id.hex()
    if len(record.span_id) == 8:
        metadata["span_id"] = record.span_id.hex()
    if record.event_name:
        metadata["event_name"] = record.event_name
    return {**_metadata(attributes), **metadata} if attributes else metadata


def level_of(record: LogRecord) -> str:
    """The severity as Loki and Grafana name it: by its number, else its text; empty where it has neither."""
    if 1 <= record.severity_number <= 24:
        return _LEVELS[(record.severity_number - 1) // 4]
    return record.severity_text.lower()


def _metadata(attributes: Attributes) -> dict[str, str]:
    return {label_name(name): as_text(value) for name, value in attributes.items()}


def _bounded(own: dict[str, str], shared: dict[str, str]) -> dict[str, str]:
    """The two together, as far as Loki takes them; the record's own wins and comes first."""
    both = {**own, **{name: value for name, value in shared.items() if name not in own}} if shared else own
    size = sum(map(len, both)) + sum(map(len, both.values()))
    if len(both) <= MOST_METADATA and 4 * size <= MOST_METADATA_BYTES:  # a character is four bytes at most
        return both
    kept: dict[str, str] = {}
    left = MOST_METADATA_BYTES
    for name, value in both.items():
        size = len(name) + len(value.encode("utf-8", "replace"))
        if len(kept) < MOST_METADATA and size <= left:
            kept[name] = value
            left -= size
    return kept


def _label_value(value: Value) -> str:
    shown = as_text(value)
    if len(shown) * 4 <= LONGEST_LABEL_VALUE_BYTES:
        return shown
    return shown.encode("utf-8", "replace")[:LONGEST_LABEL_VALUE_BYTES].decode("utf-8", "ignore")


def label_name(name: str) -> str:
    """The name as Loki takes it: letters, digits and underscores, no digit first."""
    return _known_label_name(name) if len(name) <= _LONGEST_KNOWN_NAME else _label_name(name)


def _label_name(name: str) -> str:
    valid = _NOT_IN_NAMES.sub("_", name)
    return f"key_{valid}" if not valid or valid[0].isdigit() else valid


_known_label_name = lru_cache(maxsize=1024)(_label_name)
_LONGEST_KNOWN_NAME = 128
