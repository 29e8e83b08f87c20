"""OTLP over gRPC, against a server on h2 on loopback."""

import asyncio
import base64
import contextlib
import gzip
import struct

import pytest
from h2.errors import ErrorCodes
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from novel_agent import __version__
from novel_agent.config.schema import ClientTls, Export
from novel_agent.errors import ConfigError, OutputRejected, OutputUnavailable
from novel_agent.model.batch import Batch
from novel_agent.outputs import grpc_client
from novel_agent.outputs.otlp import OtlpOutput
from novel_agent.wire.protobuf import integer, length_delimited, text

METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


@pytest.fixture
async def grpc(output):
    async def make(destination, **options):
        return await output(destination.url, protocol="grpc", **options)

    return make


def values(message):
    (metric,) = ExportMetricsServiceRequest.FromString(message).resource_metrics[0].scope_metrics[0].metrics
    return [point.as_int for point in metric.sum.data_points]


def retry_info(seconds=0, nanos=0):
    """grpc-status-details-bin with a RetryInfo, in base64 as on the wire."""
    delay = length_delimited(1, integer(1, seconds) + integer(2, nanos))
    detail = text(1, "type.googleapis.com/google.rpc.RetryInfo") + length_delimited(2, delay)
    return base64.b64encode(integer(1, 8) + text(2, "slow down") + length_delimited(3, detail)).decode().rstrip("=")


EMPTY = Batch("metrics", b"\x0a\x00", 1)


async def warmed(otlp):
    """After a first call the server's settings are known; before it a client sends into HTTP/2's default window."""
    await otlp.send(EMPTY)
    return otlp


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def frame(kind, stream, payload, flags=0):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


