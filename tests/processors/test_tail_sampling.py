import gc
import math
import random
import tracemalloc
from collections import Counter

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from novel_agent.config.schema import TailRule
from novel_agent.processors.tail_sampling import NO_RULE, NO_TRACE_ID, TailSampler
from novel_agent.wire.protobuf import WireError

A, B, C = (bytes([number]) * 16 for number in (0xAA, 0xBB, 0xCC))
LOW = bytes.fromhex("01020304050607080900000000000001")
SECOND = 1_000_000_000
NOON = 1_700_000_000 * SECOND
ERRORS = TailRule(name="errors", errors=True)
SLOW = TailRule(name="slow", latency_seconds=0.5)
REST = TailRule(name="rest", probability=0.25)
MIB = 1 << 20


def span(trace_id=A, *, start=0.0, seconds=0.1, failed=False, attributes=None, trace_state="", number=1):
    begin = NOON + round(start * SECOND)
    made = Span(
        trace_id=trace_id,
        span_id=number.to_bytes(8, "big"),
        trace_state=trace_state,
        name="GET /",
        start_time_unix_nano=begin,
        end_time_unix_nano=begin + round(seconds * SECOND),
        status=Status(code=Status.STATUS_CODE_ERROR, message="boom") if failed else None,
    )
    for key, value in (attributes or {}).items():
        made.attributes.add(key=key).value.string_value = value
    return made


def request(*spans, service="api", scope="library"):
    whole = ExportTraceServiceRequest()
    resource = whole.resource_spans.add(schema_url="https://example.org/1")
    resource.resource.attributes.add(key="service.name").value.string_value = service
    resource.scope_spans.add(spans=spans).scope.name = scope
    return whole.SerializeToString()


def sampler(*rules, wait=10.0, memory=MIB):
    return TailSampler(rules, wait, memory)


def spans_of(decided):
    whole = ExportTraceServiceRequest()
    for batch in decided.batches:
        whole.MergeFromString(batch.payload)
    return [span for resource in whole.resource_spans for scope in resource.scope_spans for span in scope.spans]


def test_a_trace_waits_for_its_time_from_its_first_span():
    tail = sampler(ERRORS)
    tail.add(request(span()), 100.0, "one")
    tail.add(request(span(failed=True, number=2)), 105.0, "two")
    assert tail.next_decision_at == 110.0
    assert tail.decide(109.9).settled == []
    decided = tail.decide(110.0)
    assert decided.settled == ["one", "two"]
    assert [each.span_id[-1] for each in spans_of(decided)] == [1, 2]
    assert decided.kept == Counter(errors=2)
    assert tail.next_decision_at is None


def test_what_no_rule_takes_is_dropped():
    tail = sampler(ERRORS, SLOW)
    tail.add(request(span(), span(number=2)), 0.0, "one")
    decided = tail.decide(10.0)
    assert decided.batches == []
    assert decided.dropped == Counter({NO_RULE: 2})
    assert decided.settled == ["one"]


def test_what_is_kept_goes_out_unchanged():
    tail = sampler(ERRORS)
    payload = request(span(failed=True), span(number=2, attributes={"k": "v"}))
    tail.add(payload, 0.0, None)
    (batch,) = tail.decide(10.0).batches
    assert (batch.signal, batch.items) == ("traces", 2)
    assert ExportTraceServiceRequest.FromString(batch.payload) == ExportTraceServiceRequest.FromString(payload)


def test_latency_goes_from_the_first_start_to_the_last_end():
    tail = sampler(SLOW)
    tail.add(request(span(A, start=0.0, seconds=0.1), span(A, start=0.4, seconds=0.1)), 0.0, None)
    tail.add(request(span(B, start=0.0, seconds=0.1), span(B, start=0.39, seconds=0.1)), 0.0, None)
    assert {each.trace_id for each in spans_of(tail.decide(10.0))} == {A}


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [({"tier": "gold"}, 1), ({"tier": "marigold"}, 0), ({"tier": "golden"}, 0), ({"other": "gold"}, 0)],
)
def test_an_attribute_is_matched_whole(attributes, kept):
    tail = sampler(TailRule(name="tier", attributes={"tier": "gold|platinum"}))
    tail.add(request(span(attributes=attributes)), 0.0, None)
    assert len(spans_of(tail.decide(10.0))) == kept


