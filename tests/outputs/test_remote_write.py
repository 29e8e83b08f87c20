"""Remote write, against a server on loopback."""

import asyncio

import pytest
from aiohttp import web
from remote_write_messages import Request, WriteRequest

from novel_agent.errors import OutputRejected, OutputUnavailable
from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, Shape
from novel_agent.outputs.output import Delivered
from novel_agent.outputs.remote_write import RemoteWriteOutput
from novel_agent.wire.remote_write import RemoteWriteEncoder

NOW = 1_700_000_000_000_000_000
WRITTEN = "X-Prometheus-Remote-Write-Samples-Written"


@pytest.fixture
def series() -> Batch:
    """Three samples."""
    free = Family("free_bytes", "Free.", "gauge", ("device",))
    shape = Shape([free.series(device) for device in ("sda", "sdb", "sdc")])
    return RemoteWriteEncoder().encode([Block(shape, (1, 2, 3))], NOW, (("job", "novel-engine-agent"),))


@pytest.fixture
def receiver(started):
    async def start(endpoint, version="2.0", **options):
        options = {"type": "prometheus_remote_write", "remote_write_version": version, **options}
        return await started(RemoteWriteOutput, endpoint=endpoint, **options)

    return start


def written(number, status=204, **options):
    return web.Response(status=status, headers={WRITTEN: str(number)}, **options)


async def test_2_0(http_destination, receiver, series):
    http_destination.answers = [written(3)]
    delivered = await (await receiver(http_destination.url)).send(series)
    (request,) = http_destination.requests
    assert (request.method, request.path) == ("POST", "/api/v1/write")
    assert request.headers["Content-Type"] == "application/x-protobuf;proto=io.prometheus.write.v2.Request"
    assert request.headers["X-Prometheus-Remote-Write-Version"] == "2.0.0"
    assert request.headers["Content-Encoding"] == "snappy"
    assert delivered == Delivered(len(request.raw))
    decoded = Request.FromString(request.body)
    assert [series.samples[0].value for series in decoded.timeseries] == [1.0, 2.0, 3.0]
    assert [series.samples[0].timestamp for series in decoded.timeseries] == [1_700_000_000_000] * 3


async def test_1_0(http_destination, receiver, series):
    delivered = await (await receiver(http_destination.url, "1.0")).send(series)
    (request,) = http_destination.requests
    assert request.headers["Content-Type"] == "application/x-protobuf"
    assert request.headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    assert request.headers["Content-Encoding"] == "snappy"
    assert request.body == series.payload
    assert [each.samples[0].value for each in WriteRequest.FromString(request.body).timeseries] == [1.0, 2.0, 3.0]
    assert delivered == Delivered(len(request.raw))


async def test_the_endpoint_is_the_whole_url_where_it_has_a_path(http_destination, receiver, series):
    http_destination.answers = [written(3)]
    await (await receiver(http_destination.url + "/api/v1/push?x=1")).send(series)
    assert [request.path for request in http_destination.requests] == ["/api/v1/push?x=1"]


async def test_headers_of_the_configuration_are_sent_but_those_of_the_protocol_are_ours(
    http_destination, receiver, series
):
    http_destination.answers = [written(3)]
    headers = {"X-Scope-OrgID": "a", "content-type": "text/plain", "x-prometheus-remote-write-version": "9"}
    await (await receiver(http_destination.url, headers=headers)).send(series)
    (request,) = http_destination.requests
    assert request.headers["X-Scope-OrgID"] == "a"
    assert request.headers.getall("Content-Type") == ["application/x-protobuf;proto=io.prometheus.write.v2.Request"]
    assert request.headers.getall("X-Prometheus-Remote-Write-Version") == ["2.0.0"]