async def test_a_call_as_grpc_writes_it(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    delivered = await (await grpc(destination, compression="none", timeout_seconds=7.5)).send(batch)
    (call,) = destination.calls
    assert (call.path, call.compressed, call.raw) == (METRICS, False, batch.payload)
    assert delivered.wire_bytes == len(batch.payload)
    assert values(call.message) == [4096, 8192]
    assert {name: call.headers[name] for name in (":method", ":scheme", "te", "content-type", "grpc-timeout")} == {
        ":method": "POST",
        ":scheme": "http",
        "te": "trailers",
        "content-type": "application/grpc+proto",
        "grpc-timeout": "7500m",
    }
    assert call.headers[":authority"] == destination.url.removeprefix("http://")
    assert call.headers["user-agent"] == f"novel-engine-agent/{__version__}"
    assert "grpc-encoding" not in call.headers


async def test_gzip_is_the_default(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    delivered = await (await grpc(destination)).send(batch)
    (call,) = destination.calls
    assert call.compressed
    assert call.headers["grpc-encoding"] == "gzip"
    assert call.message == batch.payload
    assert delivered.wire_bytes == len(call.raw)


@pytest.mark.parametrize(
    ("signal", "path"),
    [
        ("logs", "/opentelemetry.proto.collector.logs.v1.LogsService/Export"),
        ("traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
    ],
)
async def test_each_signal_has_its_service(grpc, grpc_destination, signal, path):
    destination = await grpc_destination()
    await (await grpc(destination)).send(Batch(signal, b"\x0a\x00", 1))
    assert [call.path for call in destination.calls] == [path]


async def test_headers_are_metadata_and_binary_ones_base64(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    await (await grpc(destination, headers={"Api-Key": "abcdef", "Trace-Bin": "a\tb"})).send(batch)
    (call,) = destination.calls
    assert (call.headers["api-key"], call.headers["trace-bin"]) == ("abcdef", "YQli")


async def test_one_connection_serves_all_calls(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    otlp = await grpc(destination)
    for _ in range(3):
        await otlp.send(batch)
    await asyncio.gather(*[otlp.send(batch) for _ in range(5)])
    assert len(destination.calls) == 8
    assert len(destination.connections) == 1
    assert destination.connections[0].resets == []


@pytest.mark.parametrize("compressed", [False, True])
async def test_partial_success(grpc, grpc_destination, batch, compressed):
    answer = ExportMetricsServiceResponse(
        partial_success=ExportMetricsPartialSuccess(rejected_data_points=2, error_message="too old")
    ).SerializeToString()
    body = gzip.compress(answer) if compressed else answer
    destination = await grpc_destination()
    destination.answers = [lambda connection, stream: connection.reply(stream, body=body, compressed=compressed)]
    delivered = await (await grpc(destination)).send(batch)
    assert (delivered.rejected_items, delivered.message) == (2, "too old")


@pytest.mark.parametrize("body", [b"\xff\xff\xff", gzip.compress(b"x", mtime=0)[:-9]])
async def test_a_response_message_that_cannot_be_read_is_still_success(grpc, grpc_destination, batch, body):
    destination = await grpc_destination()
    destination.answers = [lambda connection, stream: connection.reply(stream, body=body, compressed=True)]
    assert (await (await grpc(destination)).send(batch)).rejected_items == 0


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (1, "CANCELLED"),
        (4, "DEADLINE_EXCEEDED"),
        (10, "ABORTED"),
        (11, "OUT_OF_RANGE"),
        (14, "UNAVAILABLE"),
        (15, "DATA_LOSS"),
    ],
)
async def test_retryable_codes(grpc, grpc_destination, batch, code, name):
    destination = await grpc_destination()
    destination.answers = [lambda connection, stream: connection.fail(stream, code, grpc_message="not%20now")]
    with pytest.raises(OutputUnavailable, match=f"answered {name}: not now") as caught:
        await (await grpc(destination)).send(batch)
    assert caught.value.retry_after_seconds is None


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (2, "unknown"),
        (3, "invalid_argument"),
        (5, "not_found"),
        (6, "already_exists"),
        (7, "permission_denied"),
        (8, "resource_exhausted"),
        (9, "failed_precondition"),
        (12, "unimplemented"),
        (13, "internal"),
        (16, "unauthenticated"),
        (99, "unknown"),
    ],
)
async def test_every_other_code_is_final(grpc, grpc_destination, batch, code, name):
    destination = await grpc_destination()
    destination.answers = [lambda connection, stream: connection.fail(stream, code)]
    with pytest.raises(OutputRejected, match=f"answered {name.upper()}$") as caught:
        await (await grpc(destination)).send(batch)
    assert caught.value.reason == f"grpc_{name}"


@pytest.mark.parametrize("code", [8, 14])
async def test_retry_info_makes_exhausted_retryable_and_names_the_time(grpc, grpc_destination, batch, code):
    destination = await grpc_destination()
    details = retry_info(3, 250_000_000)
    destination.answers = [
        lambda connection, stream: connection.reply(stream, code=code, grpc_status_details_bin=details)
    ]
    with pytest.raises(OutputUnavailable) as caught:
        await (await grpc(destination)).send(batch)
    assert caught.value.retry_after_seconds == 3.25


@pytest.mark.parametrize("details", ["!!!", base64.b64encode(b"\xff\xff").decode(), ""])
async def test_details_that_cannot_be_read_are_no_retry_info(grpc, grpc_destination, batch, details):
    destination = await grpc_destination()
    destination.answers = [lambda connection, stream: connection.fail(stream, 8, grpc_status_details_bin=details)]
    with pytest.raises(OutputRejected):
        await (await grpc(destination)).send(batch)


def http_answer(status, kind="text/html"):
    def answer(connection, stream):
        connection.h2.send_headers(stream, [(":status", str(status)), ("content-type", kind)])
        connection.h2.send_data(stream, b"<html>no</html>", end_stream=True)
        connection.flush()

    return answer


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_proxy_that_cannot_reach_the_server_is_unavailable(grpc, grpc_destination, batch, status):
    destination = await grpc_destination()
    destination.answers = [http_answer(status)]
    with pytest.raises(OutputUnavailable, match=f"UNAVAILABLE: HTTP {status}, content type text/html, no gRPC status"):
        await (await grpc(destination)).send(batch)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "grpc_internal"),
        (401, "grpc_unauthenticated"),
        (403, "grpc_permission_denied"),
        (404, "grpc_unimplemented"),
        (200, "grpc_unknown"),
        (301, "grpc_unknown"),
    ],
)
async def test_an_answer_that_is_not_grpc_is_final(grpc, grpc_destination, batch, status, reason):
    destination = await grpc_destination()
    destination.answers = [http_answer(status)]
    with pytest.raises(OutputRejected) as caught:
        await (await grpc(destination)).send(batch)
    assert caught.value.reason == reason


