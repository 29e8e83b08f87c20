"""One row a rule of opentelemetry-proto's specification.md (1.11.0) and of gRPC's PROTOCOL-HTTP2.md, per transport."""

import gzip
import json
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import zstandard
from h2_client import H2Client, framed

from novel_agent.model.batch import Signal
from novel_agent.wire.otlp_response import rpc_status, rpc_status_from_json
from novel_agent.wire.protobuf import fields

from .conftest import METHODS, Reply, Running, logs, metrics, traces

PROTOBUF, JSON = "application/x-protobuf", "application/json"
BODIES: dict[Signal, tuple[bytes, int]] = {"traces": (traces(3), 3), "logs": (logs(2), 2), "metrics": (metrics(4), 4)}
TRACES_JSON = json.dumps(
    {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "5b8efff798038103d269b633813fc60c",
                                "spanId": "EEE19B7EC3C1B174",
                                "name": "I'm a server span",
                                "startTimeUnixNano": "1544712660000000000",
                                "endTimeUnixNano": 1544712661000000000,
                                "kind": 2,
                                "unknownField": {"is": ["ignored"]},
                            }
                        ]
                    }
                ]
            }
        ]
    }
).encode()


def chunked(body: bytes) -> bytes:
    half = len(body) // 2
    parts = [body[:half], body[half:], b""]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def code_of(answer: Reply) -> int:
    """The google.rpc.Code in an error's body, whose form must be that of its content type."""
    if answer.headers["content-type"] == JSON:
        return int(json.loads(answer.body)["code"])
    assert answer.headers["content-type"] == PROTOBUF
    [code] = [value for number, _, value in fields(answer.body) if number == 1]
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize("encoding", ["", "identity", "gzip", "GZIP", "zstd", "deflate"])
@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
async def test_http_takes_every_signal_in_every_encoding(receiver: Running, signal: Signal, encoding: str) -> None:
    body, items = BODIES[signal]
    headers = {"Content_Encoding": encoding} if encoding else {}
    answer = await receiver.post(f"/v1/{signal}", encoded(body, encoding), **headers)
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, PROTOBUF, b"")
    [batch] = receiver.destination.batches
    assert (batch.signal, batch.payload, batch.items) == (signal, body, items)


def encoded(body: bytes, encoding: str) -> bytes:
    compress: Any = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.ZstdCompressor().compress}
    return bytes(compress.get(encoding.lower(), bytes)(body))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
async def test_grpc_takes_every_signal_in_every_encoding(receiver: Running, signal: Signal, compressed: bool) -> None:
    body, items = BODIES[signal]
    sent = gzip.compress(body) if compressed else body
    answer = await receiver.call(METHODS[signal], sent, compressed=compressed, grpc_encoding="gzip")
    assert (answer[":status"], answer["content-type"], answer["grpc-status"]) == ("200", "application/grpc", "0")
    [batch] = receiver.destination.batches
    assert (batch.signal, batch.payload, batch.items) == (signal, body, items)


@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8", "Application/JSON"])
async def test_json_is_answered_in_json(receiver: Running, content_type: str) -> None:
    answer = await receiver.post("/v1/traces", TRACES_JSON, Content_Type=content_type)
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, JSON, b"{}")
    assert receiver.destination.items == 1
    assert bytes.fromhex("eee19b7ec3c1b174") in receiver.destination.batches[0].payload


async def test_json_may_be_compressed(receiver: Running) -> None:
    answer = await receiver.post("/v1/traces", gzip.compress(TRACES_JSON), Content_Type=JSON, Content_Encoding="gzip")
    assert (answer.status, receiver.destination.items) == (200, 1)


class Row(NamedTuple):
    """A request over HTTP that is refused."""

    rule: str
    status: int
    code: int
    path: str = "/v1/traces"
    method: str = "POST"
    body: bytes = traces(1)
    headers: Mapping[str, str] = MappingProxyType({})
    answer_headers: Mapping[str, str] = MappingProxyType({})


