"""Keeps whole traces, decided once their spans have had time to come, bounded by bytes and by time.

What is kept goes out as the bytes that came in. Of each span only what the rules ask for is looked at, as it arrives, so a
trace that waits is its bytes and a few facts. Nothing is lost by waiting in memory alone: what the spans came from is given
as a token and handed back once all of them are decided, so that its owner keeps it until then.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from novel_agent.config.schema import TailRule
from novel_agent.model.batch import Batch
from novel_agent.model.span import STATUS_ERROR
from novel_agent.model.value import Attributes, as_text
from novel_agent.processors.head_sampling import raised
from novel_agent.processors.patterns import Compile, Pattern, compile_re
from novel_agent.processors.probability import randomness, stated, threshold
from novel_agent.processors.span_bytes import Resource, Scope, join, read_varint, split, walk
from novel_agent.wire.otlp_read import origin_of
from novel_agent.wire.otlp_values import pairs
from novel_agent.wire.protobuf import WireError

NO_RULE, NO_TRACE_ID = "no_rule", "no_trace_id"
"""What stands for a rule's name where no rule took a trace, and where a span, of no valid trace, was let through."""

_PIECE_BYTES = 1 << 20

# What CPython 3.11 needs for each beside the bytes themselves, rounded up.
_SPAN_BYTES = 128
_TRACE_BYTES = 640
_RECORD_BYTES = 256
_ORIGIN_BYTES = 384
_DECISION_BYTES = 192

_TRACE_ID, _TRACE_STATE, _PARENT, _NAME, _KIND, _START, _END = 0x0A, 0x1A, 0x22, 0x2A, 0x30, 0x39, 0x41
_ATTRIBUTE, _STATUS = 0x4A, 0x7A
_STATUS_CODE = 0x18
_ERROR = bytes([_STATUS_CODE, STATUS_ERROR])
"""How the code of a failed span's status is written."""
_TIMES = struct.Struct("<QxQ")


class Decided(NamedTuple):
    """What was decided since the last time; items are spans.

    The batches hold up to 1 MiB each, unless one span alone is larger. Of the `settled` tokens nothing waits any more: once
    the batches are safe they may go. `kept` and `dropped` count by the name of the rule.
    """

    batches: list[Batch]
    kept: Counter[str]
    dropped: Counter[str]
    settled: list[object]


class _Rule:
    """A rule made ready; `bit` is its place among those that ask for attributes, 0 where it does not."""

    __slots__ = ("attributes", "bit", "errors", "latency_nano", "name", "threshold")

    def __init__(self, rule: TailRule, bit: int, attributes: Mapping[str, Pattern]) -> None:
        self.name = rule.name
        self.errors = rule.errors
        self.latency_nano = None if rule.latency_seconds is None else round(rule.latency_seconds * 1e9)
        self.attributes = attributes
        self.bit = bit
        self.threshold = threshold(rule.probability)

    def takes(self, trace: "_Trace") -> bool:
        if self.errors and not trace.failed:
            return False
        if self.latency_nano is not None and trace.end_unix_nano - trace.start_unix_nano < self.latency_nano:
            return False
        return trace.matched & self.bit == self.bit

    def fits(self, span: Attributes, resource: Attributes) -> bool:
        """Whether the span, or its resource, has every attribute that is asked for."""
        for name, pattern in self.attributes.items():
            value = span[name] if name in span else resource.get(name)
            if value is None or pattern.fullmatch(as_text(value)) is None:
                return False
        return True


class _Verdict(NamedTuple):
    """What became of a trace; `threshold` is what its spans say from now on, 0 where they say what they said."""

    rule: str
    kept: bool
    threshold: int


class _Record:
    """Where spans came from: settled when no trace waits that has some of them."""

    __slots__ = ("token", "waiting")

    def __init__(self, token: object) -> None:
        self.token = token
        self.waiting = 0


class _Origin:
    """A resource and a scope, once for all the spans that wait under it."""

    __slots__ = ("resource", "scope", "spans")

    def __init__(self, resource: bytes, scope: bytes) -> None:
        self.resource = resource
        self.scope = scope
        self.spans = 0

    @property
    def size_bytes(self) -> int:
        return len(self.resource) + len(self.scope) + _ORIGIN_BYTES


