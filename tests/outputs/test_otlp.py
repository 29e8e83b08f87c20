"""OTLP over HTTP, against a server on loopback."""

import asyncio
import gzip
import json
import random
import socket
import ssl
import subprocess
import sys
import time
import tracemalloc

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from novel_agent import __version__
from novel_agent.config.schema import ClientTls, Export
from novel_agent.errors import ConfigError, OutputRejected, OutputUnavailable
from novel_agent.model.batch import Batch
from novel_agent.outputs.otlp import OtlpOutput
from novel_agent.outputs.output import Delivered
from novel_agent.wire.protobuf import integer, length_delimited, text

PROTOBUF = "application/x-protobuf"


def decoded(request):
    return ExportMetricsServiceRequest.FromString(request.body)


def values(request):
    (metric,) = request.resource_metrics[0].scope_metrics[0].metrics
    return [point.as_int for point in metric.sum.data_points]


async def test_protobuf_is_the_payload_itself(http_destination, output, batch):
    otlp = await output(http_destination.url, compression="none")
    assert await otlp.send(batch) == Delivered(len(batch.payload))
    (request,) = http_destination.requests
    assert (request.method, request.path, request.raw) == ("POST", "/v1/metrics", batch.payload)
    assert request.headers["Content-Type"] == "application/x-protobuf"
    assert request.headers["User-Agent"] == f"novel-engine-agent/{__version__}"
    assert "Content-Encoding" not in request.headers
    assert values(decoded(request)) == [4096, 8192]


async def test_gzip_is_the_default(http_destination, output, batch):
    delivered = await (await output(http_destination.url)).send(batch)
    (request,) = http_destination.requests
    assert request.headers["Content-Encoding"] == "gzip"
    assert request.raw != request.body == batch.payload
    assert delivered.wire_bytes == len(request.raw) == int(request.headers["Content-Length"])


async def test_zstd(http_destination, output, batch):
    delivered = await (await output(http_destination.url, compression="zstd")).send(batch)
    (request,) = http_destination.requests
    assert request.headers["Content-Encoding"] == "zstd"
    assert request.raw != request.body == batch.payload
    assert delivered.wire_bytes == len(request.raw)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_a_large_batch_arrives_whole(http_destination, output, compression):
    payload = length_delimited(1, random.Random(1).randbytes(3 << 20))
    await (await output(http_destination.url, compression=compression)).send(Batch("traces", payload, 1))
    (request,) = http_destination.requests
    assert request.body == payload
    assert int(request.headers["Content-Length"]) == len(request.raw)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("sizes", [[3], [1, 2], [70_000, 1, 2, 70_000], [40_000] * 50])
async def test_several_batches_go_out_as_one_request(http_destination, output, compression, sizes):
    payloads = [length_delimited(1, random.Random(size).randbytes(size)) for size in sizes]
    otlp = await output(http_destination.url, compression=compression)
    delivered = await otlp.send_joined([Batch("traces", payload, 1) for payload in payloads])
    (request,) = http_destination.requests
    assert request.body == b"".join(payloads)
    assert int(request.headers["Content-Length"]) == len(request.raw) == delivered.wire_bytes


async def test_several_batches_go_out_as_one_request_in_json(http_destination, output):
    payload = length_delimited(1, b"")
    otlp = await output(http_destination.url, protocol="http/json", compression="none")
    await otlp.send_joined([Batch("traces", payload, 0), Batch("traces", payload, 0)])
    (request,) = http_destination.requests
    assert json.loads(request.body) == {"resourceSpans": [{}, {}]}


async def test_requests_may_overlap_up_to_the_concurrency(http_destination, output, batch):
    under_way, most, third = 0, 0, asyncio.Event()

    async def hold(request):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            third.set()
        await third.wait()
        under_way -= 1
        return web.Response()

    http_destination.answers = [hold] * 9
    otlp = await output(http_destination.url, concurrency=3)
    await asyncio.gather(*(otlp.send(batch) for _ in range(9)))
    assert most == 3
    assert all(request.body == batch.payload for request in http_destination.requests)


