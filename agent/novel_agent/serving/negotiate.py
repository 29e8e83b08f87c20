"""What a client would rather have, from its Accept headers (RFC 9110, sections 12.4.2, 12.5.1 and 12.5.3)."""

from functools import lru_cache
from typing import NamedTuple


class _Range(NamedTuple):
    name: str
    parameters: dict[str, str]
    quality: float


def _ranges(header: str) -> list[_Range]:
    found = []
    for part in header.split(","):
        name, *rest = part.split(";")
        pairs = [pair.partition("=") for pair in rest]
        parameters = {key.strip().lower(): value.strip().strip('"') for key, _, value in pairs}
        quality = _quality(parameters.pop("q", "1"))
        if name.strip() and quality is not None:
            found.append(_Range(name.strip().lower(), parameters, quality))
    return found


def _quality(text: str) -> float | None:
    try:
        quality = float(text)
    except ValueError:
        return None
    return quality if 0 <= quality <= 1 else None


@lru_cache(maxsize=64)
def media_type(accept: str, offers: tuple[str, ...]) -> str:
    """The best of the offers, each `type/subtype` or `type/subtype;parameter=value`; the first where nothing decides.

    A range whose parameter has another value than the offer's does not match it; parameters the offer does not have are
    ignored (`escaping`, `charset`).
    """
    ranges = _ranges(accept)
    qualities = [_quality_of(offer, ranges) for offer in offers]
    return offers[qualities.index(max(qualities))]


def _quality_of(offer: str, ranges: list[_Range]) -> float:
    [wanted] = _ranges(offer)
    matching = [
        (_specificity(each), each.quality)
        for each in ranges
        if each.name in {wanted.name, f"{wanted.name.partition('/')[0]}/*", "*/*"}
        and all(wanted.parameters.get(key, value) == value for key, value in each.parameters.items())
    ]
    return max(matching)[1] if matching else 0.0


def _specificity(each: _Range) -> tuple[int, int]:
    return -each.name.count("*"), len(each.parameters)


@lru_cache(maxsize=64)
def takes_gzip(accept_encoding: str) -> bool:
    """Whether a body may be sent as gzip."""
    qualities = {each.name: each.quality for each in _ranges(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0
