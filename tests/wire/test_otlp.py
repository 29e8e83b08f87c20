import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from novel_agent import __version__
from novel_agent.model.metric import Block, Family, Series, Shape
from novel_agent.model.resource import Resource
from novel_agent.wire.otlp import StartTimes, encode_metrics, encode_resource

BOOT = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
NO_RESOURCE = encode_resource(Resource())

IO = Family("system.disk.io", "Bytes moved", "counter", ("system.device", "disk.io.direction"), unit="By")
USED = Family("system.memory.usage", "Memory by state", "updowncounter", ("system.memory.state",), unit="By")
LOAD = Family("system.cpu.load_average.1m", "Average CPU load over 1 minute", "gauge", unit="{thread}")


def decode(batch):
    request = ExportMetricsServiceRequest.FromString(batch.payload)
    assert not request.DiscardUnknownFields()
    return request


def metrics(batch):
    request = decode(batch)
    return {metric.name: metric for metric in request.resource_metrics[0].scope_metrics[0].metrics}


def points(batch, name):
    metric = metrics(batch)[name]
    return list(getattr(metric, metric.WhichOneof("data")).data_points)


def attributes(point):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in point.attributes}


def block(family, series, values):
    return Block(Shape([family.series(*labels) for labels in series]), values)


def encode(*blocks, at=BOOT + 100 * SECOND, starts=None):
    return encode_metrics(NO_RESOURCE, blocks, at, starts or StartTimes(BOOT))


def test_a_reading_is_one_resource_one_scope_and_its_metrics():
    resource = encode_resource(Resource((("service.name", "novel-engine"), ("process.pid", "42"))))
    batch = encode_metrics(resource, [block(LOAD, [()], [0.21])], BOOT + SECOND, StartTimes(BOOT))
    (resource_metrics,) = decode(batch).resource_metrics
    assert (batch.signal, batch.items) == ("metrics", 1)
    assert resource_metrics.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    assert attributes(resource_metrics.resource) == {"service.name": "novel-engine", "process.pid": 42}
    (scope_metrics,) = resource_metrics.scope_metrics
    assert scope_metrics.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    assert (scope_metrics.scope.name, scope_metrics.scope.version) == ("novel-engine-agent", __version__)
    (metric,) = scope_metrics.metrics
    assert (metric.name, metric.description, metric.unit) == (
        "system.cpu.load_average.1m",
        "Average CPU load over 1 minute",
        "{thread}",
    )
    (point,) = metric.gauge.data_points
    assert (point.as_double, point.time_unix_nano, point.start_time_unix_nano) == (0.21, BOOT + SECOND, 0)


def test_a_counter_is_a_monotonic_cumulative_sum():
    batch = encode(block(IO, [("sda", "read"), ("sda", "write")], [4096, 8192]))
    total = metrics(batch)["system.disk.io"].sum
    assert total.is_monotonic
    assert total.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    assert [(attributes(point), point.as_int, point.start_time_unix_nano) for point in total.data_points] == [
        ({"system.device": "sda", "disk.io.direction": "read"}, 4096, BOOT),
        ({"system.device": "sda", "disk.io.direction": "write"}, 8192, BOOT),
    ]


def test_an_updowncounter_is_a_sum_that_may_fall():
    starts = StartTimes(BOOT)
    reading = block(USED, [("used",), ("free",)], [300, 100])
    encode(reading, starts=starts)
    batch = encode(Block(reading.shape, [200, 200]), at=BOOT + 115 * SECOND, starts=starts)
    total = metrics(batch)["system.memory.usage"].sum
    assert not total.is_monotonic
    assert total.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    assert [(point.as_int, point.start_time_unix_nano) for point in total.data_points] == [(200, BOOT), (200, BOOT)]


def test_untyped_is_a_gauge():
    untyped = Family("vmstat.thing", "Something the kernel counts", "untyped", unit="1")
    assert metrics(encode(block(untyped, [()], [7])))["vmstat.thing"].WhichOneof("data") == "gauge"


