"""The earlier server's flat JSON file, key by key."""

import json

import pytest

from novel_agent.config.earlier_server import USED, EarlierServer
from novel_agent.config.schema import Export

DOCUMENTED = {
    "environment": "production",
    "log_level": "INFO",
    "tracing_sampling_rate": 1.0,
    "jaeger_endpoint": "http://jaeger:14268/api/traces",
    "base_url": "https://api.novel-engine.com",
    "email_recipients": ["ops@company.com"],
    "slack_webhook_url": "https://hooks.slack.com/services/...",
    "dashboard_retention_hours": 168,
    "dashboard_export_enabled": True,
}
NOT_YET = {
    "base_url": "https://api.example.org",
    "email_recipients": ["a@b"],
    "slack_webhook_url": "https://hooks.slack.com/services/x",
    "webhook_urls": ["https://x"],
    "pagerduty_integration_key": "k",
    "smtp_host": "smtp.example.org",
    "smtp_port": 587,
    "smtp_username": "u",
    "smtp_password": "p",
    "dashboard_retention_hours": 168,
    "dashboard_export_enabled": False,
    "dashboard_export_path": "exports",
    "log_directory": "logs",
}


def write(place, values):
    return place.write("agent.yaml", json.dumps(values, indent=2))


def test_the_documented_file_works_as_it_is(place):
    write(place, DOCUMENTED)
    loaded = place.load()
    assert loaded.config.resource.attributes == {"deployment.environment.name": "production"}
    assert loaded.config.agent.log_level == "info"
    assert loaded.config.export == (Export(name="jaeger", endpoint="http://jaeger:4318", signals=("traces",)),)
    assert loaded.origins["resource.attributes.deployment.environment.name"] == f"{place.config}:2"
    assert [notice.replace(f"{place.root}/", "") for notice in loaded.notices] == [
        "agent.yaml:6: base_url is understood but not used by this version",
        "agent.yaml:7: email_recipients is understood but not used by this version",
        "agent.yaml:10: slack_webhook_url is understood but not used by this version",
        "agent.yaml:11: dashboard_retention_hours is understood but not used by this version",
        "agent.yaml:12: dashboard_export_enabled is understood but not used by this version",
        "agent.yaml:5 becomes an OTLP export of traces to http://jaeger:4318: Jaeger no longer takes its own protocol",
    ]


@pytest.mark.parametrize(("key", "value"), NOT_YET.items())
def test_a_key_that_has_no_part_yet_is_understood_and_said(place, key, value):
    write(place, {key: value})
    loaded = place.load(state_dir="/s")
    assert loaded.notices == [f"{place.config}:2: {key} is understood but not used by this version"]
    place.config.unlink()
    assert loaded.config == place.load(state_dir="/s").config


def test_every_key_is_one_or_the_other():
    assert {*NOT_YET, *USED} == set(EarlierServer.__struct_fields__)
    assert set(DOCUMENTED) <= set(EarlierServer.__struct_fields__)


@pytest.mark.parametrize(("port", "protocol"), [(4317, "grpc"), (4318, "http/protobuf")])
def test_the_otlp_endpoint_is_a_destination_of_all_signals(place, port, protocol):
    write(place, {"otlp_endpoint": f"http://tempo:{port}"})
    (export,) = place.load().config.export
    assert (export.name, export.endpoint, export.protocol) == ("otlp", f"http://tempo:{port}", protocol)
    assert export.signals == ("metrics", "logs", "traces")


@pytest.mark.parametrize("rate", [0, 0.25, 1.0])
def test_the_sampling_rate_is_that_of_head_sampling(place, rate):
    write(place, {"tracing_sampling_rate": rate})
    loaded = place.load()
    assert (loaded.config.traces.head_sampling, loaded.notices) == (rate, [])


@pytest.mark.parametrize("enabled", [{}, {"enable_remote_logging": True}])
def test_the_remote_logging_endpoint_is_an_export_of_logs_to_loki(place, enabled):
    write(place, {"logging_remote_endpoint": "http://loki:3100/loki/api/v1/push", **enabled})
    (export,) = place.load().config.export
    assert (export.name, export.type, export.signals) == ("loki", "loki", ("logs",))
    assert export.endpoint == "http://loki:3100/loki/api/v1/push"


def test_remote_logging_that_is_off_is_no_export(place):
    write(place, {"logging_remote_endpoint": "http://loki:3100", "enable_remote_logging": False})
    assert place.load().config.export == ()


def test_null_is_nothing(place):
    write(place, dict.fromkeys(EarlierServer.__struct_fields__))
    assert place.load().notices == []


@pytest.mark.parametrize(
    ("values", "mistake"),
    [
        ({"environment": "a", "jager_endpoint": "x"}, "3: jager_endpoint: unknown key; did you mean jaeger_endpoint?"),
        ({"log_level": "LOUD"}, '2: log_level: "LOUD" is not a log level; write debug, info, warning or error'),
        ({"tracing_sampling_rate": 2}, "2: tracing_sampling_rate: is 2; it must be at most 1"),
        ({"smtp_port": "587"}, "2: smtp_port: is text; write 587 without quotes"),
        ({"email_recipients": "a@b"}, '2: email_recipients: is the text "a@b"; write a list: [a@b]'),
        (
            {"base_url": "api.example.org"},
            '2: base_url: "api.example.org" has no scheme; write http://api.example.org or https://api.example.org',
        ),
        (
            {"otlp_endpoint": "tempo:4318"},
            '2: export[otlp].endpoint: "tempo:4318" has no scheme; write http://tempo:4318 or https://tempo:4318',
        ),
        ({"webhook_urls": "https://hooks/hidden"}, "2: webhook_urls: is a single value; write a list"),
        ({"jager_endpoint": "http://h"}, "2: jager_endpoint: unknown key; did you mean jaeger_endpoint?"),
        ({"dashboard_export_enabled": "yes"}, "2: dashboard_export_enabled: is text; write yes without quotes"),
    ],
)
def test_a_mistake_in_it_is_named(place, values, mistake):
    write(place, values)
    assert place.mistakes() == [f"agent.yaml:{mistake}"]


def test_the_environment_comes_before_it(place):
    write(place, {"environment": "a", "log_level": "INFO", "jaeger_endpoint": "http://one:1"})
    config = place.load(environ={"ENVIRONMENT": "b", "LOG_LEVEL": "debug", "JAEGER_ENDPOINT": "http://two:2"}).config
    assert config.resource.attributes == {"deployment.environment.name": "b"}
    assert config.agent.log_level == "debug"
    assert [export.endpoint for export in config.export] == ["http://two:4318"]


def test_drop_ins_are_merged_over_it(place):
    write(place, {"environment": "a"})
    place.write("conf.d/a.yaml", "resource: {attributes: {deployment.environment.name: b}}\n")
    assert place.load().config.resource.attributes == {"deployment.environment.name": "b"}


def test_dollar_signs_stay_as_they_are(place):
    write(place, {"environment": "${NOT_SET} $$"})
    assert place.load().config.resource.attributes == {"deployment.environment.name": "${NOT_SET} $$"}


def test_its_keys_beside_a_section_of_ours_are_unknown(place):
    place.write("agent.yaml", "environment: production\nagent: {listen: ':1'}\n")
    assert place.mistakes() == [
        "agent.yaml:1: environment: unknown key; "
        "known here: agent, resource, host, processes, otlp_receiver, traces, logs, export"
    ]


def test_a_drop_in_is_never_taken_for_it(place):
    place.write("conf.d/a.yaml", "environment: production\n")
    assert len(place.mistakes()) == 1
