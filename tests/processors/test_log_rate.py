from novel_agent.config.schema import LogRate
from novel_agent.model.log import LogRecord
from novel_agent.processors.log_rate import RateLimit

NOW = 1_700_000_000.0


def records(count, **attributes):
    return [LogRecord(attributes=dict(attributes)) for _ in range(count)]


def test_a_burst_passes_at_once_and_then_as_many_as_a_second_allows():
    limit = RateLimit(LogRate(per_second=10, burst=25))
    assert len(limit(records(100), NOW)) == 25
    assert len(limit(records(100), NOW)) == 0
    assert len(limit(records(100), NOW + 0.5)) == 5
    assert len(limit(records(100), NOW + 1000)) == 25


def test_without_a_burst_a_seconds_worth_passes_at_once():
    assert len(RateLimit(LogRate(per_second=2.5))(records(9), NOW)) == 3
    assert len(RateLimit(LogRate(per_second=0.1))(records(9), NOW)) == 1


def test_a_slow_rate_passes_one_from_time_to_time():
    limit = RateLimit(LogRate(per_second=0.1))
    assert [len(limit(records(1), NOW + second)) for second in (0, 5, 10, 15, 20)] == [1, 0, 1, 0, 1]


def test_the_first_pass_in_order():
    limit = RateLimit(LogRate(per_second=2))
    assert [record.body for record in limit([LogRecord(body=number) for number in range(5)], NOW)] == [0, 1]


def test_each_value_has_a_bound_of_its_own_and_those_without_share_one():
    limit = RateLimit(LogRate(per_second=2, by="client.address"))
    many = records(5, **{"client.address": "10.0.0.1"}) + records(1, **{"client.address": "10.0.0.2"}) + records(3)
    passed = limit(many, NOW)
    assert [record.attributes.get("client.address") for record in passed] == [
        "10.0.0.1", "10.0.0.1", "10.0.0.2", None, None,
    ]  # fmt: skip


def test_a_value_within_another_attribute_is_found():
    limit = RateLimit(LogRate(per_second=1, by="user.id"))
    assert len(limit(records(2, user={"id": 1}) + records(2, user={"id": 2}), NOW)) == 2


def test_values_are_bounded_and_the_one_seen_longest_ago_is_forgotten():
    limit = RateLimit(LogRate(per_second=1, by="who"), most_buckets=2)
    for who in "aba":
        limit(records(1, who=who), NOW)
    limit(records(1, who="c"), NOW)
    assert len(limit) == 2
    assert len(limit(records(1, who="a"), NOW)) == 0
    assert len(limit(records(1, who="b"), NOW)) == 1


def test_a_long_value_counts_by_its_beginning():
    limit = RateLimit(LogRate(per_second=1, by="who"))
    assert len(limit(records(1, who="x" * 300) + records(1, who="x" * 400), NOW)) == 1


def test_a_clock_set_back_gives_and_takes_nothing():
    limit = RateLimit(LogRate(per_second=1, burst=2))
    assert len(limit(records(1), NOW)) == 1
    assert len(limit(records(2), NOW - 3600)) == 1
    assert len(limit(records(2), NOW - 3599)) == 1
