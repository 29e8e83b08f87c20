"""Random OTLP messages made by protobuf's own library, and the nouns that each of them must be read as."""

from typing import Any

from hypothesis import strategies as st

from novel_agent.model import log, point, span, value

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["x" * 127, "ü" * 70, "k" * 200]
)
_SCALARS = {
    1: st.floats(),
    3: st.integers(-(2**63), 2**63 - 1),
    4: st.integers(0, 2**64 - 1) | st.integers(0, 300),
    5: st.integers(-(2**31), 2**31 - 1),
    6: st.integers(0, 2**64 - 1),
    7: st.integers(0, 2**32 - 1),
    8: st.booleans(),
    9: _TEXT,
    12: st.binary(max_size=20) | st.just(b"b" * 130),
    13: st.integers(0, 2**32 - 1),
    14: st.integers(0, 5),
    16: st.integers(-(2**63), 2**63 - 1),
    17: st.integers(-(2**31), 2**31 - 1),
}
_OF_PROFILES = {"string_value_strindex", "key_strindex"}


@st.composite
def messages(draw: st.DrawFn, kind: Any, depth: int = 0) -> Any:
    """A message of this protobuf class with any of its fields."""
    message = kind()
    fields = [field for field in kind.DESCRIPTOR.fields if field.name not in _OF_PROFILES]
    most = 12 if depth == 0 else 3
    for field in draw(st.lists(st.sampled_from(fields), max_size=most)):
        if field.message_type is not None:
            if depth < 7:
                part = draw(messages(field.message_type._concrete_class, depth + 1))
                own = getattr(message, field.name)
                if field.is_repeated:
                    own.append(part)
                else:
                    own.CopyFrom(part)
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(_SCALARS[field.type], max_size=4)))
        else:
            setattr(message, field.name, draw(_SCALARS[field.type]))
    return message


def any_value(message: Any) -> value.Value:
    chosen = message.WhichOneof("value")
    if chosen == "array_value":
        return [any_value(each) for each in message.array_value.values]
    if chosen == "kvlist_value":
        return attributes(message.kvlist_value.values)
    return None if chosen is None else getattr(message, chosen)


def attributes(messages: Any) -> value.Attributes:
    return {each.key: any_value(each.value) for each in messages}


def origin(resource_group: Any, scope_group: Any) -> value.Origin:
    return value.Origin(
        resource=attributes(resource_group.resource.attributes),
        scope=scope_group.scope.name,
        scope_version=scope_group.scope.version,
        scope_attributes=attributes(scope_group.scope.attributes),
        resource_schema_url=resource_group.schema_url,
        scope_schema_url=scope_group.schema_url,
        resource_dropped_attributes=resource_group.resource.dropped_attributes_count,
        scope_dropped_attributes=scope_group.scope.dropped_attributes_count,
        entity_refs=tuple(each.SerializeToString() for each in resource_group.resource.entity_refs),
    )


def a_span(message: Any) -> span.Span:
    return span.Span(
        trace_id=message.trace_id,
        span_id=message.span_id,
        parent_span_id=message.parent_span_id,
        trace_state=message.trace_state,
        name=message.name,
        kind=message.kind,
        start_unix_nano=message.start_time_unix_nano,
        end_unix_nano=message.end_time_unix_nano,
        attributes=attributes(message.attributes),
        events=[
            span.SpanEvent(
                time_unix_nano=each.time_unix_nano,
                name=each.name,
                attributes=attributes(each.attributes),
                dropped_attributes=each.dropped_attributes_count,
            )
            for each in message.events
        ],
        links=[
            span.SpanLink(
                trace_id=each.trace_id,
                span_id=each.span_id,
                trace_state=each.trace_state,
                attributes=attributes(each.attributes),
                flags=each.flags,
                dropped_attributes=each.dropped_attributes_count,
            )
            for each in message.links
        ],
        status_code=message.status.code,
        status_message=message.status.message,
        flags=message.flags,
        dropped_attributes=message.dropped_attributes_count,
        dropped_events=message.dropped_events_count,
        dropped_links=message.dropped_links_count,
    )


def a_record(message: Any) -> log.LogRecord:
    return log.LogRecord(
        time_unix_nano=message.time_unix_nano,
        observed_unix_nano=message.observed_time_unix_nano,
        severity_number=message.severity_number,
        severity_text=message.severity_text,
        body=any_value(message.body),
        attributes=attributes(message.attributes),
        trace_id=message.trace_id,
        span_id=message.span_id,
        flags=message.flags,
        event_name=message.event_name,
        dropped_attributes=message.dropped_attributes_count,
    )


def a_metric(message: Any) -> point.Metric:
    metric = point.Metric(
        name=message.name,
        description=message.description,
        unit=message.unit,
        metadata=attributes(message.metadata),
    )
    kind = message.WhichOneof("data")
    if kind is not None:
        data = getattr(message, kind)
        metric.kind = kind
        metric.temporality = getattr(data, "aggregation_temporality", 0)
        metric.monotonic = getattr(data, "is_monotonic", False)
        metric.points = [_POINTS[kind](each) for each in data.data_points]
    return metric


def _common(message: Any) -> dict[str, Any]:
    return {
        "attributes": attributes(message.attributes),
        "start_unix_nano": message.start_time_unix_nano,
        "time_unix_nano": message.time_unix_nano,
        "flags": message.flags,
        "exemplars": [
            point.Exemplar(
                time_unix_nano=each.time_unix_nano,
                value=0 if _chosen(each) is None else _chosen(each),
                trace_id=each.trace_id,
                span_id=each.span_id,
                attributes=attributes(each.filtered_attributes),
            )
            for each in getattr(message, "exemplars", ())
        ],
    }


def _chosen(message: Any) -> int | float | None:
    chosen = message.WhichOneof("value")
    return None if chosen is None else getattr(message, chosen)


def _optional(message: Any, name: str) -> float | None:
    return getattr(message, name) if message.HasField(name) else None


def _distribution(message: Any) -> dict[str, Any]:
    return {
        **_common(message),
        "count": message.count,
        "total": _optional(message, "sum"),
        "minimum": _optional(message, "min"),
        "maximum": _optional(message, "max"),
    }


def _number_point(message: Any) -> point.NumberPoint:
    return point.NumberPoint(**_common(message), value=_chosen(message))


def _histogram_point(message: Any) -> point.HistogramPoint:
    return point.HistogramPoint(
        **_distribution(message), counts=list(message.bucket_counts), bounds=list(message.explicit_bounds)
    )


def _exponential_point(message: Any) -> point.ExponentialHistogramPoint:
    return point.ExponentialHistogramPoint(
        **_distribution(message),
        scale=message.scale,
        zero_count=message.zero_count,
        zero_threshold=message.zero_threshold,
        positive=point.Buckets(offset=message.positive.offset, counts=list(message.positive.bucket_counts)),
        negative=point.Buckets(offset=message.negative.offset, counts=list(message.negative.bucket_counts)),
    )


def _summary_point(message: Any) -> point.SummaryPoint:
    return point.SummaryPoint(
        **_common(message),
        count=message.count,
        total=message.sum,
        quantiles=[(each.quantile, each.value) for each in message.quantile_values],
    )


_POINTS = {
    "gauge": _number_point,
    "sum": _number_point,
    "histogram": _histogram_point,
    "exponential_histogram": _exponential_point,
    "summary": _summary_point,
}