def test_families_of_one_shape_are_metrics_of_their_own():
    shape = Shape([LOAD.series(), IO.series("sda", "read"), IO.series("sdb", "read"), USED.series("used")])
    batch = encode(Block(shape, [1.5, 10, 20, 30]))
    assert list(metrics(batch)) == ["system.cpu.load_average.1m", "system.disk.io", "system.memory.usage"]
    assert [point.as_int for point in points(batch, "system.disk.io")] == [10, 20]
    assert batch.items == 4


def test_no_points_make_an_empty_batch():
    assert encode(Block(Shape([]), [])).payload == b""
    assert encode().items == 0


def test_batches_are_joined_by_concatenation():
    first, second = encode(block(LOAD, [()], [1.0])), encode(block(LOAD, [()], [2.0]))
    request = ExportMetricsServiceRequest.FromString(first.payload + second.payload)
    assert [each.scope_metrics[0].metrics[0].gauge.data_points[0].as_double for each in request.resource_metrics] == [
        1,
        2,
    ]


def test_declared_attributes_are_integers_and_booleans_and_the_rest_strings():
    family = Family("m", "M", "gauge", ("cpu.logical_number", "otel.metric.overflow", "mode"), unit="1")
    batch = encode(block(family, [("3", "true", "7"), ("total", "maybe", ""), ("007", "false", "ünï")], [1, 2, 3]))
    assert [attributes(point) for point in points(batch, "m")] == [
        {"cpu.logical_number": 3, "otel.metric.overflow": True, "mode": "7"},
        {"cpu.logical_number": "total", "otel.metric.overflow": "maybe", "mode": ""},
        {"cpu.logical_number": "007", "otel.metric.overflow": False, "mode": "ünï"},
    ]


def test_a_name_that_is_not_utf8_does_not_stop_the_rest():
    family = Family("m", "M", "gauge", ("system.filesystem.mountpoint",), unit="1")
    (point,) = points(encode(block(family, [("/mnt/\udcff",)], [1])), "m")
    assert attributes(point) == {"system.filesystem.mountpoint": "/mnt/?"}


@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, -(2**63), True])
def test_ints_are_exact(value):
    (point,) = points(encode(block(LOAD, [()], [value])), LOAD.name)
    assert (point.WhichOneof("value"), point.as_int) == ("as_int", value)


@pytest.mark.parametrize("value", [0.1, -0.0, 1e308, math.inf, -math.inf])
def test_floats_are_exact(value):
    (point,) = points(encode(block(LOAD, [()], [value])), LOAD.name)
    assert (point.WhichOneof("value"), point.as_double) == ("as_double", value)


def test_nan_is_nan():
    (point,) = points(encode(block(LOAD, [()], [math.nan])), LOAD.name)
    assert math.isnan(point.as_double)


def test_an_int_series_that_turns_float_turns_its_whole_metric_and_stays():
    starts, shape = StartTimes(BOOT), Shape([IO.series("sda", "read"), IO.series("sdb", "read"), USED.series("used")])
    readings = [[1, 2, 5], [1.5, 2, 6], [3, 4, 7]]
    seen = []
    for number, values in enumerate(readings):
        batch = encode(Block(shape, values), at=BOOT + (100 + number) * SECOND, starts=starts)
        both = points(batch, "system.disk.io") + points(batch, "system.memory.usage")
        seen.append([(point.WhichOneof("value"), getattr(point, point.WhichOneof("value"))) for point in both])
    assert seen == [
        [("as_int", 1), ("as_int", 2), ("as_int", 5)],
        [("as_double", 1.5), ("as_double", 2.0), ("as_int", 6)],
        [("as_double", 3.0), ("as_double", 4.0), ("as_int", 7)],
    ]


def test_a_metric_that_was_float_stays_float_when_its_series_change():
    starts = StartTimes(BOOT)
    encode(block(IO, [("sda", "read")], [0.5]), starts=starts)
    batch = encode(block(IO, [("sda", "read"), ("sdb", "read")], [1, 0]), at=BOOT + 101 * SECOND, starts=starts)
    assert [point.WhichOneof("value") for point in points(batch, "system.disk.io")] == ["as_double", "as_double"]


