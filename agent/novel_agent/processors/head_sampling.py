"""Keeps a share of the traces, decided by the trace id alone, on bytes.

OpenTelemetry's consistent probability rule as an equalizing downstream sampler (trace/tracestate-probability-sampling.md):
every agent and SDK that is asked for the same share decides alike, and what is kept says in `tracestate` how much it stands
for.
"""

from novel_agent.processors.probability import NOTHING, randomness, stated, threshold, with_threshold
from novel_agent.processors.span_bytes import Resource, Scope, count, field, join, split, walk

_TRACE_ID = 0x0A
_TRACE_STATE = 0x1A
_IDS_END = 28
"""A span begins with its trace id (18 bytes) and its id (10), as every encoder writes it that goes by field numbers."""
_ID_OF_16, _ID_OF_8 = b"\x0a\x10", b"\x12\x08"
_NO_ID = bytes(16)


class HeadSampler:
    """Drops the spans of the traces that are not in the share; a span whose trace id is not valid stays as it is."""

    def __init__(self, probability: float) -> None:
        self._threshold = threshold(probability)
        self._least = b""
        self._state = b""
        if 0 < self._threshold < NOTHING:
            self._least = self._threshold.to_bytes(7, "big")
            self._state = field(_TRACE_STATE, with_threshold("", self._threshold).encode())

    def __call__(self, payload: bytes) -> tuple[bytes, int, int]:
        """What is left of the payload, and how many spans were kept and dropped."""
        if not self._least:
            spans = count(payload)
            return (b"", 0, spans) if self._threshold else (payload, spans, 0)
        plain = b"ot=" not in payload
        spans = kept = 0
        left = []
        for rest, scopes in split(payload):
            sampled = []
            for scope in scopes:
                chosen = self._chosen(scope.spans, plain)
                spans += len(scope.spans)
                kept += len(chosen)
                sampled.append(Scope(scope.rest, chosen))
            left.append(Resource(rest, sampled))
        return join(left), kept, spans - kept

    def _chosen(self, spans: list[bytes], plain: bool) -> list[bytes]:
        """The spans that are kept, as they go on; `plain` where none of them can have an `ot` member."""
        least, state = self._least, self._state
        chosen = []
        for span in spans:
            if plain and span[:2] == _ID_OF_16:
                if span[11:18] < least and span[2:18] != _NO_ID:
                    continue
                rest = span[_IDS_END:]
                if span[11:18] >= least and span[18:20] == _ID_OF_8 and b"\x1a" not in rest and b"\x9a" not in rest:
                    chosen.append(b"%b%b%b" % (span[:_IDS_END], state, rest))
                    continue
            looked_up = self._looked_up(span)
            if looked_up is not None:
                chosen.append(looked_up)
        return chosen

    def _looked_up(self, span: bytes) -> bytes | None:
        """The span as it goes on, None where it is dropped: for any order of fields and any `tracestate`."""
        trace_id, state, _ = _parts(span)
        chance = randomness(trace_id)
        if chance is None:
            return span
        before = stated(state)
        if before.randomness is not None:
            chance = before.randomness
        if chance < max(self._threshold, before.threshold or 0):
            return None
        return raised(span, self._threshold)


def raised(span: bytes, threshold: int) -> bytes:
    """The span with this threshold in its `tracestate`, unless a higher one stands there."""
    _, before, others = _parts(span)
    after = with_threshold(before, threshold)
    if after == before or (stated(before).threshold or 0) >= threshold:
        return span
    place = _IDS_END if others[:2] == _ID_OF_16 and others[18:20] == _ID_OF_8 else len(others)
    return others[:place] + field(_TRACE_STATE, after.encode("latin-1")) + others[place:]


def _parts(span: bytes) -> tuple[bytes, str, bytes]:
    """Trace id, `tracestate`, and all fields but the latter."""
    trace_id, state, others = b"", "", []
    for tag, start, content, end in walk(span):
        if tag == _TRACE_STATE:
            state = span[content:end].decode("latin-1")
            continue
        if tag == _TRACE_ID:
            trace_id = span[content:end]
        others.append(span[start:end])
    return trace_id, state, b"".join(others)
