"""The table of the environment's variables, row by row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novel_agent.config.environment import UNUSED, USED
from novel_agent.config.load import load
from novel_agent.config.model import Sources
from novel_agent.config.schema import ClientTls, Export
from novel_agent.config.show import show
from novel_agent.errors import ConfigErrors

ALL = ("metrics", "logs", "traces")


def exports(place, **environ):
    return list(place.load(environ=environ).config.export)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("INFO", "info"),
        ("debug", "debug"),
        ("Warn", "warning"),
        ("CRITICAL", "error"),
        ("trace", "debug"),
        (" error ", "error"),
    ],
)
def test_log_level_goes_by_any_name(place, text, level):
    loaded = place.load(environ={"LOG_LEVEL": text})
    assert loaded.config.agent.log_level == level
    assert loaded.origins["agent.log_level"] == "environment LOG_LEVEL"


def test_a_wrong_log_level_is_a_mistake(place):
    assert place.mistakes(environ={"LOG_LEVEL": "infos"}) == [
        'environment LOG_LEVEL: agent.log_level: "infos" is not a log level; did you mean info?'
    ]


def test_the_environment_name_is_a_resource_attribute(place):
    place.write("agent.yaml", "resource: {attributes: {deployment.environment.name: test, a: b}}\n")
    loaded = place.load(environ={"ENVIRONMENT": "production"})
    assert loaded.config.resource.attributes == {"a": "b", "deployment.environment.name": "production"}
    assert loaded.origins["resource.attributes.deployment.environment.name"] == "environment ENVIRONMENT"


def test_resource_attributes_are_percent_encoded_and_the_service_name_has_its_own_variable(place):
    environ = {
        "ENVIRONMENT": "a",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=b, k%3D1=v%2C%20%C3%A9 ,service.name=x,empty=,,",
        "OTEL_SERVICE_NAME": "y",
    }
    assert place.load(environ=environ).config.resource.attributes == {
        "deployment.environment.name": "b",
        "k=1": "v, é",
        "service.name": "y",
        "empty": "",
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a=b,c", "its part 2 is not name=value"),
        ("=b", "its part 1 is not name=value"),
        ("a=%zz", "its part 1 has a % without two hexadecimal digits after it"),
        ("a=%ff", "its part 1 is not percent-encoded UTF-8"),
    ],
)
def test_resource_attributes_that_cannot_be_read_are_ignored_as_the_specification_has_it(place, text, why):
    loaded = place.load(environ={"OTEL_RESOURCE_ATTRIBUTES": text})
    assert loaded.config.resource.attributes == {}
    assert loaded.notices == [f"environment OTEL_RESOURCE_ATTRIBUTES is ignored: {why}"]


@pytest.mark.parametrize("name", ["OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
@pytest.mark.parametrize(
    ("text", "endpoint", "protocol"),
    [
        ("http://tempo:4317", "http://tempo:4317", "grpc"),
        ("https://tempo:4317/", "https://tempo:4317", "grpc"),
        ("http://[::1]:4317", "http://[::1]:4317", "grpc"),
        ("http://tempo:4318", "http://tempo:4318", "http/protobuf"),
        ("http://tempo:43170", "http://tempo:43170", "http/protobuf"),
        ("http://gateway/otlp/", "http://gateway/otlp", "http/protobuf"),
    ],
)
def test_the_endpoint_is_a_destination_of_all_signals_and_its_port_tells_the_protocol(
    place, name, text, endpoint, protocol
):
    assert exports(place, **{name: text}) == [Export(name="otlp", endpoint=endpoint, protocol=protocol, signals=ALL)]


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({"OTLP_ENDPOINT": "tempo:4317"}, "http://tempo:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "tempo:4317"}, "https://tempo:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "tempo:4317", "OTEL_EXPORTER_OTLP_INSECURE": "true"}, "http://tempo:4317"),
    ],
)
def test_a_grpc_endpoint_may_lack_its_scheme(place, environ, endpoint):
    (export,) = exports(place, **environ)
    assert (export.endpoint, export.protocol) == (endpoint, "grpc")


def test_an_http_endpoint_without_a_scheme_is_a_mistake(place):
    assert place.mistakes(environ={"OTLP_ENDPOINT": "tempo:4318"}) == [
        'environment OTLP_ENDPOINT: export[otlp].endpoint: "tempo:4318" has no scheme; '
        "write http://tempo:4318 or https://tempo:4318"
    ]


def test_opentelemetrys_endpoint_comes_before_the_earlier_servers(place):
    loaded = place.load(environ={"OTLP_ENDPOINT": "http://a:4318", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4318"})
    assert [export.endpoint for export in loaded.config.export] == ["http://b:4318"]
    assert loaded.notices == [
        "environment OTLP_ENDPOINT is not used: environment OTEL_EXPORTER_OTLP_ENDPOINT is set too and comes first"
    ]


def test_every_setting_of_the_exporter_is_taken(place):
    files = {name: str(place.write(name, "pem")) for name in ("ca", "cert", "key")}
    (export,) = exports(
        place,
        OTEL_EXPORTER_OTLP_ENDPOINT="https://h",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/json",
        OTEL_EXPORTER_OTLP_COMPRESSION="none",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20a%3D, x-tenant = one ",
        OTEL_EXPORTER_OTLP_TIMEOUT="2500",
        OTEL_EXPORTER_OTLP_CERTIFICATE=files["ca"],
        OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=files["cert"],
        OTEL_EXPORTER_OTLP_CLIENT_KEY=files["key"],
    )
    assert export == Export(
        name="otlp",
        endpoint="https://h",
        protocol="http/json",
        compression="none",
        signals=ALL,
        headers={"authorization": "Bearer a=", "x-tenant": "one"},
        timeout_seconds=2.5,
        tls=ClientTls(ca_file=files["ca"], cert_file=files["cert"], key_file=files["key"]),
    )


def test_certificates_are_of_no_use_to_plain_http(place):
    (export,) = exports(
        place, OTEL_EXPORTER_OTLP_ENDPOINT="http://h:4318", OTEL_EXPORTER_OTLP_CERTIFICATE=str(place.write("ca", "x"))
    )
    assert export.tls == ClientTls()


def test_signals_with_settings_of_their_own_get_destinations_of_their_own(place):
    found = exports(
        place,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://all:4318",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://prom:4318/v1/metrics",
        OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="500",
        OTEL_EXPORTER_OTLP_HEADERS="a=b",
    )
    assert [(each.name, each.endpoint, each.signals, each.timeout_seconds, each.headers) for each in found] == [
        ("otlp-metrics", "http://prom:4318", ("metrics",), 10.0, {"a": "b"}),
        ("otlp", "http://all:4318", ("logs",), 10.0, {"a": "b"}),
        ("otlp-traces", "http://all:4318", ("traces",), 0.5, {"a": "b"}),
    ]


def test_a_metrics_endpoint_alone_sends_metrics_alone(place):
    (export,) = exports(place, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://prom:4318")
    assert (export.name, export.signals) == ("otlp-metrics", ("metrics",))


def test_an_endpoint_of_one_signal_has_the_path_this_agent_sends_to(place):
    assert place.mistakes(environ={"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://prom/api/push"}) == [
        "environment OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: export[otlp-metrics].endpoint: "
        '"http://prom/api/push" has another path than /v1/metrics, which this agent sends to'
    ]


def test_settings_that_cannot_be_read_are_ignored_with_a_notice(place):
    loaded = place.load(
        environ={
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "zip",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "10s",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization",
        }
    )
    assert loaded.config.export == (Export(name="otlp", endpoint="http://h:4318", signals=ALL),)
    assert loaded.notices == [
        'environment OTEL_EXPORTER_OTLP_PROTOCOL is ignored: "carrier-pigeon" is none of grpc, http/protobuf, http/json',
        'environment OTEL_EXPORTER_OTLP_COMPRESSION is ignored: "zip" is none of gzip, none',
        'environment OTEL_EXPORTER_OTLP_TIMEOUT is ignored: "10s" is not a number of milliseconds',
        "environment OTEL_EXPORTER_OTLP_HEADERS is ignored: its part 1 is not name=value",
    ]


def test_a_header_name_that_is_none_is_ignored_without_showing_the_value(place):
    loaded = place.load(
        environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318", "OTEL_EXPORTER_OTLP_HEADERS": "a b=hunter2"}
    )
    assert loaded.notices == ["environment OTEL_EXPORTER_OTLP_HEADERS is ignored: one of its names is not a header's"]


def test_settings_without_a_destination_are_pointed_out(place):
    loaded = place.load(environ={"OTEL_EXPORTER_OTLP_HEADERS": "a=b", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"})
    assert loaded.config.export == ()
    assert loaded.notices == [
        "OTEL_EXPORTER_OTLP_HEADERS and OTEL_EXPORTER_OTLP_TIMEOUT in the environment set no destination; "
        "OTEL_EXPORTER_OTLP_ENDPOINT would"
    ]


def test_the_destination_stands_beside_those_of_files_and_replaces_its_namesake(place):
    place.write(
        "agent.yaml",
        "export: [{name: otlp, endpoint: 'http://a', timeout: 1s}, {name: b, endpoint: 'http://b'}]\n",
    )
    found = exports(place, OTLP_ENDPOINT="http://c:4318")
    assert [(each.name, each.endpoint, each.timeout_seconds) for each in found] == [
        ("otlp", "http://c:4318", 10.0),
        ("b", "http://b", 10.0),
    ]


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("http://jaeger:14268/api/traces", "http://jaeger:4318"),
        ("https://jaeger.example.org/api/traces", "https://jaeger.example.org:4318"),
        ("jaeger:6831", "http://jaeger:4318"),
        ("http://[::1]:14268", "http://[::1]:4318"),
    ],
)
def test_jaegers_endpoint_becomes_an_export_of_traces(place, text, endpoint):
    loaded = place.load(environ={"JAEGER_ENDPOINT": text})
    assert loaded.config.export == (Export(name="jaeger", endpoint=endpoint, signals=("traces",)),)
    assert loaded.notices == [
        f"environment JAEGER_ENDPOINT becomes an OTLP export of traces to {endpoint}: "
        "Jaeger no longer takes its own protocol"
    ]


def test_a_jaeger_endpoint_without_a_host_is_a_mistake(place):
    assert place.mistakes(environ={"JAEGER_ENDPOINT": "http:///api"}) == [
        'environment JAEGER_ENDPOINT: export[jaeger].endpoint: "http:///api" is not a URL such as http://jaeger:14268'
    ]


@pytest.mark.parametrize("name", UNUSED)
def test_what_has_no_part_yet_is_understood_and_said(place, name):
    loaded = place.load(environ={name: "x"}, state_dir="/s")
    assert loaded.notices == [f"environment {name} is understood but not used by this version"]
    assert loaded.config == place.load(state_dir="/s").config


def test_the_table_of_the_earlier_server_is_complete():
    assert set(UNUSED) == {
        "BASE_URL", "EMAIL_RECIPIENTS", "SMTP_HOST", "SMTP_PORT", "SLACK_WEBHOOK_URL", "PAGERDUTY_INTEGRATION_KEY",
        "LOG_DIRECTORY", "ALERT_DB_PATH", "METRICS_DB_PATH",
    }  # fmt: skip


def test_the_remote_log_endpoint_is_an_export_of_logs_to_loki(place):
    (export,) = place.load(environ={"REMOTE_LOG_ENDPOINT": "http://loki:3100/loki/api/v1/push"}).config.export
    assert (export.name, export.type, export.signals) == ("loki", "loki", ("logs",))
    assert export.endpoint == "http://loki:3100/loki/api/v1/push"


def test_a_remote_log_endpoint_without_scheme_is_a_mistake(place):
    assert place.mistakes(environ={"REMOTE_LOG_ENDPOINT": "loki:3100"}) == [
        'environment REMOTE_LOG_ENDPOINT: export[loki].endpoint: "loki:3100" has no scheme; write http://loki:3100 or '
        "https://loki:3100"
    ]


def test_an_empty_variable_is_none(place):
    names = ("LOG_LEVEL", "ENVIRONMENT", "OTLP_ENDPOINT", "JAEGER_ENDPOINT", "SMTP_HOST", "OTEL_EXPORTER_OTLP_HEADERS")
    loaded = place.load(environ=dict.fromkeys(names, ""), state_dir="/s")
    assert (loaded.config, loaded.notices) == (place.load(state_dir="/s").config, [])


NAMES = [
    *UNUSED, *USED, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ("http://h:4317", "https://h/x", "h:4317", "grpc", "a=b,c=%41", "-1", "5", "http://[::1]:4317/", "://")
    ),
)


@given(st.dictionaries(st.sampled_from(NAMES), TEXTS, max_size=6))
def test_any_environment_is_taken_or_refused_by_name(environ):
    assert sources_of_mistakes(environ) <= {f"environment {name}" for name in environ}


def sources_of_mistakes(environ):
    try:
        show(load(Sources(config="", conf_dir="", environ=environ)), with_origin=True)
    except ConfigErrors as raised:
        return {error.file for error in raised.errors}
    return set()


@pytest.mark.parametrize("name", ["OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_a_variable_that_means_the_agents_own_receiver_makes_no_destination(place, name):
    place.write("agent.yaml", "otlp_receiver: {http: '127.0.0.1:4318'}\n")
    loaded = place.load(environ={name: "http://localhost:4318"})
    assert loaded.config.export == ()
    assert loaded.notices == [f"environment {name} is this agent's own receiver and makes no destination"]


def test_other_variables_than_the_one_that_leads_back_still_make_destinations(place):
    place.write("agent.yaml", "otlp_receiver: {http: '127.0.0.1:4318'}\n")
    config = place.load(
        environ={"OTLP_ENDPOINT": "http://127.0.0.1:4318", "REMOTE_LOG_ENDPOINT": "http://loki:3100"}
    ).config
    assert [export.name for export in config.export] == ["loki"]