@pytest.mark.parametrize(
    ("value", "sent"),
    [(2**63, 2.0**63), (2**64 - 1, 2.0**64), (10**400, math.inf), (-(10**400), -math.inf)],
    ids=["2^63", "2^64-1", "10^400", "-10^400"],
)
def test_what_is_beyond_64_bits_goes_out_as_a_float(value, sent):
    starts, shape = StartTimes(BOOT), Shape([LOAD.series()])
    for at, reading, expected in ((100, value, sent), (101, 5, 5.0), (102, value, sent)):
        (point,) = points(encode(Block(shape, [reading]), at=BOOT + at * SECOND, starts=starts), LOAD.name)
        assert (point.WhichOneof("value"), point.as_double) == ("as_double", expected)


def test_what_is_no_number_is_refused_by_name():
    with pytest.raises(ValueError, match=r"system\.cpu\.load_average\.1m: None is not a number"):
        encode(block(LOAD, [()], [None]))


def test_a_value_too_few_is_refused():
    with pytest.raises(ValueError, match="1 values for 2 series"):
        encode(block(IO, [("sda", "read"), ("sda", "write")], [1]))


@pytest.mark.parametrize("kind", ["histogram", "summary"])
def test_what_has_no_number_data_points_is_refused(kind):
    with pytest.raises(ValueError, match=f"latency: a {kind} has no number data points"):
        encode(Block(Shape([Series(Family("latency", "L", kind), (), "_sum")]), [1]))


def started(batch, name="system.disk.io"):
    return {
        "/".join(map(str, attributes(point).values())): (point.start_time_unix_nano - BOOT) // SECOND
        for point in points(batch, name)
    }


def read(starts, at, **values):
    """One reading of disks (`sda=10`) `at` seconds after boot."""
    return encode(
        block(IO, [(disk, "read") for disk in values], list(values.values())), at=BOOT + at * SECOND, starts=starts
    )


def test_a_counter_that_falls_starts_at_the_reading_before():
    starts, shape = StartTimes(BOOT), Shape([IO.series("sda", "read"), IO.series("sdb", "read")])
    seen = [
        started(encode(Block(shape, values), at=BOOT + at * SECOND, starts=starts))
        for at, values in ((100, [10, 10]), (115, [20, 20]), (130, [30, 5]), (145, [40, 6]), (160, [41, 1]))
    ]
    assert [each["sda/read"] for each in seen] == [0, 0, 0, 0, 0]
    assert [each["sdb/read"] for each in seen] == [0, 0, 115, 115, 145]


def test_only_counters_start_anew_in_a_shape_that_holds_other_kinds():
    starts, shape = StartTimes(BOOT), Shape([USED.series("used"), LOAD.series(), IO.series("sda", "read")])
    encode(Block(shape, [10, 2.0, 10]), at=BOOT + 100 * SECOND, starts=starts)
    batch = encode(Block(shape, [5, 1.0, 5]), at=BOOT + 115 * SECOND, starts=starts)
    assert started(batch) == {"sda/read": 100}
    assert started(batch, "system.memory.usage") == {"used": 0}
    assert points(batch, LOAD.name)[0].start_time_unix_nano == 0


def test_a_series_that_joins_its_family_later_starts_at_the_reading_before():
    starts = StartTimes(BOOT)
    read(starts, 100, sda=10)
    assert started(read(starts, 115, sda=20, sdb=3)) == {"sda/read": 0, "sdb/read": 100}
    assert started(read(starts, 130, sda=20, sdb=4)) == {"sda/read": 0, "sdb/read": 100}


def test_a_family_that_is_first_read_later_starts_at_the_origin():
    starts = StartTimes(BOOT)
    encode(block(LOAD, [()], [1.0]), starts=starts)
    assert started(read(starts, 115, sda=20)) == {"sda/read": 0}


def test_start_times_survive_a_change_of_the_series_around_them():
    starts = StartTimes(BOOT)
    for at, values in ((100, {"sda": 10}), (115, {"sda": 4}), (130, {"sda": 5, "sdb": 1}), (145, {"sdb": 2, "sda": 6})):
        last = started(read(starts, at, **values))
    assert last == {"sdb/read": 115, "sda/read": 100}


