"""OpenTelemetry's consistent probability sampling: thresholds, randomness, and where `tracestate` keeps them.

Both have 56 bits; what has a randomness of at least the threshold is kept, so whoever keeps a larger share keeps all that
others keep. Source: opentelemetry-specification, trace/tracestate-probability-sampling.md and trace/tracestate-handling.md
(OTEP 235); W3C Trace Context level 2 for `tracestate` and for the random part of a trace id.
"""

import math
import re
from fractions import Fraction
from typing import NamedTuple

BITS = 56
EVERYTHING = 0
NOTHING = 1 << BITS
"""The threshold that no randomness reaches. It cannot be written in `th`, and need not: nothing of it is left."""

MOST_ADJUSTED = 1_000_000
"""What a span counts as at the most: nobody keeps less than one in a million, and one forged `th` would spoil a counter."""

_HEX_DIGITS = BITS // 4
_MOST_DIGITS = 12
_MOST_MEMBERS = 32
_MOST_CHARACTERS = 256
_THRESHOLD = re.compile(r"[0-9a-fA-F]{1,14}")
_RANDOMNESS = re.compile(r"[0-9a-fA-F]{14}")


class Stated(NamedTuple):
    """What a `tracestate` says of sampling; None where it says nothing that is valid."""

    randomness: int | None = None
    threshold: int | None = None


UNSTATED = Stated()


def threshold(probability: float, digits: int = 4) -> int:
    """What is rejected of 2**56, rounded to so many hexadecimal digits, leading `f`s apart, as SDKs do."""
    if probability <= 0:
        return NOTHING
    digits = max(1, min(_MOST_DIGITS, digits + math.frexp(probability)[1] // -4))
    steps = 1 << 4 * digits
    rejected = math.floor((1 - Fraction(min(probability, 1.0))) * steps + Fraction(1, 2))
    return min(rejected, steps - 1) << 4 * (_HEX_DIGITS - digits)


def written(threshold: int) -> str:
    """A threshold as `th` has it: hexadecimal, without zeros at the end."""
    return f"{threshold:014x}".rstrip("0") or "0"


def adjusted_count(threshold: int) -> float:
    """How many spans one stands for that was kept at this threshold, at most `MOST_ADJUSTED`."""
    return min(NOTHING / (NOTHING - threshold), MOST_ADJUSTED)


def randomness(trace_id: bytes) -> int | None:
    """The last seven bytes of a trace id; None of an id that is not valid."""
    if len(trace_id) != 16 or not any(trace_id):
        return None
    return int.from_bytes(trace_id[9:], "big")


def stated(trace_state: str) -> Stated:
    """The `rv` and `th` of the `ot` member."""
    if "ot=" not in trace_state:
        return UNSTATED
    entries = dict(entry.partition(":")[::2] for entry in _split(trace_state)[0])
    rv, th = entries.get("rv", ""), entries.get("th", "")
    return Stated(
        int(rv, 16) if _RANDOMNESS.fullmatch(rv) else None,
        int(th.ljust(_HEX_DIGITS, "0"), 16) if _THRESHOLD.fullmatch(th) else None,
    )


def with_threshold(trace_state: str, threshold: int) -> str:
    """The same `tracestate` with this `th`; its `ot` member comes first, as W3C has it of what was modified.

    The other entries of `ot` and the other members stay; of 32 others the last is given up. Where `ot` would become longer
    than 256 characters nothing changes, as the specification advises.
    """
    entries, others = _split(trace_state)
    kept = [entry for entry in entries if entry.partition(":")[0] != "th"]
    value = ";".join([*kept, f"th:{written(threshold)}"])
    if len(value) > _MOST_CHARACTERS:
        return trace_state
    return ",".join([f"ot={value}", *others[: _MOST_MEMBERS - 1]])


def _split(trace_state: str) -> tuple[list[str], list[str]]:
    """The entries of `ot`, and the other members."""
    members = [member for member in (part.strip(" \t") for part in trace_state.split(",")) if member]
    ours = [member for member in members if member.startswith("ot=")]
    entries = [entry for entry in ours[0][3:].split(";") if entry] if ours else []
    return entries, [member for member in members if not member.startswith("ot=")]
