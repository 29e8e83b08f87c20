"""Blocks to remote write; what is written is decoded by protobuf."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remote_write_messages import Request, WriteRequest

from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, Series, Shape
from novel_agent.wire.protobuf import WireError, length_delimited
from novel_agent.wire.remote_write import RemoteWriteEncoder, Version2

NOW = 1_700_000_000_123_456_789
NOW_MS = 1_700_000_000_123
EXTERNAL = (("job", "novel-engine-agent"), ("instance", "host-1"))
STALE = 0x7FF0_0000_0000_0002

BYTES = Family("disk_bytes_total", "Bytes moved.", "counter", ("device", "direction"))
FREE = Family("memory_free_bytes", "Free memory.")
SECONDS = Family("request_seconds", "Time taken.", "histogram")
AGES = Family("age_seconds", "", "summary")
ODD = Family("odd", "Odd.", "untyped")
THINGS = Family("things", "Things.", "updowncounter")


def block(*pairs: tuple[Series, int | float]) -> Block:
    return Block(Shape([series for series, _ in pairs]), [value for _, value in pairs])


def one(payload: bytes):
    return WriteRequest.FromString(payload)


def series_of(payload: bytes) -> dict[tuple[tuple[str, str], ...], list[tuple[float, int]]]:
    return {
        tuple((label.name, label.value) for label in series.labels): [
            (sample.value, sample.timestamp) for sample in series.samples
        ]
        for series in one(payload).timeseries
    }


def series_of_two(body: bytes) -> dict[tuple[tuple[str, str], ...], list[tuple[float, int]]]:
    request = Request.FromString(body)
    found = {}
    for series in request.timeseries:
        words = [request.symbols[reference] for reference in series.labels_refs]
        key = tuple(zip(words[::2], words[1::2], strict=True))
        assert key not in found
        found[key] = [(sample.value, sample.timestamp) for sample in series.samples]
    return found


def test_a_series_has_its_labels_sorted_and_one_sample_in_milliseconds():
    batch = RemoteWriteEncoder().encode([block((BYTES.series("sda", "read"), 10), (FREE.series(), 2.5))], NOW)
    assert (batch.signal, batch.items) == ("metrics", 2)
    assert series_of(batch.payload) == {
        (("__name__", "disk_bytes_total"), ("device", "sda"), ("direction", "read")): [(10.0, NOW_MS)],
        (("__name__", "memory_free_bytes"),): [(2.5, NOW_MS)],
    }


def test_labels_are_sorted_by_their_bytes_and_capitals_come_before_the_name():
    family = Family("a", "", "gauge", ("zone", "Area"))
    batch = RemoteWriteEncoder().encode([block((family.series("z", "A"), 1))], NOW, EXTERNAL)
    ((labels, _),) = series_of(batch.payload).items()
    assert [name for name, _ in labels] == ["Area", "__name__", "instance", "job", "zone"]


def test_external_labels_are_added_but_to_series_that_have_them():
    family = Family("up", "", "gauge", ("job",))
    batch = RemoteWriteEncoder().encode([block((family.series("application"), 1), (FREE.series(), 7))], NOW, EXTERNAL)
    assert list(series_of(batch.payload)) == [
        (("__name__", "up"), ("instance", "host-1"), ("job", "application")),
        (("__name__", "memory_free_bytes"), ("instance", "host-1"), ("job", "novel-engine-agent")),
    ]


def test_an_empty_label_is_no_label():
    batch = RemoteWriteEncoder().encode([block((BYTES.series("sda", ""), 1))], NOW)
    assert list(series_of(batch.payload)) == [(("__name__", "disk_bytes_total"), ("device", "sda"))]


def test_families_have_type_and_help():
    blocks = [
        block((BYTES.series("sda", "read"), 1), (BYTES.series("sda", "write"), 2)),
        block((FREE.series(), 1), (ODD.series(), 1), (THINGS.series(), 1)),
        block((SECONDS.series(suffix="_sum"), 1), (SECONDS.series(suffix="_count"), 1)),
        block((AGES.series(suffix="_count"), 1)),
    ]
    metadata = one(RemoteWriteEncoder().encode(blocks, NOW).payload).metadata
    assert [(each.metric_family_name, each.type, each.help) for each in metadata] == [
        ("disk_bytes_total", 1, "Bytes moved."),
        ("memory_free_bytes", 2, "Free memory."),
        ("odd", 0, "Odd."),
        ("things", 2, "Things."),
        ("request_seconds", 3, "Time taken."),
        ("age_seconds", 5, ""),
    ]


def test_a_histogram_is_its_classic_series():
    blocks = [
        block(
            (Series(SECONDS, (("le", "0.5"),), "_bucket"), 3),
            (Series(SECONDS, (("le", "+Inf"),), "_bucket"), 4),
            (SECONDS.series(suffix="_sum"), 1.25),
            (SECONDS.series(suffix="_count"), 4),
        )
    ]
    batch = RemoteWriteEncoder().encode(blocks, NOW)
    expected = {
        (("__name__", "request_seconds_bucket"), ("le", "0.5")): [(3.0, NOW_MS)],
        (("__name__", "request_seconds_bucket"), ("le", "+Inf")): [(4.0, NOW_MS)],
        (("__name__", "request_seconds_sum"),): [(1.25, NOW_MS)],
        (("__name__", "request_seconds_count"),): [(4.0, NOW_MS)],
    }
    assert series_of(batch.payload) == expected
    request = Request.FromString(Version2().request(batch.payload))
    assert {(each.metadata.type, request.symbols[each.metadata.help_ref]) for each in request.timeseries} == {
        (3, "Time taken.")
    }


def test_bounds_and_quantiles_are_written_as_prometheus_stores_them():
    odd = Family("level", "", "gauge", ("le",))
    blocks = [
        block(
            (Series(SECONDS, (("le", "1"),), "_bucket"), 3),
            (Series(SECONDS, (("le", "1e+06"),), "_bucket"), 3),
            (Series(AGES, (("quantile", "1"),)), 4),
            (odd.series("1"), 5),
        )
    ]
    batch = RemoteWriteEncoder().encode(blocks, NOW)
    assert [dict(labels) for labels in series_of(batch.payload)] == [
        {"__name__": "request_seconds_bucket", "le": "1.0"},
        {"__name__": "request_seconds_bucket", "le": "1e+06"},
        {"__name__": "age_seconds", "quantile": "1.0"},
        {"__name__": "level", "le": "1"},
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [(10**400, math.inf), (-(10**400), -math.inf), (math.inf, math.inf), (-0.0, -0.0), (2**63, 2.0**63)],
    ids=["huge", "huge negative", "infinite", "negative zero", "64 bits"],
)
def test_numbers_of_every_size(value, written):
    batch = RemoteWriteEncoder().encode([block((FREE.series(), value))], NOW)
    assert list(series_of(batch.payload).values()) == [[(written, NOW_MS)]]


def test_a_nan_is_not_the_stale_marker():
    batch = RemoteWriteEncoder().encode([block((FREE.series(), math.nan))], NOW)
    assert bits_of(batch.payload) != [STALE]


def bits_of(payload: bytes) -> list[int]:
    """The values as they stand: reading them as a number could change a signalling NaN."""
    return [
        struct.unpack("<Q", payload[place + 3 : place + 11])[0]
        for place in range(len(payload))
        if payload.startswith(b"\x12\x10\x09", place)
    ]


def test_names_that_are_not_utf_8_are_shown_as_on_the_page():
    batch = RemoteWriteEncoder().encode([block((BYTES.series("a\udcff\udcfeb", "read"), 1))], NOW)
    ((labels, _),) = series_of(batch.payload).items()
    assert dict(labels)["device"] == "a\ufffdb"


def test_another_number_of_values_than_series_is_an_error():
    with pytest.raises(ValueError, match="2 values for 1 series"):
        RemoteWriteEncoder().encode([Block(Shape([FREE.series()]), [1, 2])], NOW)


@pytest.mark.parametrize("time_unix_nano", [0, 1_000_000, 4_398_046_511_104_000_000, -1_000_000_000])
def test_times_that_are_written_shorter_or_longer(time_unix_nano):
    encoder = RemoteWriteEncoder()
    shape = Shape([FREE.series()])
    encoder.encode([Block(shape, [7])], NOW)
    batch = encoder.encode([Block(shape, [8])], time_unix_nano)
    assert list(series_of(batch.payload).values()) == [[(8.0, time_unix_nano // 1_000_000)]]
    assert series_of_two(Version2().request(batch.payload)) == series_of(batch.payload)
    assert batch.items == 1


# series that end -------------------------------------------------------------------------------------------------------


def test_a_series_that_is_gone_gets_one_stale_marker():
    encoder = RemoteWriteEncoder()
    both = block((BYTES.series("sda", "read"), 1), (BYTES.series("sdb", "read"), 2))
    one_left = Shape([BYTES.series("sda", "read")])
    encoder.encode([both], NOW, EXTERNAL)
    batch = encoder.encode([Block(one_left, [5])], NOW, EXTERNAL)
    assert batch.items == 2
    assert [dict(labels)["device"] for labels in series_of(batch.payload)] == ["sda", "sdb"]
    assert bits_of(batch.payload) == [struct.unpack("<Q", struct.pack("<d", 5.0))[0], STALE]
    assert encoder.encode([Block(one_left, [6])], NOW, EXTERNAL).items == 1


def test_a_block_that_is_gone_ends_all_its_series():
    encoder = RemoteWriteEncoder()
    encoder.encode([block((BYTES.series("sda", "read"), 1), (BYTES.series("sdb", "read"), 2))], NOW)
    batch = encoder.encode([], NOW)
    assert (batch.items, bits_of(batch.payload)) == (2, [STALE, STALE])
    assert encoder.encode([], NOW) == Batch("metrics", b"", 0)


def test_a_series_that_moves_to_another_block_has_not_ended():
    encoder = RemoteWriteEncoder()
    encoder.encode([block((FREE.series(), 1), (ODD.series(), 2))], NOW)
    batch = encoder.encode([block((ODD.series(), 2)), block((FREE.series(), 1))], NOW)
    assert batch.items == 2


def test_a_series_that_comes_back_is_a_series_again():
    encoder = RemoteWriteEncoder()
    shape = Shape([FREE.series()])
    encoder.encode([Block(shape, [1])], NOW)
    encoder.encode([], NOW)
    assert list(series_of(encoder.encode([Block(shape, [3])], NOW).payload).values()) == [[(3.0, NOW_MS)]]


def test_other_external_labels_end_the_series_under_the_old_ones():
    encoder = RemoteWriteEncoder()
    shape = Shape([FREE.series()])
    encoder.encode([Block(shape, [1])], NOW, (("instance", "old"),))
    batch = encoder.encode([Block(shape, [2])], NOW, (("instance", "new"),))
    assert [dict(labels)["instance"] for labels in series_of(batch.payload)] == ["new", "old"]
    assert bits_of(batch.payload)[1] == STALE


# 2.0 -------------------------------------------------------------------------------------------------------------------


def test_symbols_begin_with_the_empty_one_and_stand_there_once():
    batch = RemoteWriteEncoder().encode(
        [block((BYTES.series("sda", "read"), 10), (BYTES.series("sdb", "read"), 20))], NOW
    )
    request = Request.FromString(Version2().request(batch.payload))
    assert list(request.symbols) == [
        "", "__name__", "disk_bytes_total", "device", "sda", "direction", "read", "Bytes moved.", "sdb",
    ]  # fmt: skip
    assert [list(series.labels_refs) for series in request.timeseries] == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 8, 5, 6]]
    assert [series.metadata.type for series in request.timeseries] == [1, 1]
    assert series_of_two(Version2().request(batch.payload)) == series_of(batch.payload)


def test_joined_batches_become_one_series_with_its_samples_in_order():
    encoder, version2 = RemoteWriteEncoder(), Version2()
    shape = Shape([BYTES.series("sda", "read"), FREE.series()])
    payload = b"".join(
        encoder.encode([Block(shape, [number, number + 0.5])], NOW + number * 1_000_000).payload for number in range(3)
    )
    assert series_of_two(version2.request(payload)) == {
        (("__name__", "disk_bytes_total"), ("device", "sda"), ("direction", "read")): [
            (0.0, NOW_MS),
            (1.0, NOW_MS + 1),
            (2.0, NOW_MS + 2),
        ],
        (("__name__", "memory_free_bytes"),): [(0.5, NOW_MS), (1.5, NOW_MS + 1), (2.5, NOW_MS + 2)],
    }
    assert len(one(payload).timeseries) == 6


def test_stale_markers_reach_2_0_bit_by_bit():
    encoder = RemoteWriteEncoder()
    encoder.encode([block((FREE.series(), 1))], NOW)
    body = Version2().request(encoder.encode([], NOW).payload)
    assert bits_of(body) == [STALE]
    (series,) = Request.FromString(body).timeseries
    assert series.metadata.type == 0


def test_what_repeats_is_kept_and_a_change_is_seen():
    encoder, version2 = RemoteWriteEncoder(), Version2()
    shape = Shape([FREE.series()])
    for value, labels in ((1, EXTERNAL), (2, EXTERNAL), (3, (("job", "x"),))):
        payload = encoder.encode([Block(shape, [value])], NOW, labels).payload
        assert series_of_two(version2.request(payload)).keys() == series_of(payload).keys()


def test_nothing_is_an_empty_request():
    assert Version2().request(b"") == b""


def test_what_is_no_request_is_an_error():
    for payload in (b"\x0a\x05x", length_delimited(1, b"\x0a\x09x")):
        with pytest.raises(WireError):
            Version2().request(payload)


NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)


@given(
    st.lists(
        st.dictionaries(NAMES.filter(lambda name: name != "__name__"), st.text(max_size=20), max_size=4), max_size=6
    ),
    st.lists(st.floats(allow_nan=False), min_size=6, max_size=6),
    st.integers(0, 10**19),
)
def test_both_versions_say_the_same_of_any_series(labels, values, time_unix_nano):
    families = [Family(f"f{number}", f"help {number}") for number in range(len(labels))]
    shape = Shape([Series(family, tuple(of.items())) for family, of in zip(families, labels, strict=True)])
    batch = RemoteWriteEncoder().encode([Block(shape, values[: len(labels)])], time_unix_nano, EXTERNAL)
    assert len(one(batch.payload).timeseries) == len(labels) == batch.items
    assert series_of_two(Version2().request(batch.payload)) == series_of(batch.payload)
