"""Spans of one request are worked on in slices, between which others have their turn."""

import tracemalloc

from novel_agent.config.schema import AttributeLimits, Redaction, Traces
from novel_agent.model.batch import Batch
from novel_agent.runtime.spans import SpanPipeline
from novel_agent.wire.protobuf import length_delimited

NOW = 1_790_000_000.0


def empty_spans(count):
    return length_delimited(1, length_delimited(2, b"\x12\x00" * count))


def looked_at(pipeline, payload, items):
    """How often it yielded, and what came of it."""
    looking = pipeline.looking(Batch("traces", payload, items), NOW)
    turns = 0
    while True:
        try:
            next(looking)
        except StopIteration as end:
            return turns, end.value
        turns += 1


def calls(pipeline):
    return sum(point.value for measure in pipeline.measures.values() for point in measure.metrics(NOW)[0].points)


def test_many_spans_are_counted_in_slices():
    pipeline = SpanPipeline(Traces(span_metrics=True))
    payload = empty_spans(20_000)
    turns, batch = looked_at(pipeline, payload, 20_000)
    assert turns == 39
    assert batch.payload is payload
    assert calls(pipeline) == 20_000


def test_so_are_many_resources_of_one_span():
    pipeline = SpanPipeline(Traces(span_metrics=True))
    assert looked_at(pipeline, empty_spans(1) * 4_000, 4_000)[0] == 29
    assert calls(pipeline) == 4_000


def test_a_usual_request_is_done_at_once():
    pipeline = SpanPipeline(Traces(span_metrics=True, service_graph=True))
    assert looked_at(pipeline, empty_spans(100), 100)[0] == 0


def test_with_redaction_all_are_read_before_any_is_counted():
    pipeline = SpanPipeline(Traces(span_metrics=True, redact=Redaction(patterns=("email",))))
    assert looked_at(pipeline, empty_spans(2_000), 2_000)[0] == 6
    assert calls(pipeline) == 2_000


def test_what_is_decoded_at_once_stays_small():
    pipeline = SpanPipeline(Traces(span_metrics=True, service_graph=True))
    payload = empty_spans(50_000)
    tracemalloc.start()
    try:
        looked_at(pipeline, payload, 50_000)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def mails(spans, text):
    name = b"mail to " + text
    return length_delimited(1, length_delimited(2, length_delimited(2, length_delimited(5, name)) * spans))


def test_spans_are_edited_in_slices():
    pipeline = SpanPipeline(Traces(redact=Redaction(patterns=("email",)), limits=AttributeLimits(value_length=5)))
    turns, batch = looked_at(pipeline, mails(4_000, b"ann@example.org"), 4_000)
    assert turns == 9
    assert batch.payload == mails(4_000, b"[redacted]")
    assert pipeline.edited == 4_000


def test_two_requests_may_be_edited_at_a_time():
    pipeline = SpanPipeline(Traces(redact=Redaction(patterns=("email", "card"))))
    mail = Batch("traces", mails(2_000, b"ann@example.org"), 2_000)
    card = Batch("traces", mails(2_000, b"4111111111111111"), 2_000)
    going = [pipeline.looking(each, NOW) for each in (mail, card)]
    results = []
    while going:
        for each in going[:]:
            try:
                next(each)
            except StopIteration as end:
                results.append(end.value.payload)
                going.remove(each)
    assert results == [mails(2_000, b"[redacted]")] * 2
    assert pipeline.edited == 4_000