def test_a_fall_is_seen_across_a_change_of_the_series():
    starts = StartTimes(BOOT)
    read(starts, 100, sda=10)
    assert started(read(starts, 115, sda=4, sdb=1)) == {"sda/read": 100, "sdb/read": 100}


def test_a_reading_that_failed_once_changes_no_start_time():
    starts = StartTimes(BOOT)
    read(starts, 100, sda=10)
    encode(block(LOAD, [()], [1.0]), at=BOOT + 115 * SECOND, starts=starts)
    assert started(read(starts, 130, sda=11)) == {"sda/read": 0}


def test_a_device_that_came_back_anew_starts_when_it_was_last_seen():
    starts = StartTimes(BOOT)
    read(starts, 100, sda=10, sdb=10)
    read(starts, 115, sda=10)
    assert started(read(starts, 130, sda=10, sdb=1)) == {"sda/read": 0, "sdb/read": 100}


def test_what_has_gone_is_forgotten_after_an_hour():
    starts = StartTimes(BOOT)
    read(starts, 100, sda=10, sdb=10)
    read(starts, 115, sda=10)
    assert starts.known() == 2
    read(starts, 100 + 3601, sda=10)
    assert starts.known() == 1
    assert started(read(starts, 100 + 3616, sda=10, sdb=11)) == {"sda/read": 0, "sdb/read": 3701}


def test_what_has_gone_is_bounded():
    starts = StartTimes(BOOT)
    for at in range(30):
        read(starts, 100 + at, **{f"d{at}x{number}": 1 for number in range(1000)})
    assert starts.known() == 11_000


def test_a_clock_set_back_leaves_no_start_after_its_time():
    starts = StartTimes(BOOT)
    shape = Shape([IO.series("sda", "read"), IO.series("sdb", "read")])
    for at, values in ((100, [10, 10]), (200, [20, 5]), (50, [30, 6])):
        batch = encode(Block(shape, values), at=BOOT + at * SECOND, starts=starts)
    assert started(batch) == {"sda/read": 0, "sdb/read": 50}


def test_a_counter_that_falls_as_the_clock_is_set_back_starts_now():
    starts = StartTimes(BOOT)
    shape = Shape([IO.series("sda", "read"), IO.series("sdb", "read")])
    for at, values in ((100, [10, 10]), (50, [20, 5]), (60, [21, 6])):
        batch = encode(Block(shape, values), at=BOOT + at * SECOND, starts=starts)
    assert started(batch) == {"sda/read": 0, "sdb/read": 50}


def test_an_origin_that_is_unknown_is_the_first_reading():
    starts = StartTimes(0)
    assert started(read(starts, 100, sda=1)) == {"sda/read": 100}
    assert started(read(starts, 115, sda=2)) == {"sda/read": 100}


def test_an_origin_after_the_reading_is_not_believed():
    starts = StartTimes(BOOT + 500 * SECOND)
    assert started(read(starts, 100, sda=1)) == {"sda/read": 100}


numbers = st.one_of(st.integers(-(2**66), 2**66), st.floats(allow_nan=False))


@given(
    st.lists(
        st.lists(
            st.tuples(st.text(max_size=5), st.text(max_size=200), numbers), min_size=1, unique_by=lambda item: item[:2]
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_labels_and_numbers_decode_to_themselves(readings):
    starts = StartTimes(BOOT)
    for number, reading in enumerate(readings):
        batch = encode(
            block(IO, [item[:2] for item in reading], [item[2] for item in reading]),
            at=BOOT + (number + 1) * SECOND,
            starts=starts,
        )
        decoded = points(batch, "system.disk.io")
        assert [(*attributes(point).values(), getattr(point, point.WhichOneof("value"))) for point in decoded] == [
            (device, direction, value if point_is_int(decoded) else float(value))
            for device, direction, value in reading
        ]
        assert all(0 < point.start_time_unix_nano <= point.time_unix_nano for point in decoded)


def point_is_int(decoded):
    return decoded[0].WhichOneof("value") == "as_int"
