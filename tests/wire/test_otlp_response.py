import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)

from novel_agent.wire.otlp_response import (
    PartialSuccess,
    RpcStatus,
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