class _Trace:
    """The spans of a trace so far, and what the rules may ask of them."""

    __slots__ = (
        "decide_at",
        "end_unix_nano",
        "failed",
        "matched",
        "randomness",
        "records",
        "spans",
        "start_unix_nano",
    )

    def __init__(self, chance: int, decide_at: float) -> None:
        self.randomness = chance
        self.decide_at = decide_at
        self.spans: list[tuple[_Origin, bytes]] = []
        self.records: list[_Record] = []
        self.start_unix_nano = 0
        self.end_unix_nano = 0
        self.failed = False
        self.matched = 0


class _Facts(NamedTuple):
    """What is read of a span; 0 stands for a time that is not given."""

    trace_id: bytes
    trace_state: str = ""
    start_unix_nano: int = 0
    end_unix_nano: int = 0
    failed: bool = False
    attributes: Attributes = {}  # noqa: RUF012 - never changed


class TailSampler:
    """Holds spans by trace until the trace is decided; after that, those that come late follow the decision.

    A trace is decided `wait_seconds` after its first span, or before where more than `memory_bytes` wait: the oldest first.
    Decisions are remembered in up to a quarter of `memory_bytes` beside that, the ones used last the longest; a span that
    comes later still begins a trace anew. What was decided is held beside all that until `decide` gives it away, so that
    belongs after every `add` for which `next_decision_at` has come.
    """

    def __init__(
        self, rules: Sequence[TailRule], wait_seconds: float, memory_bytes: int, compile_regex: Compile = compile_re
    ) -> None:
        self._rules = _ready(rules, compile_regex)
        self._attribute_rules = [rule for rule in self._rules if rule.bit]
        self._attribute_names = [name.encode() for rule in self._attribute_rules for name in rule.attributes]
        self._wait_seconds = wait_seconds
        self._memory_bytes = memory_bytes
        self._most_decisions = memory_bytes // 4 // _DECISION_BYTES
        self._traces: dict[bytes, _Trace] = {}
        self._origins: dict[tuple[bytes, bytes], _Origin] = {}
        self._verdicts: dict[bytes, _Verdict] = {}
        self._kept_spans: list[tuple[_Origin, bytes]] = []
        self._decided = Decided([], Counter(), Counter(), [])
        self._outgoing_bytes = 0
        self._now = 0.0
        self.size_bytes = 0
        """What waits, to be decided or to be given away; an estimate from above."""
        self.early = 0
        """Traces decided before their time, for want of memory."""
        self.late = 0
        """Spans that came after their trace was decided."""

    @property
    def waiting_traces(self) -> int:
        """Traces that are not decided."""
        return len(self._traces)

    @property
    def next_decision_at(self) -> float | None:
        """When `decide` has something to give, by the clock of `now`; None while nothing waits."""
        if self._kept_spans or self._decided.settled or self._decided.dropped:
            return self._now
        return next((trace.decide_at for trace in self._traces.values()), None)

    def add(self, payload: bytes, now: float, token: object) -> None:
        """Take the spans of a traces payload; `token` is given back when all of them are decided.

        After a `WireError` nothing of the payload was taken, and the token is not given back.
        """
        looked_at = [
            (resource.rest, scope, list(map(self._facts, scope.spans)), self._owner(resource.rest, scope.rest))
            for resource in split(payload)
            for scope in resource.scopes
        ]
        self._now = now
        record = _Record(token)
        self._held(_RECORD_BYTES)
        for resource, scope, facts, owner in looked_at:
            self._take(self._origin(resource, scope.rest), scope.spans, facts, owner, record)
        if not record.waiting:
            self._settle(record)
        while self._traces and self.size_bytes - self._outgoing_bytes > self._memory_bytes:
            self.early += 1
            self._conclude(next(iter(self._traces)))

    def decide(self, now: float) -> Decided:
        """What has been decided, with the traces whose time has come; at a time of infinity all that wait."""
        self._now = now
        while self._traces:
            trace_id, trace = next(iter(self._traces.items()))
            if trace.decide_at > now:
                break
            self._conclude(trace_id)
        decided = self._decided._replace(batches=list(_batches(self._kept_spans)))
        for origin, span in self._kept_spans:
            self._let_go(origin, span)
        self._held(-_RECORD_BYTES * len(decided.settled))
        self._kept_spans = []
        self._outgoing_bytes = 0
        self._decided = Decided([], Counter(), Counter(), [])
        return decided

    def _owner(self, resource: bytes, scope: bytes) -> Attributes:
        return origin_of(resource, scope).resource if self._attribute_rules else {}

    def _take(
        self, origin: _Origin, spans: Sequence[bytes], looked_at: Iterable[_Facts], owner: Attributes, record: _Record
    ) -> None:
        by_owner = sum(rule.bit for rule in self._attribute_rules if rule.fits({}, owner))
        origin.spans += len(spans)
        for span, facts in zip(spans, looked_at, strict=True):
            self.size_bytes += len(span) + _SPAN_BYTES
            trace = self._traces.get(facts.trace_id)
            if trace is None:
                verdict = self._verdict_on(facts.trace_id)
                if verdict is not None:
                    self._pass_on(origin, span, verdict)
                    continue
                trace = self._begun(facts.trace_id)
            trace.spans.append((origin, span))
            trace.matched |= by_owner
            self._note(trace, facts, owner)
            if not trace.records or trace.records[-1] is not record:
                trace.records.append(record)
                record.waiting += 1
        if not origin.spans:
            self._forget(origin)

    def _facts(self, span: bytes) -> _Facts:
        """What the rules may ask of a span. Most are neither failed nor have the attributes, which their bytes alone tell."""
        named = self._attribute_names and any(name in span for name in self._attribute_names)
        if not named and _ERROR not in span:
            facts = _times(span)
            if facts is not None:
                return facts
        return _all_facts(span)

    def _origin(self, resource: bytes, scope: bytes) -> _Origin:
        origin = self._origins.get((resource, scope))
        if origin is None:
            origin = self._origins[resource, scope] = _Origin(resource, scope)
            self._held(origin.size_bytes)
        return origin

    def _begun(self, trace_id: bytes) -> _Trace:
        trace = self._traces[trace_id] = _Trace(randomness(trace_id) or 0, self._now + self._wait_seconds)
        self._held(_TRACE_BYTES)
        return trace

    def _note(self, trace: _Trace, facts: _Facts, resource: Attributes) -> None:
        """Remember of a span what the rules ask for."""
        if facts.failed:
            trace.failed = True
        start, end = facts.start_unix_nano, facts.end_unix_nano
        if start and end:
            if start < trace.start_unix_nano or not trace.start_unix_nano:
                trace.start_unix_nano = start
            if end > trace.end_unix_nano:
                trace.end_unix_nano = end
        if facts.trace_state:
            explicit = stated(facts.trace_state).randomness
            trace.randomness = trace.randomness if explicit is None else explicit
        if facts.attributes:
            for rule in self._attribute_rules:
                if not trace.matched & rule.bit and rule.fits(facts.attributes, resource):
                    trace.matched |= rule.bit

    def _verdict_on(self, trace_id: bytes) -> _Verdict | None:
        """What was decided on the trace of a late span."""
        verdict = self._verdicts.pop(trace_id, None)
        if verdict is not None:
            self._verdicts[trace_id] = verdict
            self.late += 1
        elif randomness(trace_id) is None:
            return _UNGROUPED
        return verdict

    def _conclude(self, trace_id: bytes) -> None:
        """Decide a trace that waits."""
        trace = self._traces.pop(trace_id)
        verdict = self._judge(trace)
        self._held(-_TRACE_BYTES)
        for origin, span in trace.spans:
            self._pass_on(origin, span, verdict)
        for record in trace.records:
            record.waiting -= 1
            if not record.waiting:
                self._settle(record)
        self._remember(trace_id, verdict)

    def _judge(self, trace: _Trace) -> _Verdict:
        for rule in self._rules:
            if rule.takes(trace):
                return _Verdict(rule.name, trace.randomness >= rule.threshold, rule.threshold)
        return _Verdict(NO_RULE, False, 0)

    def _remember(self, trace_id: bytes, verdict: _Verdict) -> None:
        self._verdicts[trace_id] = verdict
        if len(self._verdicts) > self._most_decisions:
            del self._verdicts[next(iter(self._verdicts))]

    def _pass_on(self, origin: _Origin, span: bytes, verdict: _Verdict) -> None:
        if not verdict.kept:
            self._decided.dropped[verdict.rule] += 1
            self._let_go(origin, span)
            return
        self._decided.kept[verdict.rule] += 1
        if verdict.threshold:
            before, span = len(span), _marked(span, verdict.threshold)
            self._held(len(span) - before)
        self._outgoing_bytes += len(span) + _SPAN_BYTES
        self._kept_spans.append((origin, span))

    def _settle(self, record: _Record) -> None:
        self._decided.settled.append(record.token)

    def _let_go(self, origin: _Origin, span: bytes) -> None:
        self._held(-len(span) - _SPAN_BYTES)
        origin.spans -= 1
        if not origin.spans:
            self._forget(origin)

    def _forget(self, origin: _Origin) -> None:
        if self._origins.pop((origin.resource, origin.scope), None) is not None:
            self._held(-origin.size_bytes)

    def _held(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes


_UNGROUPED = _Verdict(NO_TRACE_ID, True, 0)


def _ready(rules: Sequence[TailRule], compile_regex: Compile) -> list[_Rule]:
    ready: list[_Rule] = []
    bit = 1
    for rule in rules:
        attributes = {name: compile_regex(pattern) for name, pattern in rule.attributes.items()}
        ready.append(_Rule(rule, bit if attributes else 0, attributes))
        if attributes:
            bit <<= 1
    return ready


def _marked(span: bytes, threshold: int) -> bytes:
    try:
        return raised(span, threshold)
    except WireError:  # behind what was looked at; it goes out as it came in
        return span


def _times(span: bytes) -> _Facts | None:
    """Trace id and times where a span begins as encoders that go by field numbers write it; None where it does not.

    That is: trace id, span id, perhaps the parent's, name, kind, and both times, with no `tracestate`.
    """
    if span[:2] != b"\x0a\x10" or span[18:20] != b"\x12\x08":
        return None
    try:
        position = 38 if span[28] == _PARENT else 28
        if span[position] == _NAME and span[position + 1] < 0x80:
            position += 2 + span[position + 1]
        if span[position] == _KIND:
            position += 2
        if span[position] != _START or span[position + 9] != _END:
            return None
        start, end = _TIMES.unpack_from(span, position + 1)
    except (IndexError, struct.error):
        return None
    return _Facts(span[2:18], "", start, end)


def _all_facts(span: bytes) -> _Facts:
    """The same, and the rest, for any order of fields."""
    trace_id, state, start, end, failed = b"", "", 0, 0, False
    attributes: Attributes = {}
    for tag, _, content, stop in walk(span):
        if tag == _ATTRIBUTE:
            key, value = pairs[span[content:stop]]
            attributes[key] = value
        elif tag == _TRACE_ID:
            trace_id = span[content:stop]
        elif tag == _TRACE_STATE:
            state = span[content:stop].decode("latin-1")
        elif tag == _START:
            start = int.from_bytes(span[content:stop], "little")
        elif tag == _END:
            end = int.from_bytes(span[content:stop], "little")
        elif tag == _STATUS:
            failed = _failed(span[content:stop])
    return _Facts(trace_id, state, start, end, failed, attributes)


def _failed(status: bytes) -> bool:
    code = 0
    for tag, _, content, _ in walk(status):
        if tag == _STATUS_CODE:
            code, _ = read_varint(status, content)
    return code == STATUS_ERROR


def _batches(spans: Iterable[tuple[_Origin, bytes]]) -> Iterable[Batch]:
    """The spans under their resources and scopes, in pieces."""
    piece: dict[_Origin, list[bytes]] = {}
    size_bytes = 0
    for origin, span in spans:
        added = len(span) + 4
        if origin not in piece:
            added += origin.size_bytes
        if piece and size_bytes + added > _PIECE_BYTES:
            yield _batch(piece)
            piece, size_bytes = {}, 0
            added = len(span) + 4 + origin.size_bytes
        piece.setdefault(origin, []).append(span)
        size_bytes += added
    if piece:
        yield _batch(piece)


def _batch(piece: Mapping[_Origin, list[bytes]]) -> Batch:
    resources: dict[bytes, list[Scope]] = {}
    for origin, spans in piece.items():
        resources.setdefault(origin.resource, []).append(Scope(origin.scope, spans))
    payload = join(Resource(rest, scopes) for rest, scopes in resources.items())
    return Batch("traces", payload, sum(map(len, piece.values())))
