"""Logs to Loki, against a server on loopback."""

import json

import pytest
from aiohttp import web

from novel_agent.config.schema import Export
from novel_agent.errors import ConfigError, OutputRejected, OutputUnavailable
from novel_agent.model.batch import Batch
from novel_agent.outputs.loki import LokiOutput
from novel_agent.outputs.output import Delivered
from novel_agent.wire.protobuf import integer, length_delimited, text


def record(body: str, *, time_unix_nano: int = 0) -> bytes:
    time = b"\x09" + time_unix_nano.to_bytes(8, "little") if time_unix_nano else b""
    return length_delimited(2, time, integer(2, 17), length_delimited(5, text(1, body)))


def logs(*records: bytes) -> Batch:
    name = length_delimited(1, text(1, "service.name"), length_delimited(2, text(1, "novel-engine")))
    payload = length_delimited(1, length_delimited(1, name), length_delimited(2, *records))
    return Batch("logs", payload, len(records))


@pytest.fixture
def loki(started):
    async def start(endpoint, **options):
        return await started(LokiOutput, type="loki", endpoint=endpoint, **options)

    return start


NO_CONTENT = 204


async def test_records_are_pushed_as_json(http_destination, loki):
    http_destination.answers = [web.Response(status=NO_CONTENT)]
    one = await loki(http_destination.url, now=lambda: 1_700_000_000.0, headers={"X-Scope-OrgID": "tenant-a"})
    delivered = await one.send(logs(record("first", time_unix_nano=7), record("second")))
    (request,) = http_destination.requests
    assert (request.method, request.path) == ("POST", "/loki/api/v1/push")
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Content-Encoding"] == "gzip"
    assert request.headers["X-Scope-OrgID"] == "tenant-a"
    assert delivered == Delivered(len(request.raw))
    assert json.loads(request.body) == {
        "streams": [
            {
                "stream": {"service_name": "novel-engine"},
                "values": [
                    ["7", "first", {"level": "error"}],
                    ["1700000000000000000", "second", {"level": "error"}],
                ],
            }
        ]
    }


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/loki/api/v1/push"),
        ("/", "/loki/api/v1/push"),
        ("/gateway/push?x=1", "/gateway/push?x=1"),
        ("?x=1", "/loki/api/v1/push?x=1"),
    ],
)
async def test_the_path_is_appended_where_there_is_none(http_destination, loki, base, path):
    await (await loki(http_destination.url + base)).send(logs(record("a")))
    assert [request.path for request in http_destination.requests] == [path]


async def test_labels_are_those_of_the_configuration_and_compression_can_be_off(http_destination, loki):
    one = await loki(http_destination.url, labels=("absent",), compression="none")
    await one.send(logs(record("a")))
    (request,) = http_destination.requests
    assert "Content-Encoding" not in request.headers
    ((stream,),) = json.loads(request.raw).values()
    assert stream["stream"] == {"service_name": "unknown_service"}
    assert stream["values"][0][2] == {"level": "error", "service_name": "novel-engine"}


def test_zstd_is_a_configuration_error_because_loki_does_not_take_it():
    export = Export(name="central", type="loki", endpoint="http://h", compression="zstd")
    with pytest.raises(ConfigError, match=r"export\.central\.compression: is zstd, which Loki does not take"):
        LokiOutput(export)


@pytest.mark.parametrize("status", [429, 500, 501, 502, 503, 504, 599])
async def test_busy_and_failing_are_tried_again(http_destination, loki, status):
    http_destination.answers = [web.Response(status=status, text="ingester\n", headers={"Retry-After": "3"})]
    with pytest.raises(OutputUnavailable, match=rf"http://127.0.0.1:\d+ answered {status}: ingester$") as caught:
        await (await loki(http_destination.url)).send(logs(record("a")))
    assert caught.value.retry_after_seconds == 3.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 302])
async def test_what_else_is_refused_is_final_and_the_reason_is_shown(http_destination, loki, status):
    http_destination.answers = [web.Response(status=status, text="entry too far behind: token abc123xyz\n")]
    with pytest.raises(OutputRejected, match=rf"answered {status}: entry too far behind: token \*\*\*") as caught:
        await (await loki(http_destination.url, headers={"Authorization": "Bearer abc123xyz"})).send(logs(record("a")))
    assert caught.value.reason == f"http_{status}"


async def test_bytes_that_are_not_otlp_are_rejected(http_destination, loki):
    with pytest.raises(OutputRejected) as caught:
        await (await loki(http_destination.url)).send(Batch("logs", b"\x0a\x05x", 1))
    assert caught.value.reason == "malformed"
    assert http_destination.requests == []


async def test_an_empty_batch_asks_whether_it_is_there(http_destination, loki):
    http_destination.answers = [
        web.Response(status=422, text="at least one valid stream is required for ingestion"),
        web.Response(status=401),
    ]
    one = await loki(http_destination.url)
    await one.send(Batch("metrics", b"", 0))
    assert json.loads(http_destination.requests[0].body) == {"streams": []}
    with pytest.raises(OutputRejected, match="answered 401"):
        await one.send(Batch("logs", b"", 0))


async def test_thousands_of_records_do_not_hold_up_the_loop_and_arrive_in_order(http_destination, loki):
    batch = logs(*[record(str(number), time_unix_nano=number + 1) for number in range(2000)])
    await (await loki(http_destination.url)).send(batch)
    (stream,) = json.loads(http_destination.requests[0].body)["streams"]
    assert [line for _, line, _ in stream["values"]] == [str(number) for number in range(2000)]