CUT = gzip.compress(traces(9))[:-9]
REFUSED = [
    Row("another path is not found", 404, 12, path="/v1/trace"),
    Row("a path below one is not found", 404, 12, path="/v1/traces/"),
    Row("GET is not allowed", 405, 12, method="GET", body=b"", answer_headers={"allow": "POST"}),
    Row("OPTIONS is not allowed", 405, 12, method="OPTIONS", body=b"", answer_headers={"allow": "POST"}),
    Row("PUT is not allowed", 405, 12, method="PUT", answer_headers={"allow": "POST"}),
    Row("another content type is unsupported", 415, 3, headers={"Content_Type": "text/plain"}),
    Row("gRPC over the HTTP port is unsupported", 415, 3, headers={"Content_Type": "application/grpc"}),
    Row("an unknown encoding is unsupported", 415, 12, headers={"Content_Encoding": "br"}),
    Row("two encodings are unsupported", 415, 12, headers={"Content_Encoding": "gzip, gzip"}),
    Row("what is not protobuf is bad", 400, 3, body=b"\xff\xff\xff\xff"),
    Row("a length beyond the end is bad", 400, 3, body=b"\x0a\x7f\x0a"),
    Row("a span's field beyond its span is bad", 400, 3, body=b"\x0a\x06\x12\x04\x12\x02\x2a\x09"),
    Row("JSON that is none is bad", 400, 3, body=b"{", headers={"Content_Type": JSON}),
    Row("JSON of the wrong shape is bad", 400, 3, body=b'{"resourceSpans":3}', headers={"Content_Type": JSON}),
    Row(
        "an id that is not hex is bad",
        400,
        3,
        body=TRACES_JSON.replace(b"5b8e", b"5b8x"),
        headers={"Content_Type": JSON},
    ),
    Row("what is not gzip is bad", 400, 3, headers={"Content_Encoding": "gzip"}),
    Row("cut off gzip is bad", 400, 3, body=CUT, headers={"Content_Encoding": "gzip"}),
    Row("no gzip at all is bad", 400, 3, body=b"", headers={"Content_Encoding": "gzip"}),
    Row("what is not zstd is bad", 400, 3, headers={"Content_Encoding": "zstd"}),
    Row("what is not deflate is bad", 400, 3, headers={"Content_Encoding": "deflate"}),
    Row("a host that is not ours is refused", 421, 7, headers={"Host": "evil.example"}),
    Row("a page of another site is refused", 403, 7, headers={"Origin": "https://evil.example"}),
    Row("what came through a proxy needs a token", 401, 16, headers={"X_Forwarded_For": "10.0.0.1"}),
]


@pytest.mark.parametrize("row", REFUSED, ids=[row.rule for row in REFUSED])
async def test_http_refuses(receiver: Running, row: Row) -> None:
    answer = await receiver.post(row.path, row.body, row.method, **row.headers)
    assert answer.status == row.status
    assert code_of(answer) == row.code
    read = rpc_status if answer.headers["content-type"] == PROTOBUF else rpc_status_from_json
    assert read(answer.body).message
    assert answer.headers.items() >= row.answer_headers.items()
    assert receiver.destination.batches == []
    assert receiver.counts.of("http").requests == {"accepted": 0, "empty": 0, "refused": 1, "failed": 0, "hung_up": 0}
    assert receiver.counts.of("http").refused.total() == 1


async def test_an_error_is_in_the_content_type_of_the_request(receiver: Running) -> None:
    assert (await receiver.post("/v1/traces", b"\xff")).headers["content-type"] == PROTOBUF
    assert (await receiver.post("/v1/traces", b"\xff", Content_Type=JSON)).headers["content-type"] == JSON
    assert (await receiver.post("/v1/x", b"")).headers["content-type"] == PROTOBUF
    assert (await receiver.post("/v1/traces", b"", Content_Type="text/plain")).headers["content-type"] == JSON


@pytest.mark.parametrize("body", [b"", b"\x0a\x00", traces(0)])
async def test_an_empty_request_succeeds_and_goes_nowhere(receiver: Running, body: bytes) -> None:
    assert (await receiver.post("/v1/traces", body)).status == 200
    assert (await receiver.call(METHODS["traces"], body))["grpc-status"] == "0"
    assert receiver.destination.batches == []
    assert receiver.counts.of("http").requests["empty"] == receiver.counts.of("grpc").requests["empty"] == 1


@pytest.mark.parametrize("body", [b"{}", b'{"resourceSpans":[]}', b""])
async def test_an_empty_request_in_json_succeeds(receiver: Running, body: bytes) -> None:
    assert (await receiver.post("/v1/traces", body, Content_Type=JSON)).body == b"{}"
    assert receiver.destination.batches == []


async def test_several_gzip_members_are_one_body(receiver: Running) -> None:
    body = traces(2)
    members = gzip.compress(body[:10]) + gzip.compress(b"") + gzip.compress(body[10:]) + bytes(7)
    assert (await receiver.post("/v1/traces", members, Content_Encoding="gzip")).status == 200
    assert receiver.destination.batches[0].payload == body


