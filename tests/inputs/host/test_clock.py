"""The system's clock: what time it shows, and how the kernel steers it."""

import os
import struct
import time
from errno import EINVAL, EPERM

import pytest

from novel_agent.errors import InputError, NoData
from novel_agent.inputs.host import timex
from novel_agent.wire.prometheus import render_text

SOURCE = "sys/devices/system/clocksource/clocksource"


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_shows_time_zone_and_clock_sources(tree, collector, berlin):
    root = tree(
        {
            f"{SOURCE}0/available_clocksource": "tsc hpet acpi_pm \n",
            f"{SOURCE}0/current_clocksource": "tsc\n",
            "sys/devices/system/clocksource/uevent": "",
        }
    )
    clock = collector("time", root)
    assert samples(clock.families(clock.read())) == [
        "node_time_seconds 1700000000.0",  # 2023-11-14: no summer time
        'node_time_zone_offset_seconds{time_zone="CET"} 3600',
        'node_time_clocksource_available_info{device="0",clocksource="tsc"} 1',
        'node_time_clocksource_available_info{device="0",clocksource="hpet"} 1',
        'node_time_clocksource_available_info{device="0",clocksource="acpi_pm"} 1',
        'node_time_clocksource_current_info{device="0",clocksource="tsc"} 1',
    ]


def test_a_clock_source_that_the_kernel_gives_up_is_replaced(tree, collector):
    root = tree({f"{SOURCE}0/available_clocksource": "tsc hpet\n", f"{SOURCE}0/current_clocksource": "tsc\n"})
    clock = collector("time", root)
    clock.families(clock.read())
    tree({f"{SOURCE}0/available_clocksource": "hpet\n", f"{SOURCE}0/current_clocksource": "hpet\n"})
    assert samples(clock.families(clock.read()))[2:] == [
        'node_time_clocksource_available_info{device="0",clocksource="hpet"} 1',
        'node_time_clocksource_current_info{device="0",clocksource="hpet"} 1',
    ]


def test_shows_the_time_where_there_are_no_clock_sources(collector):
    clock = collector("time")
    assert len(samples(clock.families(clock.read()))) == 2


def test_a_clock_source_without_a_name_is_an_error(tree, collector):
    with pytest.raises(InputError):
        collector("time", tree({f"{SOURCE}0/available_clocksource": "tsc\n"})).read()


def filled(**fields: int) -> bytes:
    names = (
        "modes offset freq maxerror esterror status constant precision tolerance tv_sec tv_usec tick ppsfreq jitter ",
        "shift stabil jitcnt calcnt errcnt stbcnt tai",
    )
    return struct.pack("@I4qi8qi5qi44x", *[fields.get(name, 0) for name in "".join(names).split()])


def shown(state: int, data: bytes) -> dict[str, float]:
    return dict(zip([family.name for family in timex.FAMILIES], timex.parse(state, data), strict=True))


def test_the_structure_is_that_of_64_bit_linux():
    data = filled(offset=-1, tai=37, tick=10000)
    assert len(data) == 208
    assert data[8:16] == b"\xff" * 8
    assert data[88:96] == (10000).to_bytes(8, "little")
    assert data[160:164] == b"\x25\x00\x00\x00"


def test_scales_to_seconds_and_ratios():
    data = filled(
        offset=1_500_000,
        freq=-65536 * 12,
        maxerror=16_000,
        esterror=250,
        status=0x2001,
        constant=7,
        tick=10_000,
        ppsfreq=65536 * 3,
        jitter=2_000,
        shift=4,
        stabil=65536,
        jitcnt=5,
        calcnt=6,
        errcnt=8,
        stbcnt=9,
        tai=37,
    )
    assert shown(0, data) == pytest.approx(
        {
            "node_timex_sync_status": 1,
            "node_timex_offset_seconds": 0.0015,
            "node_timex_frequency_adjustment_ratio": 0.999988,
            "node_timex_maxerror_seconds": 0.016,
            "node_timex_estimated_error_seconds": 0.00025,
            "node_timex_status": 0x2001,
            "node_timex_loop_time_constant": 7,
            "node_timex_tick_seconds": 0.01,
            "node_timex_pps_frequency_hertz": 0.000003,
            "node_timex_pps_jitter_seconds": 0.000002,
            "node_timex_pps_shift_seconds": 4,
            "node_timex_pps_stability_hertz": 0.000001,
            "node_timex_pps_jitter_total": 5,
            "node_timex_pps_calibration_total": 6,
            "node_timex_pps_error_total": 8,
            "node_timex_pps_stability_exceeded_total": 9,
            "node_timex_tai_offset_seconds": 37,
        }
    )


def test_without_nanoseconds_the_offset_is_in_microseconds():
    assert shown(0, filled(offset=1_500_000, status=1))["node_timex_offset_seconds"] == 1.5


def test_an_unsynchronized_clock_says_so():
    assert shown(5, filled(status=0x40))["node_timex_sync_status"] == 0


def test_the_running_kernel_answers(collector):
    clock = collector("timex")
    try:
        blocks = clock.families(clock.read())
    except NoData:
        pytest.skip("adjtimex is not permitted here")
    tick = next(line for line in samples(blocks) if line.startswith("node_timex_tick_seconds "))
    assert 0.009 < float(tick.split()[1]) < 0.011


@pytest.mark.parametrize(("errno", "outcome"), [(EPERM, NoData), (EINVAL, OSError)])
def test_a_refusal_is_no_data_and_anything_else_an_error(collector, monkeypatch, errno, outcome):
    def refuse():
        raise OSError(errno, os.strerror(errno))

    monkeypatch.setattr(timex, "_adjtimex", lambda: refuse)
    with pytest.raises(outcome):
        collector("timex").read()
