import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.wire.prometheus_names import label_name, labels, metric_name


@pytest.mark.parametrize(
    ("name", "unit", "kind", "monotonic", "shown"),
    [
        ("http.server.request.duration", "s", "histogram", False, "http_server_request_duration_seconds"),
        ("http.server.active_requests", "{request}", "sum", False, "http_server_active_requests"),
        ("http.server.request.body.size", "By", "histogram", False, "http_server_request_body_size_bytes"),
        ("stories.generated", "{story}", "sum", True, "stories_generated_total"),
        ("requests_total", "", "sum", True, "requests_total"),
        ("total.requests", "1", "sum", True, "requests_total"),
        ("items", "1", "sum", True, "items_total"),
        ("cpu.usage", "1", "gauge", False, "cpu_usage_ratio"),
        ("cpu_usage_ratio", "1", "gauge", False, "cpu_usage_ratio"),
        ("queue.size", "1", "sum", False, "queue_size"),
        ("response_time_seconds", "s", "gauge", False, "response_time_seconds"),
        ("requests", "1/s", "gauge", False, "requests_per_second"),
        ("throughput", "By/s", "gauge", False, "throughput_bytes_per_second"),
        ("throughput", "By/{custom}", "gauge", False, "throughput_bytes"),
        ("fuel", "L/m", "gauge", False, "fuel_L_per_minute"),
        ("memory", "MiBy", "gauge", False, "memory_mebibytes"),
        ("share", "%", "gauge", False, "share_percent"),
        ("custom_metric", "unit@with#special/chars", "gauge", False, "custom_metric_unit_with_special_per_chars"),
        ("metric__with__underscores", "u__x", "gauge", False, "metric_with_underscores_u_x"),
        ("123.requests", "", "gauge", False, "_123_requests"),
        ("job:rate", "", "gauge", False, "job:rate"),
        ("größe", "", "gauge", False, "gr_e"),
        ("@#$%", "s", "gauge", False, ""),
        ("", "s", "gauge", False, ""),
    ],
)  # fmt: skip
def test_a_metric_is_named_as_the_compatibility_specification_says(name, unit, kind, monotonic, shown):
    assert metric_name(name, unit, kind, monotonic=monotonic) == shown


@pytest.mark.parametrize(
    ("attribute", "label"),
    [
        ("http.request.method", "http_request_method"),
        ("a..b", "a_b"),
        ("a__b", "a_b"),
        ("1st", "key_1st"),
        ("_private", "key_private"),
        ("", "key"),
        ("ü", "key_"),
        ("__name__", "key_name_"),
    ],
)
def test_an_attribute_becomes_a_label(attribute, label):
    assert label_name(attribute) == label


def test_values_of_attributes_whose_names_fall_together_are_joined_in_the_order_of_the_names():
    assert labels([("a_b", "2"), ("a.b", "1"), ("c", "3")]) == {"a_b": "1;2", "c": "3"}


@given(st.text(), st.text())
def test_names_are_valid_whatever_comes(name, unit):
    for kind, monotonic in (("gauge", False), ("sum", True), ("histogram", False)):
        shown = metric_name(name, unit, kind, monotonic=monotonic)
        assert not shown or re.fullmatch("[a-zA-Z_:][a-zA-Z0-9_:]*", shown)
    assert re.fullmatch("[a-zA-Z][a-zA-Z0-9_]*", label_name(name))