async def test_a_chunked_body_is_taken(receiver: Running) -> None:
    sent = receiver.head(Transfer_Encoding="chunked") + chunked(traces(2))
    assert (await receiver.send(sent)).startswith(b"HTTP/1.1 200")
    assert receiver.destination.items == 2


async def test_a_body_is_asked_for_where_the_client_waits_for_that(receiver: Running) -> None:
    body = traces(2)
    reader, writer = await receiver.connect()
    writer.write(receiver.head(Content_Length=str(len(body)), Expect="100-continue"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()


async def test_a_connection_serves_many_requests(receiver: Running) -> None:
    reader, writer = await receiver.connect()
    head = receiver.head(Content_Length=str(len(traces(1))), Connection="keep-alive")
    writer.write((head + traces(1)) * 5)
    for _ in range(5):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    assert receiver.destination.items == 5
    assert receiver.counts.of("http").items["traces"] == 5


async def test_fields_beside_the_first_are_left_out(receiver: Running) -> None:
    assert (await receiver.post("/v1/traces", b"\x10\x01" + traces(1))).status == 200
    assert receiver.destination.batches[0].payload == traces(1)


GRPC_REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    (
        "an unknown method is unimplemented",
        "12",
        {"path": "/opentelemetry.proto.collector.trace.v1.TraceService/Import"},
    ),
    ("an unknown service is unimplemented", "12", {"path": "/grpc.health.v1.Health/Check"}),
    ("an unknown encoding is unimplemented", "12", {"grpc_encoding": "zstd"}),
    ("what is not protobuf is an invalid argument", "3", {"data": framed(b"\xff\xff")}),
    ("what is not gzip is an invalid argument", "3", {"data": framed(b"x", compressed=True), "grpc_encoding": "gzip"}),
    ("cut off gzip is an invalid argument", "3", {"data": framed(CUT, compressed=True), "grpc_encoding": "gzip"}),
    ("a compressed message without an encoding is broken", "13", {"data": framed(b"x", compressed=True)}),
    ("a call without a message is broken", "13", {"data": b""}),
    ("half a prefix is broken", "13", {"data": b"\0\0"}),
    ("half a message is broken", "13", {"data": framed(traces(1))[:-1]}),
    ("two messages are broken", "13", {"data": framed(traces(1)) * 2}),
    ("a message of more than the most is too large", "8", {"data": b"\0\x04\0\0\1"}),
    ("a host that is not ours is refused", "7", {"authority": "evil.example"}),
    ("what came through a proxy needs a token", "16", {"x_forwarded_for": "10.0.0.1"}),
]


@pytest.mark.parametrize(("rule", "code", "call"), GRPC_REFUSED, ids=[rule for rule, _, _ in GRPC_REFUSED])
async def test_grpc_refuses(receiver: Running, rule: str, code: str, call: dict[str, Any]) -> None:
    client = await H2Client.connect(receiver.grpc_port)
    answer = await client.call(**({"path": METHODS["traces"], "data": framed(traces(1))} | call))
    assert (answer[":status"], answer["grpc-status"]) == ("200", code)
    assert answer["grpc-message"]
    assert "grpc-status-details-bin" not in answer
    assert receiver.destination.batches == []
    assert receiver.counts.of("grpc").requests["refused"] == receiver.counts.of("grpc").refused.total() == 1
    assert (await client.call(METHODS["traces"], framed(traces(1))))["grpc-status"] == "0"
    await client.close()


@pytest.mark.parametrize(
    "content_type", [None, "application/x-protobuf", "application/grpc-web", "application/grpc+json"]
)
async def test_what_is_not_grpc_is_an_unsupported_media_type(receiver: Running, content_type: str | None) -> None:
    answer = await receiver.call(METHODS["traces"], traces(1), content_type=content_type)
    assert answer == {":status": "415"}


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;charset=utf-8"])
async def test_other_writings_of_grpcs_content_type_are_known(receiver: Running, content_type: str) -> None:
    assert (await receiver.call(METHODS["traces"], traces(1), content_type=content_type))["grpc-status"] == "0"


async def test_a_get_on_the_grpc_port_is_not_allowed(receiver: Running) -> None:
    assert await receiver.call(METHODS["traces"], b"", method="GET") == {":status": "405"}


async def test_the_answers_message_is_empty(receiver: Running) -> None:
    client = await H2Client.connect(receiver.grpc_port)
    stream = client.begin(METHODS["traces"])
    await client.send(stream, framed(traces(1)))
    await client.answer(stream)
    assert client.bodies[stream] == bytes(5)
    await client.close()
