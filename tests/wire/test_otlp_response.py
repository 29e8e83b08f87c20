import json

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from novel_agent.wire.otlp_response import (
    PartialSuccess,
    RpcStatus,
    encode_partial_success,
    encode_partial_success_json,
    encode_status,
    encode_status_json,
    partial_success,
    partial_success_from_json,
    rpc_status,
    rpc_status_from_json,
)
from novel_agent.wire.protobuf import integer, length_delimited, text

RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


def detail(type_url, *delay):
    return length_delimited(3, text(1, type_url), length_delimited(2, length_delimited(1, *delay)))


@pytest.mark.parametrize(("rejected", "message"), [(3, "too old"), (0, "a warning"), (7, ""), (-1, "odd")])
def test_partial_success_as_protobuf_writes_it(rejected, message):
    answer = ExportMetricsServiceResponse(
        partial_success=ExportMetricsPartialSuccess(rejected_data_points=rejected, error_message=message)
    )
    assert partial_success(answer.SerializeToString()) == PartialSuccess(rejected, message)


def test_an_empty_response_is_full_success():
    assert partial_success(b"") == partial_success_from_json(b"{}") == PartialSuccess(0, "")


@pytest.mark.parametrize(
    ("body", "rejected", "message"),
    [
        ('{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"too old"}}', 3, "too old"),
        ('{"partialSuccess":{"rejectedLogRecords":4}}', 4, ""),
        ('{"partialSuccess":{"rejectedSpans":"5"}}', 5, ""),
        ('{"partialSuccess":{"errorMessage":"a warning"}}', 0, "a warning"),
        ('{"partialSuccess":null}', 0, ""),
        ('{"partialSuccess":[1]}', 0, ""),
        ('{"partialSuccess":{"rejectedSpans":"many"}}', 0, ""),
        ('{"partialSuccess":{"rejectedSpans":1e999}}', 0, ""),
        ("[]", 0, ""),
        ("{", 0, ""),
        ("\xff", 0, ""),
    ],
)
def test_partial_success_in_json(body, rejected, message):
    assert partial_success_from_json(body.encode("latin-1")) == PartialSuccess(rejected, message)


def test_a_status_with_a_delay():
    body = integer(1, 8) + text(2, "slow däwn") + detail(RETRY_INFO, integer(1, 2), integer(2, 500_000_000))
    assert rpc_status(body) == RpcStatus("slow däwn", 2.5)


def test_of_several_details_the_retry_info_counts():
    body = detail("type.googleapis.com/google.rpc.Help", integer(1, 9)) + detail(RETRY_INFO, integer(1, 4))
    assert rpc_status(body).retry_after_seconds == 4.0


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b"", None),
        (text(2, "no"), None),
        (detail(RETRY_INFO), 0.0),
        (detail(RETRY_INFO, integer(1, -5)), 0.0),
        (length_delimited(3, text(1, RETRY_INFO), length_delimited(2, b"\xff")), 0.0),
        (b"\xff\xff", None),
    ],
)
def test_delays_that_are_odd(body, seconds):
    assert rpc_status(body).retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("delay", "seconds"), [('"2.5s"', 2.5), ('"3s"', 3.0), ('"-1s"', 0.0), ("null", None), ('"soon"', None), ("7", 7.0)]
)
def test_a_status_in_json(delay, seconds):
    body = f'{{"code":8,"message":"busy","details":[{{"@type":"{RETRY_INFO}","retryDelay":{delay}}}]}}'
    assert rpc_status_from_json(body.encode()) == RpcStatus("busy", seconds)


@pytest.mark.parametrize("body", [b"", b"null", b'"text"', b'{"details":5}', b'{"details":[1,null]}', b"[" * 50_000])
def test_json_that_is_no_status_says_nothing(body):
    assert rpc_status_from_json(body) == RpcStatus("", None)


RESPONSES = {
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
}


@pytest.mark.parametrize("signal", RESPONSES)
@pytest.mark.parametrize(("rejected", "message"), [(3, "too öld"), (0, "a warning"), (7, ""), (2**62, "all")])
def test_a_partial_success_is_written_as_protobuf_reads_it(signal, rejected, message):
    response_class, field = RESPONSES[signal]
    response = response_class.FromString(encode_partial_success(signal, rejected, message))
    assert (getattr(response.partial_success, field), response.partial_success.error_message) == (rejected, message)
    body = encode_partial_success_json(signal, rejected, message)
    assert json_format.Parse(body, response_class()) == response
    assert partial_success_from_json(body) == PartialSuccess(rejected, message)


def test_full_success_says_nothing():
    assert encode_partial_success("traces", 0, "") == b""
    assert encode_partial_success_json("traces", 0, "") == b"{}"


@pytest.mark.parametrize("delay", [None, 0.0, 1.0, 2.5, 0.000000001, 86_400.0])
def test_a_status_is_read_as_it_was_written(delay):
    assert rpc_status(encode_status(8, "slow däwn", delay)) == RpcStatus("slow däwn", delay)
    assert rpc_status_from_json(encode_status_json(8, "slow däwn", delay)) == RpcStatus("slow däwn", delay)


def test_a_status_as_googles_api_documents_it():
    assert encode_status(3, "no") == bytes.fromhex("0803" + "1202" + "6e6f")
    delayed = encode_status(14, "", 1.5)
    assert delayed == integer(1, 14) + detail(RETRY_INFO, integer(1, 1), integer(2, 500_000_000))
    assert json.loads(encode_status_json(14, "busy", 1.5)) == {
        "code": 14,
        "message": "busy",
        "details": [{"@type": RETRY_INFO, "retryDelay": "1.500000000s"}],
    }
    assert json.loads(encode_status_json(14, "busy", 30))["details"][0]["retryDelay"] == "30s"


def test_a_delay_in_the_past_is_none_at_all():
    assert rpc_status(encode_status(14, "", -3.0)).retry_after_seconds == 0