async def test_an_answer_without_a_status_is_unknown(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    destination.answers = [lambda connection, stream: connection.reply(stream, code=None)]
    with pytest.raises(OutputRejected) as caught:
        await (await grpc(destination)).send(batch)
    assert caught.value.reason == "grpc_unknown"


def reset_with(code):
    def answer(connection, stream):
        connection.h2.reset_stream(stream, code)
        connection.flush()

    return answer


@pytest.mark.parametrize("code", [ErrorCodes.REFUSED_STREAM, ErrorCodes.CANCEL])
async def test_a_call_that_is_refused_or_cancelled_is_unavailable(grpc, grpc_destination, batch, code):
    destination = await grpc_destination()
    destination.answers = [reset_with(code)]
    otlp = await grpc(destination)
    with pytest.raises(OutputUnavailable, match=f"reset the call: {code.name}"):
        await otlp.send(batch)
    await otlp.send(batch)
    assert len(destination.connections) == 1


@pytest.mark.parametrize("code", [ErrorCodes.INTERNAL_ERROR, ErrorCodes.PROTOCOL_ERROR, 0x99])
async def test_a_call_that_is_reset_for_an_error_is_final(grpc, grpc_destination, batch, code):
    destination = await grpc_destination()
    destination.answers = [reset_with(code)]
    with pytest.raises(OutputRejected) as caught:
        await (await grpc(destination)).send(batch)
    assert caught.value.reason == "grpc_internal"


async def test_an_answer_before_all_was_sent_ends_the_call(grpc, grpc_destination):
    destination = await grpc_destination(window=10, acknowledges=False)
    otlp = await warmed(await grpc(destination, compression="none"))
    sending = asyncio.create_task(otlp.send(Batch("metrics", b"x" * 1000, 1)))
    connection = destination.connections[0]
    await until(lambda: connection.bodies.get(3))
    assert len(connection.bodies[3]) == 10
    connection.fail(3, 8, grpc_message="too large")
    with pytest.raises(OutputRejected, match="RESOURCE_EXHAUSTED: too large"):
        await sending
    await until(lambda: connection.resets)
    assert connection.resets == [3]


# flow control ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 1000, 65_535])
async def test_a_message_larger_than_the_window_waits_for_it(grpc, grpc_destination, window):
    destination = await grpc_destination(window=window)
    payload = length_delimited(1, bytes(range(256)) * (4 if window == 1 else 2000))
    await (await warmed(await grpc(destination, compression="none"))).send(Batch("metrics", payload, 1))
    assert destination.calls[1].raw == payload


async def test_a_large_message_over_tls(grpc, grpc_destination, certificates):
    destination = await grpc_destination(tls=True)
    payload = length_delimited(1, b"x" * (8 << 20))
    otlp = await grpc(destination, compression="none", tls=ClientTls(ca_file=str(certificates / "ca.pem")))
    await otlp.send(Batch("metrics", payload, 1))
    assert destination.calls[0].raw == payload


async def shut(destination):
    """The window of every stream to come becomes 0."""
    connection = destination.connections[0]
    connection.acknowledged = False
    connection.h2.update_settings({4: 0})
    connection.flush()
    await until(lambda: connection.acknowledged)
    return connection


async def test_a_server_that_takes_nothing_hits_the_deadline(grpc, grpc_destination):
    destination = await grpc_destination(acknowledges=False)
    otlp = await warmed(await grpc(destination, timeout_seconds=0.5))
    await shut(destination)
    with pytest.raises(OutputUnavailable, match=r"DEADLINE_EXCEEDED: no answer within 0\.5 s"):
        await otlp.send(EMPTY)


async def test_a_window_that_opens_by_settings_is_used(grpc, grpc_destination):
    destination = await grpc_destination(acknowledges=False)
    otlp = await warmed(await grpc(destination))
    connection = await shut(destination)
    sending = asyncio.create_task(otlp.send(EMPTY))
    await until(lambda: 3 in connection.headers)
    assert connection.bodies[3] == b""
    connection.h2.update_settings({4: 65_535})
    connection.flush()
    await sending


# the connection --------------------------------------------------------------------------------------------------------


async def test_nobody_listening_is_unavailable(output, batch):
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    otlp = await output(f"http://127.0.0.1:{port}", protocol="grpc")
    with pytest.raises(OutputUnavailable, match=f"http://127.0.0.1:{port}: Connection refused"):
        await otlp.send(batch)


async def test_a_call_that_is_never_answered_hits_the_deadline_and_is_reset(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    destination.answers = [lambda connection, stream: None]
    otlp = await grpc(destination, timeout_seconds=0.5)
    with pytest.raises(OutputUnavailable, match="DEADLINE_EXCEEDED"):
        await otlp.send(batch)
    await otlp.send(batch)
    assert [connection.resets for connection in destination.connections] == [[1]]


async def test_a_connection_on_which_nothing_is_heard_is_left(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    otlp = await warmed(await grpc(destination, timeout_seconds=0.5))
    await until(lambda: destination.connections[0].acknowledged)
    destination.answers = [lambda connection, stream: asyncio.sleep(30)]
    with pytest.raises(OutputUnavailable, match="DEADLINE_EXCEEDED"):
        await otlp.send(batch)
    await otlp.send(batch)
    assert len(destination.connections) == 2


async def test_calls_overlap_on_one_connection_and_each_gets_its_answer(grpc, grpc_destination):
    destination = await grpc_destination()
    held = []

    def hold(connection, stream):
        held.append((connection, stream))
        if len(held) == 8:
            for late, (connection_of, stream_of) in enumerate(reversed(held)):
                answer = ExportMetricsServiceResponse(
                    partial_success=ExportMetricsPartialSuccess(rejected_data_points=len(held) - late)
                )
                connection_of.reply(stream_of, body=answer.SerializeToString())

    otlp = await warmed(await grpc(destination, compression="none", concurrency=8))
    destination.answers = [hold] * 8
    payloads = [length_delimited(1, bytes([number]) * 200_000) for number in range(8)]
    delivered = await asyncio.gather(*(otlp.send(Batch("traces", payload, 1)) for payload in payloads))
    assert len(destination.connections) == 1
    assert sorted(call.message for call in destination.calls[1:]) == payloads
    arrived = [call.message for call in destination.calls[1:]]
    assert [delivered[payloads.index(message)].rejected_items for message in arrived] == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_no_more_calls_at_a_time_than_the_server_takes(grpc, grpc_destination, batch):
    destination = await grpc_destination(most_streams=2)
    under_way = [0, 0]
    done = asyncio.Event()

    async def hold(connection, stream):
        under_way[0] += 1
        under_way[1] = max(under_way)
        await asyncio.sleep(0)
        under_way[0] -= 1
        connection.reply(stream)
        if len(destination.calls) == 11:
            done.set()

    otlp = await warmed(await grpc(destination, concurrency=10))
    destination.answers = [hold] * 10
    await asyncio.gather(*(otlp.send(batch) for _ in range(10)))
    assert done.is_set()
    assert len(destination.connections) == 1


async def test_a_connection_on_which_nothing_is_heard_is_left_by_all_calls(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    otlp = await warmed(await grpc(destination, timeout_seconds=0.2, concurrency=4))
    destination.answers = [lambda connection, stream: None] * 4
    done = await asyncio.gather(*(otlp.send(batch) for _ in range(4)), return_exceptions=True)
    assert all(isinstance(each, OutputUnavailable) for each in done)
    await otlp.send(batch)
    assert len(destination.connections) == 2


async def test_a_cancelled_call_is_reset_and_the_connection_kept(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    called = asyncio.Event()

    def note(connection, stream):
        called.set()

    destination.answers = [None, note]
    destination.answers[0] = lambda connection, stream: connection.reply(stream)
    otlp = await grpc(destination)
    await otlp.send(batch)
    other = asyncio.create_task(otlp.send(batch))
    await called.wait()
    connection = destination.connections[0]
    connection.h2.ping(b"12345678")
    connection.flush()
    await until(lambda: connection.pongs)
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other
    await otlp.send(batch)
    assert connection.resets == [3]
    assert len(destination.connections) == 1


async def test_pings_are_answered_between_calls(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    otlp = await grpc(destination)
    await otlp.send(batch)
    connection = destination.connections[0]
    connection.h2.ping(b"12345678")
    connection.flush()
    await until(lambda: connection.pongs)


async def test_a_connection_that_was_lost_is_made_again(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    otlp = await grpc(destination)
    await otlp.send(batch)
    destination.connections[0].writer.close()
    await until(lambda: not otlp._transport._client._connection.usable)
    await otlp.send(batch)
    assert len(destination.connections) == 2


async def test_a_connection_that_breaks_during_a_call_is_unavailable(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    destination.answers = [lambda connection, stream: connection.writer.transport.abort()]
    otlp = await grpc(destination)
    with pytest.raises(OutputUnavailable, match=r"closed by the server|reset by peer"):
        await otlp.send(batch)
    await otlp.send(batch)


async def test_goaway_lets_a_call_finish_and_the_next_one_reconnect(grpc, grpc_destination, batch):
    destination = await grpc_destination()

    def graceful(connection, stream):
        connection.writer.write(frame(7, 0, struct.pack(">II", 0x7FFF_FFFF, 0)))
        connection.writer.write(frame(7, 0, struct.pack(">II", stream, 0)))
        connection.reply(stream)

    destination.answers = [graceful]
    otlp = await grpc(destination)
    await otlp.send(batch)
    await asyncio.wait_for(destination.connections[0].ended.wait(), 5)
    await otlp.send(batch)
    assert len(destination.connections) == 2


async def test_goaway_before_the_call_was_processed_is_unavailable(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    destination.answers = [
        lambda connection, stream: connection.writer.write(frame(7, 0, struct.pack(">II", 0, 11) + b"too many"))
    ]
    otlp = await grpc(destination)
    with pytest.raises(OutputUnavailable, match="the server is going away"):
        await otlp.send(batch)
    await otlp.send(batch)
    assert len(destination.connections) == 2


async def test_goaway_between_calls_closes_the_connection(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    otlp = await grpc(destination)
    await otlp.send(batch)
    destination.connections[0].writer.write(frame(7, 0, struct.pack(">II", 1, 0)))
    await asyncio.wait_for(destination.connections[0].ended.wait(), 5)
    await otlp.send(batch)
    assert len(destination.connections) == 2


async def test_answers_in_the_smallest_pieces_are_put_together(grpc, grpc_destination, batch):
    destination = await grpc_destination()

    async def trickle(connection, stream):
        connection.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        connection.h2.send_data(stream, b"\x00\x00\x00\x00\x00", pad_length=7)
        connection.h2.send_headers(stream, [("grpc-status", "14"), ("grpc-message", "in%20pieces")], end_stream=True)
        for byte in connection.h2.data_to_send():
            connection.writer.write(bytes([byte]))
            await connection.writer.drain()
            await asyncio.sleep(0)

    destination.answers = [trickle]
    with pytest.raises(OutputUnavailable, match="in pieces"):
        await (await grpc(destination)).send(batch)


async def speaking(answer):
    async def speak(reader, writer):
        await reader.read(24)
        writer.write(answer)
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server does not speak HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n", "a frame beyond the size agreed"),
        (frame(4, 0, b"123"), "HTTP/2: "),
        (frame(0, 1, b"x"), "HTTP/2: "),
        (frame(1, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", flags=4), "HTTP/2: "),
    ],
)
async def test_what_is_no_http2_is_unavailable(output, batch, answer, reason):
    server, url = await speaking(answer)
    async with server:
        otlp = await output(url, protocol="grpc")
        with pytest.raises(OutputUnavailable, match=reason):
            await otlp.send(batch)
        await otlp.stop()


async def test_an_endless_answer_is_not_held_in_memory(grpc, grpc_destination, batch, monkeypatch):
    destination = await grpc_destination()

    async def endless(connection, stream):
        connection.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        left = 4 << 20
        while left > 0:
            window = min(connection.h2.local_flow_control_window(stream), 16_384)
            if window:
                connection.h2.send_data(stream, b"\x00" * window)
                connection.flush()
                left -= window
            else:
                connection.h2.receive_data(await connection.reader.read(65_536))
        connection.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        connection.flush()

    destination.answers = [endless]
    otlp = await grpc(destination)
    kept = []
    answer = grpc_client._Call.answer
    monkeypatch.setattr(grpc_client._Call, "answer", lambda call: (kept.append(len(call.body)), answer(call))[1])
    assert (await otlp.send(batch)).rejected_items == 0
    assert kept == [64 << 10]


async def test_before_start_and_after_stop_it_is_unavailable(grpc, grpc_destination, batch):
    otlp = await grpc(await grpc_destination())
    await otlp.send(batch)
    await otlp.stop()
    with pytest.raises(OutputUnavailable, match="not started"):
        await otlp.send(batch)


async def test_stop_says_goodbye(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    otlp = await grpc(destination)
    await otlp.send(batch)
    await otlp.stop()
    await asyncio.wait_for(destination.connections[0].ended.wait(), 5)


# TLS, proxy, credentials -----------------------------------------------------------------------------------------------


async def test_tls(grpc, grpc_destination, batch, certificates):
    destination = await grpc_destination(tls=True)
    await (await grpc(destination, tls=ClientTls(ca_file=str(certificates / "ca.pem")))).send(batch)
    assert destination.calls[0].headers[":scheme"] == "https"


async def test_a_certificate_of_an_unknown_authority_is_not_accepted(grpc, grpc_destination, batch):
    with pytest.raises(OutputUnavailable, match="certificate not accepted"):
        await (await grpc(await grpc_destination(tls=True))).send(batch)


async def test_the_name_to_verify_can_be_stated(grpc, grpc_destination, batch, certificates):
    destination = await grpc_destination(tls=True)
    ca_file = str(certificates / "ca.pem")
    await (await grpc(destination, tls=ClientTls(ca_file=ca_file, server_name="collector.test"))).send(batch)
    with pytest.raises(OutputUnavailable, match="Hostname mismatch"):
        await (await grpc(destination, tls=ClientTls(ca_file=ca_file, server_name="other.test"))).send(batch)


async def test_mutual_tls(grpc, grpc_destination, batch, certificates):
    destination = await grpc_destination(tls=True, mutual=True)
    files = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key"}
    tls = ClientTls(**{name: str(certificates / file) for name, file in files.items()})
    await (await grpc(destination, tls=tls)).send(batch)
    with pytest.raises(OutputUnavailable):
        await (await grpc(destination, tls=ClientTls(ca_file=tls.ca_file))).send(batch)


async def test_a_server_without_alpn_is_unavailable(grpc, grpc_destination, batch, certificates):
    destination = await grpc_destination(tls=True, alpn=())
    with pytest.raises(OutputUnavailable, match="no ALPN h2"):
        await (await grpc(destination, tls=ClientTls(ca_file=str(certificates / "ca.pem")))).send(batch)


async def test_credentials_are_sent_and_never_shown(grpc, grpc_destination, output, batch):
    destination = await grpc_destination()
    words = "Basic YWdlbnQ6cEBzcy13b3Jk of agent"
    destination.answers = [lambda connection, stream: connection.fail(stream, 16, grpc_message=words)]
    otlp = await output(destination.url.replace("://", "://agent:p%40ss-word@"), protocol="grpc")
    with pytest.raises(OutputRejected) as caught:
        await otlp.send(batch)
    assert destination.calls[0].headers["authorization"] == "Basic YWdlbnQ6cEBzcy13b3Jk"
    assert str(caught.value) == f"{destination.url} answered UNAUTHENTICATED: *** of agent"


@pytest.mark.parametrize("status", ["200 OK", "407 Proxy Authentication Required"])
async def test_a_proxy_is_asked_to_connect(grpc, grpc_destination, batch, monkeypatch, status):
    destination = await grpc_destination()
    heads = []

    async def proxy(reader, writer):
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {status}\r\nVia: test\r\n\r\n".encode())
        if not status.startswith("2"):
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection(*destination.url.removeprefix("http://").split(":"))

        async def copy(source, target):
            while data := await source.read(65_536):
                target.write(data)
            target.close()

        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        monkeypatch.setenv("http_proxy", f"http://user:pass-word@127.0.0.1:{server.sockets[0].getsockname()[1]}")
        otlp = await grpc(destination)
        if status.startswith("2"):
            await otlp.send(batch)
            assert len(destination.calls) == 1
        else:
            with pytest.raises(OutputUnavailable, match=r"the proxy http://127.0.0.1:\d+ answered 407$"):
                await otlp.send(batch)
        await otlp.stop()
    authority = destination.url.removeprefix("http://")
    assert heads[0].startswith(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNzLXdvcmQ=" in heads[0]


@pytest.mark.parametrize(
    ("endpoint", "authority"),
    [("http://collector", "collector:4317"), ("https://collector/", "collector:443"), ("http://[::1]:5", "[::1]:5")],
)
def test_ports_where_none_is_stated(endpoint, authority):
    output = OtlpOutput(Export(name="central", endpoint=endpoint, protocol="grpc"))
    assert output._transport._endpoint.authority == authority


def test_a_path_is_a_configuration_error():
    with pytest.raises(ConfigError, match=r"export\.central\.endpoint: gRPC has no paths: leave /v1/metrics out"):
        OtlpOutput(Export(name="central", endpoint="http://collector:4317/v1/metrics", protocol="grpc"))


@pytest.mark.parametrize("answer", [b"\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 ok\r\n\r\n"])
async def test_a_proxy_that_speaks_no_http_is_unavailable(output, batch, monkeypatch, answer):
    async def proxy(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        otlp = await output("http://collector", protocol="grpc")
        with pytest.raises(OutputUnavailable, match=r"the proxy http://127.0.0.1:\d+ does not speak HTTP$"):
            await otlp.send(batch)


async def test_a_status_that_is_absurdly_long_is_unknown_and_the_connection_kept(grpc, grpc_destination, batch):
    destination = await grpc_destination()
    destination.answers = [lambda connection, stream: connection.fail(stream, "9" * 5000)]
    otlp = await grpc(destination)
    with pytest.raises(OutputRejected) as caught:
        await otlp.send(batch)
    assert caught.value.reason == "grpc_unknown"
    await otlp.send(batch)
    assert len(destination.connections) == 1


async def test_a_reset_after_the_headers_ends_the_call(grpc, grpc_destination, batch):
    def headers_and_reset(connection, stream):
        connection.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        connection.h2.reset_stream(stream, 7)
        connection.flush()

    destination = await grpc_destination()
    destination.answers = [headers_and_reset]
    otlp = await grpc(destination)
    with pytest.raises(OutputUnavailable, match="UNAVAILABLE: the server reset the call: REFUSED_STREAM"):
        await otlp.send(batch)
    await otlp.send(batch)
    assert len(destination.connections) == 1


async def test_frames_larger_than_the_default_are_used_where_the_server_takes_them(grpc, grpc_destination):
    destination = await grpc_destination(window=1 << 20)
    otlp = await warmed(await grpc(destination, compression="none"))
    connection = destination.connections[0]
    connection.h2.update_settings({5: 1 << 20})
    connection.acknowledged = False
    connection.flush()
    await until(lambda: connection.acknowledged)
    payload = length_delimited(1, b"x" * 300_000)
    await otlp.send(Batch("metrics", payload, 1))
    assert destination.calls[1].raw == payload


async def test_a_server_that_pings_without_end_and_reads_nothing_is_left(output, monkeypatch):
    monkeypatch.setattr("novel_agent.outputs.grpc_client._LARGEST_UNREAD_BYTES", 32 << 10)

    async def flood(reader, writer):
        writer.write(frame(4, 0, b"") + frame(6, 0, bytes(8)) * 60_000)
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(frame(6, 0, bytes(8)) * 60_000)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        otlp = await output(endpoint, protocol="grpc", timeout_seconds=60.0)
        with pytest.raises(OutputUnavailable, match="sends frames to answer and reads no answers"):
            await otlp.send(EMPTY)


async def test_a_stop_while_connecting_leaves_no_connection(grpc_destination, output, monkeypatch):
    destination = await grpc_destination()
    otlp = await output(destination.url, protocol="grpc")
    client = otlp._transport._client
    connect, may = client._connect, asyncio.Event()

    async def slowly():
        await may.wait()
        return await connect()

    monkeypatch.setattr(client, "_connect", slowly)
    sending = asyncio.create_task(otlp.send(EMPTY))
    await asyncio.sleep(0)
    await otlp.stop()
    may.set()
    with pytest.raises(OutputUnavailable, match="closed"):
        await sending
    await until(lambda: destination.connections and destination.connections[0].ended.is_set())
