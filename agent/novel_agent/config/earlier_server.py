"""The earlier server's flat JSON file, taken as it is."""

from typing import Annotated

from msgspec import Meta

from novel_agent.config.convert import Collectors, Conversion
from novel_agent.config.environment import attribute, jaeger_export, level, loki_export
from novel_agent.config.otlp_environment import SIGNALS, otlp_export
from novel_agent.config.schema import Config, Secret, Section
from novel_agent.config.tree import Branch, Node, Scalar, Setting, nested
from novel_agent.config.wording import nearest
from novel_agent.errors import ConfigError

Text = str | None
Url = Annotated[str | None, Meta(extra={"kind": "url"})]
Level = Annotated[str | None, Meta(extra={"kind": "log_level"})]


class EarlierServer(Section, frozen=True, kw_only=True):
    """Its keys; each description says what a key becomes."""

    environment: Annotated[Text, Meta(description="resource attribute `deployment.environment.name`")] = None
    log_level: Annotated[Level, Meta(description="`agent.log_level`")] = None
    otlp_endpoint: Annotated[
        Text, Meta(description="an export `otlp` of all signals; port 4317 means gRPC, any other HTTP")
    ] = None
    jaeger_endpoint: Annotated[Text, Meta(description="an export `jaeger` of traces to that host, port 4318")] = None
    tracing_sampling_rate: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None, Meta(description="`traces.head_sampling`")
    ] = None
    base_url: Url = None
    email_recipients: tuple[str, ...] | None = None
    slack_webhook_url: Secret | None = None
    webhook_urls: tuple[Secret, ...] | None = None
    pagerduty_integration_key: Secret | None = None
    smtp_host: Text = None
    smtp_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    smtp_username: Text = None
    smtp_password: Secret | None = None
    dashboard_retention_hours: Annotated[float, Meta(gt=0)] | None = None
    dashboard_export_enabled: bool | None = None
    dashboard_export_path: Text = None
    log_directory: Text = None
    enable_remote_logging: Annotated[
        bool | None, Meta(description="whether `logging_remote_endpoint` is used; it is where this is not given")
    ] = None
    logging_remote_endpoint: Annotated[Url, Meta(description="an export `loki` of logs, of type loki")] = None


_KEYS_LOOKED_AT = 100
USED = (
    "environment", "log_level", "otlp_endpoint", "jaeger_endpoint", "tracing_sampling_rate", "enable_remote_logging",
    "logging_remote_endpoint",
)  # fmt: skip


def is_earlier_server(node: Node) -> bool:
    """Whether a file is the earlier server's: no section of ours, and a key that is one of its, or nearer to one of its."""
    if not isinstance(node, Branch):
        return False
    keys = node.entries.keys()
    ours, earlier = Config.__struct_fields__, EarlierServer.__struct_fields__
    if keys & set(ours):
        return False
    return any(nearest(key, (*ours, *earlier)) in earlier for key in list(keys)[:_KEYS_LOOKED_AT])


def from_earlier_server(node: Branch, errors: list[ConfigError], notices: list[str]) -> list[Branch]:
    """What the file sets, as trees of which the later win. A part that is wrong is reported and left out."""
    check = Conversion(Collectors((), lambda name: None), whole=False)
    values = check.section(EarlierServer, node)
    errors.extend(check.errors)
    valid = {key: entry for key, entry in node.entries.items() if values.get(key) is not None}
    notices.extend(
        f"{entry.origin}: {key} is understood but not used by this version"
        for key, entry in valid.items()
        if key not in USED
    )
    given = {
        key: Setting(entry.node.origin, entry.node.text)
        for key, entry in valid.items()
        if key in USED and isinstance(entry.node, Scalar)
    }
    trees = []
    if "environment" in given:
        trees.append(attribute("deployment.environment.name", given["environment"]))
    if "log_level" in given:
        trees += level(given["log_level"], errors)
    if "otlp_endpoint" in given:
        trees += otlp_export({"ENDPOINT": given["otlp_endpoint"]}, list(SIGNALS), errors, notices)
    if "jaeger_endpoint" in given:
        trees += jaeger_export(given["jaeger_endpoint"], errors, notices)
    if "tracing_sampling_rate" in valid:
        trees.append(nested("traces.head_sampling", valid["tracing_sampling_rate"].node))
    if "logging_remote_endpoint" in given and values.get("enable_remote_logging") is not False:
        trees += loki_export(given["logging_remote_endpoint"])
    return trees
