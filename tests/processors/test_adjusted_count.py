"""What one span may count as."""

import pytest

from novel_agent.model.span import Span
from novel_agent.processors.probability import adjusted_count, threshold
from novel_agent.processors.span_metrics import weight


@pytest.mark.parametrize(
    ("trace_state", "counts_as"),
    [
        ("ot=th:8", 2),
        ("ot=th:fffff;rv:ffffffffffffff", 1_000_000),
        ("ot=th:ffff;rv:ffffffffffffff", 65_536),
        ("ot=th:ffffffffffffff;rv:ffffffffffffff", 1_000_000),
    ],
)
def test_a_span_counts_as_a_million_at_the_most(trace_state, counts_as):
    assert weight(Span(trace_id=b"\xff" * 16, trace_state=trace_state)) == counts_as


def test_a_share_of_a_millionth_is_still_told_from_a_larger_one():
    assert adjusted_count(threshold(0.000002)) == pytest.approx(500_000, rel=0.001)