@pytest.mark.parametrize("version", ["2.0", "1.0"])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_busy_and_failing_are_tried_again(http_destination, receiver, series, version, status):
    http_destination.answers = [
        web.Response(status=status, text="too busy", headers={"Retry-After": "2", WRITTEN: "1"})
    ]
    with pytest.raises(OutputUnavailable, match=f"answered {status}: too busy$") as caught:
        await (await receiver(http_destination.url, version)).send(series)
    assert caught.value.retry_after_seconds == 2.0


@pytest.mark.parametrize("version", ["2.0", "1.0"])
@pytest.mark.parametrize("status", [400, 401, 404, 413, 302])
async def test_what_else_is_refused_is_final(http_destination, receiver, series, version, status):
    http_destination.answers = [web.Response(status=status, text="out of order sample")]
    with pytest.raises(OutputRejected, match=f"answered {status}: out of order sample") as caught:
        await (await receiver(http_destination.url, version)).send(series)
    assert caught.value.reason == f"http_{status}"


async def test_what_was_written_of_a_refused_request_is_delivered(http_destination, receiver, series):
    answer = written(2, status=400, text="out of order sample for series x")
    http_destination.answers = [answer]
    delivered = await (await receiver(http_destination.url)).send(series)
    assert delivered.rejected_items == 1
    assert delivered.message.endswith("answered 400: out of order sample for series x")


async def test_a_good_answer_that_names_fewer_samples_is_partial(http_destination, receiver, series):
    http_destination.answers = [written(2)]
    assert (await (await receiver(http_destination.url)).send(series)).rejected_items == 1


@pytest.mark.parametrize(
    "answer", [web.Response, lambda: written(0), lambda: written("many"), lambda: written("9" * 5000)]
)
async def test_a_good_answer_that_wrote_nothing_is_from_a_receiver_of_1_0(http_destination, receiver, series, answer):
    http_destination.answers = [answer()]
    with pytest.raises(OutputRejected, match=r"wrote nothing; .* set remote_write_version to 1\.0") as caught:
        await (await receiver(http_destination.url)).send(series)
    assert caught.value.reason == "not_written"


async def test_an_unsupported_media_type_names_the_way_out(http_destination, receiver, series):
    http_destination.answers = [web.Response(status=415, text="unknown proto")]
    with pytest.raises(OutputRejected, match=r"415: unknown proto \(.*set remote_write_version to 1.0\)"):
        await (await receiver(http_destination.url)).send(series)


@pytest.mark.parametrize("version", ["2.0", "1.0"])
async def test_an_empty_batch_is_an_empty_request(http_destination, receiver, version):
    assert (await (await receiver(http_destination.url, version)).send(Batch("metrics", b"", 0))).rejected_items == 0
    assert http_destination.requests[0].body == b""


async def test_bytes_that_are_not_remote_write_are_rejected(http_destination, receiver):
    with pytest.raises(OutputRejected) as caught:
        await (await receiver(http_destination.url)).send(Batch("metrics", b"\x0a\x05x", 1))
    assert caught.value.reason == "malformed"


async def test_the_order_of_samples_matters():
    assert RemoteWriteOutput.in_order


async def test_credentials_are_sent_and_not_shown(http_destination, receiver, series):
    http_destination.answers = [web.Response(status=401, text="no user agent with pass-word")]
    endpoint = http_destination.url.replace("://", "://agent:pass-word@")
    with pytest.raises(OutputRejected, match=r"no user agent with \*\*\*$"):
        await (await receiver(endpoint)).send(series)
    assert http_destination.requests[0].headers["Authorization"] == "Basic YWdlbnQ6cGFzcy13b3Jk"


async def test_a_slow_receiver_is_unavailable(http_destination, receiver, series):
    never = asyncio.Event()

    async def hang(request):
        await never.wait()
        return web.Response()

    http_destination.answers = [hang]
    with pytest.raises(OutputUnavailable, match=r"no answer within 0\.1 s"):
        await (await receiver(http_destination.url, timeout_seconds=0.1)).send(series)
    never.set()
