"""How the kernel steers its clock, by adjtimex(2) with nothing to adjust.

Python has no call for it, hence ctypes, which is loaded at the first reading: 0.2 MiB resident. It needs no privilege,
but a seccomp profile may refuse it.
"""

import os
import struct
from collections.abc import Callable, Sequence
from errno import EACCES, EPERM
from typing import Any, NamedTuple

import msgspec

from novel_agent.errors import NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.model.metric import Block, Family

# struct timex of 64-bit Linux (uapi/linux/timex.h): modes; offset freq maxerror esterror; status; constant precision
# tolerance time.tv_sec time.tv_usec tick ppsfreq jitter; shift; stabil jitcnt calcnt errcnt stbcnt; tai and a reserve.
_TIMEX = struct.Struct("@I4qi8qi5qi44x")
_CLOCK_IS_NOT_SYNCHRONIZED = 5  # TIME_ERROR
_OFFSET_IS_IN_NANOSECONDS = 0x2000  # STA_NANO
_NANOSECONDS = 1_000_000_000
_MICROSECONDS = 1_000_000
_PARTS_PER_MILLION = 1_000_000 * 65536  # with a 16-bit fraction

FAMILIES = (
    Family("node_timex_sync_status", "Is clock synchronized to a reliable server (1 = yes, 0 = no)."),
    Family("node_timex_offset_seconds", "Time offset in between local system and reference clock."),
    Family("node_timex_frequency_adjustment_ratio", "Local clock frequency adjustment."),
    Family("node_timex_maxerror_seconds", "Maximum error in seconds."),
    Family("node_timex_estimated_error_seconds", "Estimated error in seconds."),
    Family("node_timex_status", "Value of the status array bits."),
    Family("node_timex_loop_time_constant", "Phase-locked loop time constant."),
    Family("node_timex_tick_seconds", "Seconds between clock ticks."),
    Family("node_timex_pps_frequency_hertz", "Pulse per second frequency."),
    Family("node_timex_pps_jitter_seconds", "Pulse per second jitter."),
    Family("node_timex_pps_shift_seconds", "Pulse per second interval duration."),
    Family("node_timex_pps_stability_hertz", "Pulse per second stability, average of recent frequency changes."),
    Family("node_timex_pps_jitter_total", "Pulse per second count of jitter limit exceeded events.", "counter"),
    Family("node_timex_pps_calibration_total", "Pulse per second count of calibration intervals.", "counter"),
    Family("node_timex_pps_error_total", "Pulse per second count of calibration errors.", "counter"),
    Family(
        "node_timex_pps_stability_exceeded_total",
        "Pulse per second count of stability limit exceeded events.",
        "counter",
    ),
    Family("node_timex_tai_offset_seconds", "International Atomic Time (TAI) offset."),
)


class Reading(NamedTuple):
    """In the order of the families."""

    sync_status: int
    offset_seconds: float
    frequency_adjustment_ratio: float
    maxerror_seconds: float
    estimated_error_seconds: float
    status: int
    loop_time_constant: int
    tick_seconds: float
    pps_frequency_hertz: float
    pps_jitter_seconds: float
    pps_shift_seconds: int
    pps_stability_hertz: float
    pps_jitter: int
    pps_calibration: int
    pps_error: int
    pps_stability_exceeded: int
    tai_offset_seconds: int


def parse(state: int, data: bytes) -> Reading:
    """What adjtimex(2) returned and the struct timex that it filled."""
    fields = _TIMEX.unpack(data)
    _, offset, frequency, maxerror, esterror, status, constant, _, _, _, _, tick, pps_frequency, jitter = fields[:14]
    shift, stability, jitters, calibrations, errors, exceeded, tai = fields[14:]
    per_second = _NANOSECONDS if status & _OFFSET_IS_IN_NANOSECONDS else _MICROSECONDS
    return Reading(
        int(state != _CLOCK_IS_NOT_SYNCHRONIZED),
        offset / per_second,
        1 + frequency / _PARTS_PER_MILLION,
        maxerror / _MICROSECONDS,
        esterror / _MICROSECONDS,
        status,
        constant,
        tick / _MICROSECONDS,
        pps_frequency / _PARTS_PER_MILLION,
        jitter / per_second,
        shift,
        stability / _PARTS_PER_MILLION,
        jitters,
        calibrations,
        errors,
        exceeded,
        tai,
    )


def _adjtimex() -> Callable[[], tuple[int, bytes]]:
    """A call that gives the clock's state and its struct timex; OSError where the kernel refuses."""
    import ctypes

    call: Any = ctypes.CDLL(None, use_errno=True).adjtimex
    buffer = ctypes.create_string_buffer(_TIMEX.size)

    def read() -> tuple[int, bytes]:
        state = call(buffer)
        if state < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return state, buffer.raw

    return read


class Timex(HostCollector[Reading]):
    """How well the clock is kept."""

    name = "timex"
    summary = "state of the kernel's clock discipline: synchronization, offset, error, frequency"
    prometheus = FAMILIES

    def setup(self, options: msgspec.Struct) -> None:
        self._adjtimex: Callable[[], tuple[int, bytes]] | None = None

    def read(self) -> Reading:
        if self._adjtimex is None:
            self._adjtimex = _adjtimex()
        try:
            return parse(*self._adjtimex())
        except OSError as error:
            if error.errno in (EACCES, EPERM):
                raise NoData("adjtimex is not permitted here") from None
            raise

    def families(self, reading: Reading) -> Sequence[Block]:
        return [self.single("prometheus", FAMILIES, reading)]