def test_an_attribute_may_be_the_resources_and_one_span_has_to_have_all():
    rule = TailRule(name="both", attributes={"service.name": "api", "tier": "gold"})
    tail = sampler(rule)
    tail.add(request(span(A, attributes={"tier": "gold"})), 0.0, None)
    tail.add(request(span(B, attributes={"tier": "gold"}), service="web"), 0.0, None)
    tail.add(request(span(B)), 0.0, None)
    assert {each.trace_id for each in spans_of(tail.decide(10.0))} == {A}


def test_numbers_are_matched_as_text():
    tail = sampler(TailRule(name="server_errors", attributes={"http.response.status_code": "5.."}))
    failed = span()
    failed.attributes.add(key="http.response.status_code").value.int_value = 503
    tail.add(request(failed), 0.0, None)
    assert len(spans_of(tail.decide(10.0))) == 1


def test_every_criterion_of_a_rule_has_to_hold():
    tail = sampler(TailRule(name="slow_errors", errors=True, latency_seconds=1.0))
    tail.add(request(span(A, failed=True), span(B, seconds=2), span(C, failed=True, seconds=1)), 0.0, None)
    assert {each.trace_id for each in spans_of(tail.decide(10.0))} == {C}


def test_the_first_rule_that_takes_a_trace_decides_alone():
    tail = sampler(TailRule(name="noise", attributes={"path": "/health"}, probability=0), ERRORS)
    tail.add(request(span(failed=True, attributes={"path": "/health"})), 0.0, None)
    decided = tail.decide(10.0)
    assert decided.batches == []
    assert decided.dropped == Counter(noise=1)


def test_a_share_is_decided_by_the_trace_id_and_said_in_what_is_kept():
    tail = sampler(ERRORS, REST)
    tail.add(request(span(C), span(LOW), span(A)), 0.0, None)
    decided = tail.decide(10.0)
    assert {each.trace_id: each.trace_state for each in spans_of(decided)} == {C: "ot=th:c"}
    assert (decided.kept, decided.dropped) == (Counter(rest=1), Counter(rest=2))


def test_explicit_randomness_goes_before_the_trace_ids():
    tail = sampler(REST)
    tail.add(request(span(LOW, trace_state="ot=rv:f0000000000000")), 0.0, None)
    assert [each.trace_state for each in spans_of(tail.decide(10.0))] == ["ot=rv:f0000000000000;th:c"]


def test_spans_that_come_late_follow_the_decision_at_once():
    tail = sampler(ERRORS)
    tail.add(request(span(A, failed=True), span(B)), 0.0, 1)
    tail.decide(10.0)
    tail.add(request(span(A, number=2), span(B, number=2, failed=True)), 11.0, 2)
    assert tail.next_decision_at == 11.0
    decided = tail.decide(11.0)
    assert [each.trace_id for each in spans_of(decided)] == [A]
    assert decided.settled == [2]
    assert (decided.kept, decided.dropped) == (Counter(errors=1), Counter({NO_RULE: 1}))
    assert tail.late == 2


def test_a_token_settles_with_the_last_of_its_traces():
    tail = sampler(ERRORS)
    tail.add(request(span(A)), 0.0, "first")
    tail.add(request(span(A), span(B)), 5.0, "second")
    assert tail.decide(10.0).settled == ["first"]
    assert tail.decide(15.0).settled == ["second"]


def test_a_payload_without_spans_settles_at_once():
    tail = sampler(ERRORS)
    tail.add(b"", 0.0, "nothing")
    assert tail.next_decision_at == 0.0
    assert tail.decide(0.0).settled == ["nothing"]
    assert tail.size_bytes == 0


def test_spans_without_a_valid_trace_id_are_let_through():
    tail = sampler(ERRORS)
    tail.add(request(span(b""), span(bytes(16))), 0.0, None)
    assert tail.decide(0.0).kept == Counter({NO_TRACE_ID: 2})


def test_a_trace_without_its_root_is_decided_like_any_other():
    tail = sampler(ERRORS)
    orphan = span(failed=True)
    orphan.parent_span_id = b"\x01" * 8
    tail.add(request(orphan), 0.0, None)
    assert spans_of(tail.decide(10.0)) == [orphan]


def test_of_a_malformed_payload_nothing_is_taken():
    tail = sampler(ERRORS, TailRule(name="tier", attributes={"tier": "gold"}))
    good = request(span(failed=True, attributes={"tier": "gold"}))
    torn = b"\x0a\x09\x12\x07\x12\x05tier\x0a"
    with pytest.raises(WireError):
        tail.add(good + torn, 0.0, "one")
    assert (tail.size_bytes, tail.waiting_traces, tail.next_decision_at) == (0, 0, None)


