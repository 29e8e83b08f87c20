"""The environment as a part of the configuration: OpenTelemetry's variables and those of the earlier server.

Where OpenTelemetry's specification (configuration/sdk-environment-variables.md) says that a value which cannot be read is
to be ignored with a warning, it becomes a notice; an empty variable is as good as none.
"""

import re
from collections.abc import Mapping

from novel_agent.config.kinds import log_level
from novel_agent.config.otlp_environment import exports, pairs
from novel_agent.config.tree import Branch, Items, Node, Origin, Setting, branch, given, nested
from novel_agent.config.wording import quoted
from novel_agent.errors import ConfigError

_AUTHORITY = re.compile(r"(?:(https?)://)?(?:[^/@\s]*@)?(\[[0-9A-Fa-f:.]+\]|[^/:@\s\[\]]+)(?::[0-9]+)?(?:/\S*)?")
USED = {
    "LOG_LEVEL": "`agent.log_level`",
    "ENVIRONMENT": "resource attribute `deployment.environment.name`",
    "OTEL_RESOURCE_ATTRIBUTES": "resource attributes, over `ENVIRONMENT`",
    "OTEL_SERVICE_NAME": "resource attribute `service.name`, over `OTEL_RESOURCE_ATTRIBUTES`",
    "OTLP_ENDPOINT": "an export `otlp` of all signals; port 4317 means gRPC, any other HTTP",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "the same, and comes before `OTLP_ENDPOINT`",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "an export of metrics alone; likewise `…_LOGS_…` and `…_TRACES_…`, "
    "with every setting below",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "its `protocol`",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "its `compression`",
    "OTEL_EXPORTER_OTLP_HEADERS": "its `headers`: `name=value,…`, percent-encoded",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "its `timeout`, in milliseconds",
    "OTEL_EXPORTER_OTLP_CERTIFICATE": "its `tls.ca_file`",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "its `tls.cert_file`",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY": "its `tls.key_file`",
    "OTEL_EXPORTER_OTLP_INSECURE": "whether a gRPC endpoint written without a scheme is `http://`",
    "JAEGER_ENDPOINT": "an export `jaeger` of traces to that host, port 4318",
    "REMOTE_LOG_ENDPOINT": "an export `loki` of logs, of type loki",
    "STATE_DIRECTORY": "the default of `agent.state_dir` (systemd sets it)",
}
"""What each variable becomes, for the reference."""

UNUSED = (
    "BASE_URL",
    "EMAIL_RECIPIENTS",
    "SMTP_HOST",
    "SMTP_PORT",
    "SLACK_WEBHOOK_URL",
    "PAGERDUTY_INTEGRATION_KEY",
    "LOG_DIRECTORY",
    "ALERT_DB_PATH",
    "METRICS_DB_PATH",
)
"""Of the earlier server, for parts that this version does not have yet."""


def from_environment(environ: Mapping[str, str], errors: list[ConfigError], notices: list[str]) -> list[Branch]:
    """What the environment sets, as trees of which the later win."""
    present = {name: Setting(Origin(f"environment {name}"), text) for name, text in environ.items() if text.strip()}
    notices.extend(
        f"{present[name].origin} is understood but not used by this version" for name in UNUSED if name in present
    )
    trees = []
    if "LOG_LEVEL" in present:
        trees += level(present["LOG_LEVEL"], errors)
    trees += _resource(present, notices)
    trees += exports(present, errors, notices)
    if "JAEGER_ENDPOINT" in present:
        trees += jaeger_export(present["JAEGER_ENDPOINT"], errors, notices)
    if "REMOTE_LOG_ENDPOINT" in present:
        trees += loki_export(present["REMOTE_LOG_ENDPOINT"])
    return trees


def level(setting: Setting, errors: list[ConfigError]) -> list[Branch]:
    """`agent.log_level`, by any name a level goes under."""
    try:
        return [nested("agent.log_level", given(setting.origin, log_level(setting.text)))]
    except ValueError as error:
        errors.append(setting.origin.error("agent.log_level", f"{quoted(setting.text)} {error}"))
        return []


def attribute(name: str, setting: Setting) -> Branch:
    """One resource attribute."""
    return nested("resource.attributes", branch(setting.origin, {name: given(setting.origin, setting.text)}))


def _resource(present: Mapping[str, Setting], notices: list[str]) -> list[Branch]:
    trees = []
    if "ENVIRONMENT" in present:
        trees.append(attribute("deployment.environment.name", present["ENVIRONMENT"]))
    if "OTEL_RESOURCE_ATTRIBUTES" in present:
        setting = present["OTEL_RESOURCE_ATTRIBUTES"]
        try:
            values = pairs(setting.text)
        except ValueError as error:
            notices.append(f"{setting.origin} is ignored: {error}")
        else:
            trees += [attribute(name, Setting(setting.origin, text)) for name, text in values.items()]
    if "OTEL_SERVICE_NAME" in present:
        trees.append(attribute("service.name", present["OTEL_SERVICE_NAME"]))
    return trees


def jaeger_export(setting: Setting, errors: list[ConfigError], notices: list[str]) -> list[Branch]:
    """Traces by OTLP to the host that Jaeger's collector runs on."""
    origin, text = setting
    match = _AUTHORITY.fullmatch(text.strip())
    if match is None:
        errors.append(
            origin.error("export[jaeger].endpoint", f"{quoted(text)} is not a URL such as http://jaeger:14268")
        )
        return []
    endpoint = f"{match[1] or 'http'}://{match[2]}:4318"
    notices.append(f"{origin} becomes an OTLP export of traces to {endpoint}: Jaeger no longer takes its own protocol")
    options: dict[str, Node] = {
        "name": given(origin, "jaeger"),
        "endpoint": given(origin, endpoint),
        "signals": Items(origin, (given(origin, "traces"),)),
    }
    return [nested("export", Items(origin, (branch(origin, options),)))]


def loki_export(setting: Setting) -> list[Branch]:
    """Logs to a Loki server; the URL is checked with the other exports'."""
    origin, text = setting
    options: dict[str, Node] = {
        "name": given(origin, "loki"),
        "type": given(origin, "loki"),
        "endpoint": given(origin, text.strip()),
        "signals": Items(origin, (given(origin, "logs"),)),
    }
    return [nested("export", Items(origin, (branch(origin, options),)))]
