"""OpenTelemetry's exporter variables as destinations (specification/protocol/exporter.md).

A variable of one signal (`OTEL_EXPORTER_OTLP_METRICS_HEADERS`) comes before the one of all; signals that end up with the same
settings share a destination.
"""

import re
from collections.abc import Mapping

from novel_agent.config.tree import Branch, Items, Node, Setting, branch, given, nested
from novel_agent.config.wording import listing, quoted
from novel_agent.errors import ConfigError

SIGNALS = ("metrics", "logs", "traces")
_OTLP = "OTEL_EXPORTER_OTLP_"
_SETTINGS = (
    "ENDPOINT",
    "PROTOCOL",
    "COMPRESSION",
    "HEADERS",
    "TIMEOUT",
    "CERTIFICATE",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
    "INSECURE",
)
_TLS_OPTIONS = {"CERTIFICATE": "ca_file", "CLIENT_CERTIFICATE": "cert_file", "CLIENT_KEY": "key_file"}
_CHOICES = {"PROTOCOL": ("grpc", "http/protobuf", "http/json"), "COMPRESSION": ("gzip", "none")}
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_GRPC_PORT = re.compile(r"(?:https?://)?(?:[^/@]*@)?(?:\[[^\]]*\]|[^/:]*):4317(?:/.*)?")


def exports(present: Mapping[str, Setting], errors: list[ConfigError], notices: list[str]) -> list[Branch]:
    """The destinations that the environment sets, as trees."""
    by_settings: dict[tuple[tuple[str, Setting], ...], list[str]] = {}
    for signal in SIGNALS:
        settings = tuple(_settings(present, signal).items())
        if dict(settings).get("ENDPOINT"):
            by_settings.setdefault(settings, []).append(signal)
    _say_what_is_left_out(present, bool(by_settings), notices)
    return [
        tree
        for settings, signals in by_settings.items()
        for tree in otlp_export(dict(settings), signals, errors, notices)
    ]


def _settings(present: Mapping[str, Setting], signal: str) -> dict[str, Setting]:
    """What holds for one signal: its own variable, or the one for all."""
    settings = {}
    for setting in _SETTINGS:
        names = [f"{_OTLP}{signal.upper()}_{setting}", f"{_OTLP}{setting}"]
        names += ["OTLP_ENDPOINT"] if setting == "ENDPOINT" else []
        value = next((present[name] for name in names if name in present), None)
        if value is not None:
            settings[setting] = value
    return settings


def _say_what_is_left_out(present: Mapping[str, Setting], has_export: bool, notices: list[str]) -> None:
    general, earlier = present.get(f"{_OTLP}ENDPOINT"), present.get("OTLP_ENDPOINT")
    if general and earlier and general.text != earlier.text:
        notices.append(f"{earlier.origin} is not used: {general.origin} is set too and comes first")
    variables = [f"{_OTLP}{infix}{setting}" for infix in ("", "METRICS_", "LOGS_", "TRACES_") for setting in _SETTINGS]
    idle = [name for name in variables if name in present]
    if idle and not has_export:
        notices.append(f"{listing(idle)} in the environment set no destination; {_OTLP}ENDPOINT would")


def otlp_export(
    settings: Mapping[str, Setting], signals: list[str], errors: list[ConfigError], notices: list[str]
) -> list[Branch]:
    """A destination from settings named as OpenTelemetry's variables are, of which ENDPOINT must be there."""
    own_endpoint = _is_of_one_signal(settings["ENDPOINT"])
    name = f"otlp-{'-'.join(signals)}" if any(map(_is_of_one_signal, settings.values())) else "otlp"
    protocol = _choice(settings, "PROTOCOL", notices)
    if protocol is None:
        is_grpc = _GRPC_PORT.fullmatch(settings["ENDPOINT"].text.strip())
        protocol = Setting(settings["ENDPOINT"].origin, "grpc" if is_grpc else "http/protobuf")
    try:
        endpoint = _endpoint(settings, protocol.text, signals[0] if own_endpoint else "")
    except ValueError as error:
        key = f"export[{name}].endpoint"
        errors.append(settings["ENDPOINT"].origin.error(key, f"{quoted(settings['ENDPOINT'].text)} {error}"))
        return []
    options: dict[str, Node] = {
        "name": given(endpoint.origin, name),
        "endpoint": given(*endpoint),
        "protocol": given(*protocol),
        "signals": Items(endpoint.origin, tuple(given(endpoint.origin, signal) for signal in signals)),
        **_further_options(settings, endpoint, notices),
    }
    return [nested("export", Items(endpoint.origin, (branch(endpoint.origin, options),)))]


