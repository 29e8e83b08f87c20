from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.model.point import Buckets, ExponentialHistogramPoint, HistogramPoint, NumberPoint, SummaryPoint
from novel_agent.processors.cumulative import added, classic, fitted


def exponential(offset=0, counts=(), *, scale=0, zero=0, threshold=0.0, negative=(0, ())):
    return ExponentialHistogramPoint(
        count=sum(counts) + zero + sum(negative[1]),
        total=1.0,
        scale=scale,
        zero_count=zero,
        zero_threshold=threshold,
        positive=Buckets(offset=offset, counts=list(counts)),
        negative=Buckets(offset=negative[0], counts=list(negative[1])),
    )


def test_a_sum_goes_from_its_start_to_the_time_of_the_delta():
    total = added(
        NumberPoint(value=5, start_unix_nano=1, time_unix_nano=2),
        NumberPoint(value=2.5, start_unix_nano=2, time_unix_nano=3),
    )
    assert (total.value, total.start_unix_nano, total.time_unix_nano) == (7.5, 1, 3)


def test_a_histogram_that_lacks_a_sum_once_has_none():
    one = HistogramPoint(count=1, total=1.0, counts=[1, 0], bounds=[1.0])
    other = HistogramPoint(count=2, counts=[1, 1], bounds=[1.0])
    total = added(one, other)
    assert (total.count, total.total, total.counts) == (3, None, [2, 1])


def test_what_cannot_be_added_begins_anew():
    histogram = HistogramPoint(count=1, counts=[1, 0], bounds=[1.0], start_unix_nano=5)
    other_bounds = HistogramPoint(count=1, counts=[1, 0], bounds=[2.0], start_unix_nano=6)
    assert added(histogram, other_bounds) is other_bounds
    summary = SummaryPoint(count=1)
    assert added(histogram, summary) is summary


def test_a_scale_lower_by_one_joins_buckets_in_pairs():
    total = added(exponential(-1, [1, 2, 3], scale=1), exponential(0, [10], scale=0))
    assert (total.scale, total.positive) == (0, Buckets(offset=-1, counts=[1, 15]))


def test_buckets_far_apart_lower_the_scale_instead_of_growing():
    total = added(exponential(-(2**31), [1], scale=20), exponential(2**31 - 1, [2], scale=20))
    assert len(total.positive.counts) <= 160
    assert sum(total.positive.counts) == 3
    total = added(exponential(0, [1] * 160, scale=3), exponential(160, [1] * 160, scale=3))
    assert (total.scale, total.positive.counts) == (2, [2] * 160)


def test_fitting_lowers_the_scale_as_far_as_needed_and_drops_empty_ends():
    assert fitted(exponential(5, [0, 0, 1, 0, 2, 0])).positive == Buckets(offset=7, counts=[1, 0, 2])
    assert fitted(exponential(5, [0, 0])).positive == Buckets()
    small = fitted(exponential(0, [1] * 321, scale=5))
    assert (small.scale, len(small.positive.counts)) == (3, 81)
    assert fitted(exponential(0, [1], scale=25)).scale == 20


def test_powers_are_the_bounds_of_a_classic_histogram():
    assert classic(exponential(-1, [1, 2, 3])) == ([1.0, 2.0, 4.0], [1, 2, 3, 0])
    assert classic(exponential(0, [1, 1], scale=-1)) == ([4.0, 16.0], [1, 1, 0])


def test_negative_buckets_and_the_zero_bucket_come_first():
    assert classic(exponential(0, [5], zero=2, threshold=0.5, negative=(0, [3, 4]))) == (
        [-2.0, -1.0, 0.5, 2.0],
        [4, 3, 2, 5, 0],
    )


def test_bounds_below_the_threshold_of_zero_fall_together_with_it():
    assert classic(exponential(-3, [1, 1, 1, 1], zero=2, threshold=0.5)) == ([0.5, 1.0, 2.0], [4, 1, 1, 0])


@pytest.mark.parametrize("scale", [-40, -11, 0])
def test_a_bound_beyond_all_numbers_is_infinity(scale):
    bounds, counts = classic(exponential(2**30, [1], scale=scale))
    assert (bounds, counts) == ([], [1])


def test_an_empty_histogram_has_the_bucket_for_all():
    assert classic(exponential()) == ([], [0])


@given(
    st.integers(-500, 500),
    st.lists(st.integers(0, 9), max_size=300),
    st.integers(-2, 12),
    st.integers(0, 5),
    st.lists(st.integers(0, 9), max_size=50),
)
def test_no_observation_is_lost_and_bounds_ascend(offset, counts, scale, zero, negative):
    point = exponential(offset, counts, scale=scale, zero=zero, negative=(offset, negative))
    bounds, shown = classic(point)
    assert len(bounds) <= 41
    assert sum(shown) == point.count
    assert bounds == sorted(set(bounds))
    assert inf not in bounds


@given(st.integers(-100, 100), st.lists(st.integers(0, 9), min_size=1, max_size=200), st.integers(0, 6))
def test_a_shown_bound_has_as_many_below_it_as_the_fine_histogram(offset, counts, scale):
    point = exponential(offset, counts, scale=scale)
    below = 0
    for bound, count in zip(*classic(point), strict=False):
        below += count
        fine = sum(
            each for index, each in enumerate(counts, offset + 1) if 2.0 ** (index / 2**scale) < bound * (1 + 1e-9)
        )
        assert fine == below