async def test_json(http_destination, output, batch):
    otlp = await output(http_destination.url, protocol="http/json")
    await otlp.send(batch)
    (request,) = http_destination.requests
    assert request.headers["Content-Type"] == "application/json"
    (metric,) = json.loads(request.body)["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    assert [point["asInt"] for point in metric["sum"]["dataPoints"]] == ["4096", "8192"]


@pytest.mark.parametrize(
    ("signal", "key"), [("metrics", "resourceMetrics"), ("logs", "resourceLogs"), ("traces", "resourceSpans")]
)
async def test_json_of_every_signal(http_destination, output, signal, key):
    name = length_delimited(1, text(1, "service.name"), length_delimited(2, text(1, "novel-engine")))
    payload = length_delimited(1, length_delimited(1, name))
    await (await output(http_destination.url, protocol="http/json", compression="zstd")).send(Batch(signal, payload, 1))
    (request,) = http_destination.requests
    assert request.headers["Content-Encoding"] == "zstd"
    attribute = {"key": "service.name", "value": {"stringValue": "novel-engine"}}
    assert json.loads(request.body) == {key: [{"resource": {"attributes": [attribute]}}]}


async def test_a_large_batch_is_written_as_json_beside_the_loop(http_destination, output):
    payload = length_delimited(1, length_delimited(2, text(3, "x"))) * 5000
    await (await output(http_destination.url, protocol="http/json")).send(Batch("traces", payload, 5000))
    (request,) = http_destination.requests
    assert json.loads(request.body) == {"resourceSpans": [{"scopeSpans": [{"schemaUrl": "x"}]}] * 5000}


@pytest.mark.parametrize(
    ("base", "signal", "path"),
    [
        ("", "metrics", "/v1/metrics"),
        ("/", "logs", "/v1/logs"),
        ("/otlp", "traces", "/otlp/v1/traces"),
        ("/a/b/?tenant=x", "metrics", "/a/b/v1/metrics?tenant=x"),
    ],
)
async def test_the_signals_path_is_appended_to_the_base(http_destination, output, base, signal, path):
    otlp = await output(http_destination.url + base)
    await otlp.send(Batch(signal, b"\x0a\x00", 1))
    assert [request.path for request in http_destination.requests] == [path]


async def test_configured_headers_are_sent_but_those_of_the_encoding_are_ours(http_destination, output, batch):
    headers = {"api-key": "abcdef", "User-Agent": "mine", "content-type": "text/plain", "Content-Encoding": "br"}
    await (await output(http_destination.url, headers=headers, compression="none")).send(batch)
    (request,) = http_destination.requests
    assert (request.headers["Api-Key"], request.headers["User-Agent"]) == ("abcdef", "mine")
    assert request.headers.getall("Content-Type") == ["application/x-protobuf"]
    assert "Content-Encoding" not in request.headers


async def test_the_connection_is_kept(http_destination, output, batch):
    ports = set()

    async def note(request):
        ports.add(request.transport.get_extra_info("peername"))
        return web.Response()

    http_destination.answers = [note, note, note]
    otlp = await output(http_destination.url)
    for _ in range(3):
        await otlp.send(batch)
    assert len(ports) == 1


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_every_good_status_is_success(http_destination, output, batch, status):
    http_destination.answers = [web.Response(status=status)]
    assert (await (await output(http_destination.url)).send(batch)).rejected_items == 0


async def test_partial_success_in_protobuf(http_destination, output, batch):
    answer = ExportMetricsServiceResponse(
        partial_success=ExportMetricsPartialSuccess(rejected_data_points=2, error_message="too old")
    )
    http_destination.answers = [web.Response(body=answer.SerializeToString(), content_type=PROTOBUF)]
    delivered = await (await output(http_destination.url)).send(batch)
    assert (delivered.rejected_items, delivered.message) == (2, "too old")


async def test_partial_success_in_json(http_destination, output, batch):
    http_destination.answers = [
        web.json_response({"partialSuccess": {"rejectedDataPoints": "2", "errorMessage": "too old"}})
    ]
    delivered = await (await output(http_destination.url, protocol="http/json")).send(batch)
    assert (delivered.rejected_items, delivered.message) == (2, "too old")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_retryable_statuses(http_destination, output, batch, status):
    http_destination.answers = [web.Response(status=status)]
    with pytest.raises(OutputUnavailable, match=rf"http://127.0.0.1:\d+ answered {status}$") as caught:
        await (await output(http_destination.url)).send(batch)
    assert caught.value.retry_after_seconds is None


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        ("0", 0.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),
        ("Tue Nov 14 22:14:20 2023", 60.0),
        ("Tue, 14 Nov 99999 22:14:20 GMT", None),
        ("soon", None),
        ("-1", None),
    ],
)
async def test_retry_after_in_seconds_or_as_a_date(http_destination, output, batch, status, header, seconds):
    http_destination.answers = [web.Response(status=status, headers={"Retry-After": header})]
    otlp = await output(http_destination.url, now=lambda: 1_700_000_000.0)
    with pytest.raises(OutputUnavailable) as caught:
        await otlp.send(batch)
    assert caught.value.retry_after_seconds == seconds