def test_resources_and_scopes_stay_apart():
    tail = sampler(ERRORS)
    tail.add(request(span(failed=True), service="api"), 0.0, None)
    tail.add(request(span(number=2), service="web"), 0.0, None)
    tail.add(request(span(number=3), service="web", scope="other"), 0.0, None)
    (batch,) = tail.decide(10.0).batches
    shape = {
        resource.resource.attributes[0].value.string_value: [
            (scope.scope.name, [each.span_id[-1] for each in scope.spans]) for scope in resource.scope_spans
        ]
        for resource in ExportTraceServiceRequest.FromString(batch.payload).resource_spans
    }
    assert shape == {"api": [("library", [1])], "web": [("library", [2]), ("other", [3])]}


def test_at_infinity_everything_is_decided():
    tail = sampler(ERRORS)
    tail.add(request(span(failed=True)), 0.0, "one")
    assert tail.decide(math.inf).settled == ["one"]


def test_pieces_are_no_larger_than_a_mebibyte():
    tail = sampler(ERRORS, memory=8 * MIB)
    wide = {"text": "x" * 100_000}
    for number in range(30):
        tail.add(request(span(failed=True, attributes=wide, number=number)), 0.0, number)
    decided = tail.decide(10.0)
    assert [batch.items for batch in decided.batches] == [10, 10, 10]
    assert max(len(batch.payload) for batch in decided.batches) <= MIB


def test_the_oldest_are_decided_early_when_there_is_too_much():
    tail = sampler(ERRORS, memory=MIB)
    for number, trace_id in enumerate((A, B, C)):
        tail.add(request(span(trace_id, failed=True, attributes={"text": "x" * 400_000})), float(number), trace_id)
    decided = tail.decide(2.0)
    assert decided.settled == [A]
    assert tail.early == 1
    assert tail.waiting_traces == 2


def test_one_trace_larger_than_the_memory_is_decided_early_and_the_rest_follows():
    tail = sampler(ERRORS, memory=MIB)
    kept = 0
    for number in range(40):
        text = {"text": "x" * 100_000}
        tail.add(request(span(failed=True, attributes=text, number=number)), 0.0, number)
        if tail.next_decision_at == 0.0:
            kept += sum(batch.items for batch in tail.decide(0.0).batches)
        assert tail.size_bytes < MIB + 200_000
    assert kept == 40
    assert (tail.early, tail.late) == (1, 29)


def test_many_tiny_traces_stay_within_the_memory():
    chance = random.Random(1)
    tail = sampler(ERRORS, memory=MIB)
    payloads = [request(*(span(chance.randbytes(16)) for _ in range(50))) for _ in range(400)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number, payload in enumerate(payloads):
        tail.add(payload, number / 1000, number)
        tail.decide(number / 1000)
        assert tail.size_bytes <= MIB
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.4 * MIB < held < 1.25 * MIB
    assert tail.early > 15_000


def test_what_it_says_it_holds_is_what_it_holds():
    chance = random.Random(1)
    tail = sampler(ERRORS, memory=64 * MIB)
    payloads = [
        request(*(span(chance.randbytes(16), attributes={"k": "v" * 200}) for _ in range(50))) for _ in range(100)
    ]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number, payload in enumerate(payloads):
        tail.add(payload, 0.0, number)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.6 * tail.size_bytes < held <= tail.size_bytes


def test_nothing_is_held_when_everything_is_decided():
    chance = random.Random(2)
    tail = sampler(REST)
    for number in range(20):
        tail.add(request(*(span(chance.randbytes(16)) for _ in range(20))), 0.0, number)
    tail.decide(math.inf)
    assert tail.size_bytes == 0


def test_decisions_are_forgotten_when_there_are_too_many():
    tail = sampler(ERRORS, memory=MIB)
    tail.add(request(span(A, failed=True)), 0.0, None)
    tail.decide(math.inf)
    chance = random.Random(3)
    for _ in range(200):
        tail.add(request(*(span(chance.randbytes(16)) for _ in range(50))), 0.0, None)
        tail.decide(math.inf)
    tail.add(request(span(A)), 0.0, None)
    assert tail.waiting_traces == 1
