"""What is done to spans on their way, where they cannot be read."""

import pytest
from trace_payloads import request, span

from novel_agent.config.schema import Redaction, Traces
from novel_agent.model.batch import Batch
from novel_agent.runtime.spans import SpanPipeline
from novel_agent.wire.protobuf import WireError

NOW = 1_790_000_000.0
GOOD = request(span(1, 1, "good", user__email="once@example.org"))
CUT_OFF = b"\x0a\x15\x12\x13\x12\x11\x4a\x20jane@example.or"
"""A request of one span, with an attribute that says it is longer than the span."""


def test_what_is_to_be_redacted_and_cannot_be_read_is_an_error_and_nothing_is_counted():
    pipeline = SpanPipeline(Traces(redact=Redaction(patterns=("email",)), span_metrics=True))
    with pytest.raises(WireError):
        pipeline.look(Batch("traces", GOOD + CUT_OFF, 2), NOW)
    assert (pipeline.edited, pipeline.dropped) == (0, {})
    assert [each.name for measure in pipeline.measures.values() for each in measure.metrics(NOW) if each.points] == []


def test_what_cannot_be_counted_is_redacted_all_the_same():
    pipeline = SpanPipeline(Traces(redact=Redaction(patterns=("email",)), span_metrics=True))
    unread = b"\x0a\x08\x12\x06\x12\x04\x4a\x05ab"
    looked = pipeline.look(Batch("traces", GOOD + unread, 2), NOW)
    assert looked.payload.endswith(unread)
    assert b"once@example.org" not in looked.payload
    assert (pipeline.edited, looked.items) == (1, 2)


def test_what_is_only_measured_and_cannot_be_read_passes_as_it_came():
    pipeline = SpanPipeline(Traces(span_metrics=True))
    batch = Batch("traces", GOOD + CUT_OFF, 2)
    assert pipeline.look(batch, NOW) is batch