def _is_of_one_signal(setting: Setting) -> bool:
    return any(f"{_OTLP}{signal.upper()}_" in setting.origin.source for signal in SIGNALS)


def _choice(settings: Mapping[str, Setting], name: str, notices: list[str]) -> Setting | None:
    setting = settings.get(name)
    if setting is None:
        return None
    word = setting.text.strip().lower()
    if word in _CHOICES[name]:
        return Setting(setting.origin, word)
    notices.append(f"{setting.origin} is ignored: {quoted(setting.text)} is none of {', '.join(_CHOICES[name])}")
    return None


def _endpoint(settings: Mapping[str, Setting], protocol: str, own_signal: str) -> Setting:
    origin, text = settings["ENDPOINT"]
    text = text.strip().rstrip("/")
    if protocol == "grpc":
        if "://" not in text:
            plain = "INSECURE" in settings and settings["INSECURE"].text.strip().lower() == "true"
            text = f"{'http' if plain or origin.source.endswith(' OTLP_ENDPOINT') else 'https'}://{text}"
        return Setting(origin, re.sub(r"(?<=[^/:])/[^/].*", "", text))
    if own_signal:
        base = text.removesuffix(f"/v1/{own_signal}")
        if base == text and "/" in text.partition("://")[2]:
            raise ValueError(f"has another path than /v1/{own_signal}, which this agent sends to")
        text = base
    return Setting(origin, text)


def _further_options(settings: Mapping[str, Setting], endpoint: Setting, notices: list[str]) -> dict[str, Node]:
    options: dict[str, Node] = {}
    compression = _choice(settings, "COMPRESSION", notices)
    if compression:
        options["compression"] = given(*compression)
    timeout = settings.get("TIMEOUT")
    if timeout and timeout.text.strip().isascii() and timeout.text.strip().isdigit():
        options["timeout"] = given(timeout.origin, f"{timeout.text.strip()}ms")
    elif timeout:
        notices.append(f"{timeout.origin} is ignored: {quoted(timeout.text)} is not a number of milliseconds")
    if "HEADERS" in settings and (headers := _headers(settings["HEADERS"], notices)):
        options["headers"] = headers
    files = {option: given(*settings[name]) for name, option in _TLS_OPTIONS.items() if name in settings}
    if files and endpoint.text.startswith("https://"):
        options["tls"] = branch(endpoint.origin, files)
    return options


def _headers(setting: Setting, notices: list[str]) -> Branch | None:
    try:
        values = pairs(setting.text)
        if any(not _TOKEN.fullmatch(name) for name in values):
            raise ValueError("one of its names is not a header's")
    except ValueError as error:
        notices.append(f"{setting.origin} is ignored: {error}")
        return None
    return branch(setting.origin, {name: given(setting.origin, text) for name, text in values.items()})


def pairs(text: str) -> dict[str, str]:
    """`name=value,…` as W3C Baggage writes it, without its metadata; ValueError names the part that is not so."""
    values = {}
    for number, part in enumerate(text.split(","), 1):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"its part {number} is not name=value")
        values[_decoded(name.strip(), number)] = _decoded(value.strip(), number)
    return values


def _decoded(text: str, number: int) -> str:
    def byte(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            raise ValueError(f"its part {number} has a % without two hexadecimal digits after it")
        return bytes((int(match[1], 16),))

    try:
        return _ESCAPE.sub(byte, text.encode()).decode()
    except UnicodeError:
        raise ValueError(f"its part {number} is not percent-encoded UTF-8") from None
