"""The reference page says what is so."""

import re
from pathlib import Path

from novel_agent.serving.limits import Limits
from novel_agent.serving.route import ERROR_TYPES
from novel_agent.serving.traffic import REFUSED, REQUESTS, SECONDS, Traffic

from .conftest import Running

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "http-api.md").read_text()


def rows(heading: str) -> list[list[str]]:
    section = PAGE.split(heading, 1)[1].split("\n## ", 1)[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table[2:]]


async def test_every_route_is_described(agent: Running) -> None:
    described = {(method, path, token == "no") for method, path, _, token in rows("# HTTP API")}
    assert described == {(route.method, route.path, route.is_open) for route in agent.server.routes}


def test_every_error_is_described() -> None:
    described = {int(status): error_type for status, error_type, _ in rows("## Errors")}
    assert described == ERROR_TYPES | {500: "internal"}


def test_the_limits_are_those_in_force() -> None:
    limits = Limits()
    assert [most for _, most in rows("## Limits")] == [
        str(limits.connections),
        f"{limits.line_bytes >> 10} KiB",
        str(limits.headers),
        f"{limits.head_bytes >> 10} KiB",
        f"{limits.body_bytes >> 20} MiB",
        f"{limits.handshake_seconds:g} s",
        f"{limits.head_seconds:g} s",
        f"{limits.body_seconds:g} s",
        f"{limits.write_seconds:g} s",
        f"{limits.idle_seconds:g} s",
    ]
    assert limits.line_bytes == limits.field_bytes


def test_every_reason_and_series_is_described() -> None:
    assert [reason for reason, _ in rows("## What the server counts")] == list(Traffic().refused)
    for family in (REQUESTS, SECONDS, REFUSED):
        assert f"`{family.name}`" in PAGE
        assert all(re.search(rf"`{label}`", PAGE) for label in family.labels)