@pytest.fixture
def tokyo(monkeypatch):
    """The agent's own time zone."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


async def test_a_date_without_a_zone_is_utc_wherever_the_agent_runs(tokyo, http_destination, output, batch):
    http_destination.answers = [web.Response(status=503, headers={"Retry-After": "Tue Nov 14 22:14:20 2023"})]
    otlp = await output(http_destination.url, now=lambda: 1_700_000_000.0)
    with pytest.raises(OutputUnavailable) as caught:
        await otlp.send(batch)
    assert caught.value.retry_after_seconds == 60.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 409, 413, 415, 500, 501, 505, 599])
async def test_every_other_bad_status_is_final(http_destination, output, batch, status):
    http_destination.answers = [web.Response(status=status, headers={"Retry-After": "1"})]
    with pytest.raises(OutputRejected, match=f"answered {status}") as caught:
        await (await output(http_destination.url)).send(batch)
    assert caught.value.reason == f"http_{status}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(http_destination, output, batch, status):
    http_destination.answers = [web.Response(status=status, headers={"Location": f"{http_destination.url}/elsewhere"})]
    with pytest.raises(OutputRejected, match="redirects are not followed") as caught:
        await (await output(http_destination.url)).send(batch)
    assert caught.value.reason == f"http_{status}"
    assert [request.path for request in http_destination.requests] == ["/v1/metrics"]


async def test_the_servers_words_are_shown(http_destination, output, batch):
    status = integer(1, 3) + text(2, "metric name is empty")
    http_destination.answers = [
        web.Response(status=400, body=status, content_type=PROTOBUF),
        web.json_response({"code": 3, "message": "metric name is missing"}, status=400),
        web.Response(status=400, text="no such tenant\n"),
        web.Response(status=400, text="<html>Bad</html>", content_type="text/html"),
    ]
    otlp = await output(http_destination.url)
    for said in (": metric name is empty", ": metric name is missing", ": no such tenant", ""):
        with pytest.raises(OutputRejected, match=rf"answered 400{said}$"):
            await otlp.send(batch)


async def test_retry_info_in_the_body_is_honoured_where_there_is_no_header(http_destination, output, batch):
    delay = length_delimited(1, integer(1, 7) + integer(2, 500_000_000))
    detail = text(1, "type.googleapis.com/google.rpc.RetryInfo") + length_delimited(2, delay)
    body = integer(1, 14) + text(2, "busy") + length_delimited(3, detail)
    http_destination.answers = [
        web.Response(status=503, body=body, content_type=PROTOBUF),
        web.Response(status=503, body=body, content_type=PROTOBUF, headers={"Retry-After": "2"}),
    ]
    otlp = await output(http_destination.url)
    for seconds in (7.5, 2.0):
        with pytest.raises(OutputUnavailable, match="busy") as caught:
            await otlp.send(batch)
        assert caught.value.retry_after_seconds == seconds


async def test_a_huge_answer_is_not_read_to_its_end(http_destination, output, batch):
    sent = 0

    async def endless(request):
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.set_status(400)
        await response.prepare(request)
        try:
            while sent < 64 << 20:
                await response.write(b"x" * 65536)
                sent += 65536
        except ConnectionError:
            pass
        return response

    http_destination.answers = [endless]
    otlp = await output(http_destination.url)
    with pytest.raises(OutputRejected) as caught:
        await otlp.send(batch)
    assert len(str(caught.value)) < 400
    assert sent < 32 << 20
    await otlp.send(batch)


async def test_an_answer_that_cannot_be_read_is_still_success(http_destination, output, batch):
    http_destination.answers = [
        web.Response(body=b"\xff\xff\xff", content_type=PROTOBUF),
        web.Response(body=b"{", content_type="application/json"),
        web.Response(body=b"[" * 60_000, content_type="application/json"),
        web.json_response({"partialSuccess": {"rejectedDataPoints": "many", "errorMessage": None}}),
    ]
    otlp = await output(http_destination.url)
    for _ in range(4):
        assert (await otlp.send(batch)).rejected_items == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\x0a\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
    ],
)
async def test_answers_in_every_framing_are_success(output, batch, answer):
    async with await asyncio.start_server(raw(answer), "127.0.0.1", 0) as server:
        otlp = await output(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert (await otlp.send(batch)).rejected_items == 0
        await otlp.stop()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
    ],
)
async def test_an_answer_that_breaks_off_is_unavailable(output, batch, answer):
    async with await asyncio.start_server(raw(answer), "127.0.0.1", 0) as server:
        otlp = await output(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(OutputUnavailable):
            await otlp.send(batch)
        await otlp.stop()


async def test_an_answer_that_is_a_bomb_is_not_unpacked(http_destination, output, batch):
    bomb = gzip.compress(bytes(50 << 20))
    http_destination.answers = [web.Response(body=bomb, headers={"Content-Encoding": "gzip"})]
    otlp = await output(http_destination.url)
    tracemalloc.start()
    try:
        await otlp.send(batch)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert http_destination.requests[0].headers["Accept-Encoding"] == "identity"


def raw(answer):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return serve


async def test_a_slow_destination_is_unavailable_and_usable_afterwards(http_destination, output, batch):
    never = asyncio.Event()

    async def hang(request):
        await never.wait()
        return web.Response()

    http_destination.answers = [hang]
    otlp = await output(http_destination.url, timeout_seconds=0.1)
    with pytest.raises(OutputUnavailable, match=r"no answer within 0\.1 s"):
        await otlp.send(batch)
    never.set()
    await otlp.send(batch)


async def test_a_reset_is_unavailable(http_destination, output, batch):
    async def reset(request):
        request.transport.abort()
        return web.Response()

    http_destination.answers = [reset]
    otlp = await output(http_destination.url)
    with pytest.raises(OutputUnavailable, match=r"closed before an answer|reset by peer"):
        await otlp.send(batch)
    await otlp.send(batch)


async def test_nobody_listening_is_unavailable(output, batch, unused_tcp_port):
    otlp = await output(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(OutputUnavailable, match=f"http://127.0.0.1:{unused_tcp_port}: Connection refused"):
        await otlp.send(batch)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n", b""])
async def test_what_is_no_http_is_unavailable(output, batch, answer):
    async def speak(reader, writer):
        await reader.read(100)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OutputUnavailable):
            await (await output(f"http://127.0.0.1:{port}")).send(batch)


async def test_a_cancelled_send_leaves_the_output_usable(http_destination, output, batch):
    arrived, over = asyncio.Event(), asyncio.Event()

    async def hang(request):
        arrived.set()
        await over.wait()
        return web.Response()

    http_destination.answers = [hang]
    otlp = await output(http_destination.url)
    task = asyncio.create_task(otlp.send(batch))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await otlp.send(batch)
    over.set()


async def test_before_start_and_after_stop_it_is_unavailable(http_destination, output, batch):
    otlp = await output(http_destination.url)
    await otlp.stop()
    with pytest.raises(OutputUnavailable, match="not started"):
        await otlp.send(batch)


async def test_bytes_that_are_not_otlp_are_rejected_in_json(http_destination, output):
    otlp = await output(http_destination.url, protocol="http/json")
    with pytest.raises(OutputRejected) as caught:
        await otlp.send(Batch("metrics", b"\x0a\x05x", 1))
    assert caught.value.reason == "malformed"
    assert http_destination.requests == []


# credentials -----------------------------------------------------------------------------------------------------------


async def test_user_and_password_of_the_endpoint_are_sent_and_never_shown(http_destination, output, batch):
    endpoint = http_destination.url.replace("://", "://agent:p%40ss-word@")
    http_destination.answers = [web.Response(status=401, text="who is agent:p@ss-word, Basic YWdlbnQ6cEBzcy13b3Jk?")]
    with pytest.raises(OutputRejected) as caught:
        await (await output(endpoint)).send(batch)
    assert http_destination.requests[0].headers["Authorization"] == "Basic YWdlbnQ6cEBzcy13b3Jk"
    assert "YWdlbnQ6" not in str(caught.value)
    assert "@127" not in str(caught.value)


async def test_header_values_are_not_shown_even_if_the_server_repeats_them(http_destination, output, batch):
    http_destination.answers = [web.Response(status=403, text="token abc123xyz is not known")]
    otlp = await output(http_destination.url, headers={"Authorization": "Bearer abc123xyz"})
    with pytest.raises(OutputRejected) as caught:
        await otlp.send(batch)
    assert http_destination.requests[0].headers["Authorization"] == "Bearer abc123xyz"
    assert str(caught.value).endswith("answered 403: token *** is not known")


async def test_a_token_in_the_endpoints_query_is_sent_and_not_shown(http_destination, output, batch):
    http_destination.answers = [web.Response(status=403, text="token abc123xyz is not known")]
    otlp = await output(http_destination.url + "/?token=abc123xyz")
    with pytest.raises(OutputRejected, match=r"answered 403: token \*\*\* is not known$"):
        await otlp.send(batch)
    assert http_destination.requests[0].path == "/v1/metrics?token=abc123xyz"


# TLS -------------------------------------------------------------------------------------------------------------------


async def test_tls_with_an_authority_of_ones_own(https_destination, output, batch, certificates):
    destination = await https_destination()
    otlp = await output(destination.url, tls=ClientTls(ca_file=str(certificates / "ca.pem")))
    await otlp.send(batch)
    assert values(decoded(destination.requests[0])) == [4096, 8192]


@pytest.mark.parametrize("ca", [None, "stranger.pem"])
async def test_a_certificate_of_an_unknown_authority_is_not_accepted(
    https_destination, output, batch, certificates, ca
):
    destination = await https_destination()
    otlp = await output(destination.url, tls=ClientTls(ca_file=ca and str(certificates / ca)))
    with pytest.raises(OutputUnavailable, match=r"certificate not accepted: (unable to get local|self.signed)"):
        await otlp.send(batch)
    assert destination.requests == []


async def test_the_name_to_verify_can_be_stated(https_destination, output, batch, certificates):
    destination = await https_destination()
    ca_file = str(certificates / "ca.pem")
    for name in ("collector.test", None):
        await (await output(destination.url, tls=ClientTls(ca_file=ca_file, server_name=name))).send(batch)
    otlp = await output(destination.url, tls=ClientTls(ca_file=ca_file, server_name="other.test"))
    with pytest.raises(OutputUnavailable, match="Hostname mismatch"):
        await otlp.send(batch)


async def test_verification_can_be_switched_off(https_destination, output, batch):
    destination = await https_destination()
    await (await output(destination.url, tls=ClientTls(insecure_skip_verify=True))).send(batch)


async def test_mutual_tls(https_destination, output, batch, certificates):
    destination = await https_destination(mutual=True)
    tls = ClientTls(
        ca_file=str(certificates / "ca.pem"),
        cert_file=str(certificates / "client.pem"),
        key_file=str(certificates / "client.key"),
    )
    await (await output(destination.url, tls=tls)).send(batch)
    with pytest.raises(OutputUnavailable):
        await (await output(destination.url, tls=ClientTls(ca_file=tls.ca_file))).send(batch)


async def test_plain_http_to_a_tls_port_and_the_other_way_round(
    https_destination, http_destination, output, batch, certificates
):
    destination = await https_destination()
    with pytest.raises(OutputUnavailable):
        await (await output(destination.url.replace("https", "http"))).send(batch)
    with pytest.raises(OutputUnavailable, match="TLS: "):
        await (await output(http_destination.url.replace("http", "https"))).send(batch)


def tls_of(certificates, **files):
    return ClientTls(**{name: str(certificates / file) for name, file in files.items()})


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"ca_file": "missing.pem"}, r"missing\.pem: export\.central\.tls\.ca_file: cannot be read: No such file"),
        ({"ca_file": "make.sh"}, r"make\.sh: export\.central\.tls\.ca_file: holds no certificate in PEM form"),
        ({"cert_file": "missing.pem"}, r"missing\.pem: export\.central\.tls\.cert_file: cannot be read"),
        ({"cert_file": "client.pem"}, r"client\.pem: export\.central\.tls\.cert_file: not usable"),
        ({"key_file": "client.key"}, r"client\.key: export\.central\.tls\.key_file: is of no use without cert_file"),
        (
            {"cert_file": "client.pem", "key_file": "missing"},
            r"missing: export\.central\.tls\.key_file: cannot be read",
        ),
        (
            {"cert_file": "client.pem", "key_file": "server.key"},
            r"server\.key: export\.central\.tls\.cert_file: certificate and key do not belong together",
        ),
        (
            {"cert_file": "client.pem", "key_file": "client-encrypted.key"},
            r"client-encrypted\.key: export\.central\.tls\.cert_file: not usable",
        ),
    ],
)
async def test_what_is_wrong_with_tls_files_is_said_at_start(output, certificates, files, problem):
    with pytest.raises(ConfigError, match=problem):
        await output("https://127.0.0.1:1", tls=tls_of(certificates, **files))


@pytest.mark.parametrize("endpoint", ["http://host:99999", "ftp://host", "http://:4318", "http://[::1"])
def test_an_endpoint_that_is_none_is_a_configuration_error(endpoint):
    with pytest.raises(ConfigError, match=r"export\.central\.endpoint"):
        OtlpOutput(Export(name="central", endpoint=endpoint))


# proxies ---------------------------------------------------------------------------------------------------------------


async def relay(reader, writer, host, port):
    """Join two connections until either side ends."""
    far_reader, far_writer = await asyncio.open_connection(host, port)

    async def copy(source, target):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.close()

    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)


class Proxy:
    """An HTTP proxy on loopback: CONNECT, and plain requests sent on as they are."""

    def __init__(self, status="200 OK"):
        self.heads = []
        self.status = status

    async def handle(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode())
            method, target, _ = head.decode().split("\r\n")[0].split()
            if method == "CONNECT":
                writer.write(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
                if self.status.startswith("2"):
                    host, _, port = target.partition(":")
                    await relay(reader, writer, host, int(port))
            else:
                writer.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc):
        self.server.close()


async def test_plain_http_goes_through_the_proxy_of_the_environment(output, batch, monkeypatch):
    async with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:pass-word@127.0.0.1:{proxy.port}")
        otlp = await output("http://collector.test:4318", headers={"x-key": "1"})
        await otlp.send(batch)
        await otlp.stop()
    (head,) = proxy.heads
    assert head.startswith("POST http://collector.test:4318/v1/metrics HTTP/1.1")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNzLXdvcmQ=" in head


async def test_tls_goes_through_connect(output, batch, monkeypatch, https_destination, certificates):
    destination = await https_destination()
    async with Proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass-word@127.0.0.1:{proxy.port}")
        otlp = await output(destination.url, headers={"x-key": "secret"}, tls=tls_of(certificates, ca_file="ca.pem"))
        await otlp.send(batch)
        await otlp.stop()
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT {destination.url.removeprefix('https://')} HTTP/1.1")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNzLXdvcmQ=" in head
    assert "secret" not in head
    assert len(destination.requests) == 1


async def test_a_proxy_that_refuses_is_unavailable_and_its_credentials_stay_hidden(
    output, batch, monkeypatch, https_destination
):
    destination = await https_destination()
    async with Proxy("407 Proxy Authentication Required") as proxy:
        monkeypatch.setenv("https_proxy", f"http://user:pass-word@127.0.0.1:{proxy.port}")
        with pytest.raises(OutputUnavailable, match="the proxy answered 407") as caught:
            await (await output(destination.url)).send(batch)
    assert "pass-word" not in str(caught.value)


async def test_no_proxy_is_honoured(http_destination, output, batch, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    await (await output(http_destination.url)).send(batch)
    assert len(http_destination.requests) == 1


def test_a_proxy_of_another_kind_is_a_configuration_error(monkeypatch):
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigError, match="http_proxy: only proxies of the form"):
        OtlpOutput(Export(name="central", endpoint="http://host:4318"))


def test_fixture_certificates_are_valid(certificates):
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "client.pem", certificates / "client.key")


@pytest.fixture
def unused_tcp_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_only_what_is_configured_is_imported():
    program = (
        "import sys\n"
        "from novel_agent.config.schema import Export\n"
        "from novel_agent.outputs.otlp import OtlpOutput\n"
        "OtlpOutput(Export(name='a', endpoint='http://h:4318'))\n"
        "assert not {'h2', 'hpack', 'google.protobuf', 'opentelemetry', 'zstandard', 'cramjam'} & sys.modules.keys()\n"
        "OtlpOutput(Export(name='a', endpoint='http://h:4317', protocol='grpc'))\n"
        "assert 'h2' in sys.modules\n"
        "assert not {'google.protobuf', 'grpc'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
