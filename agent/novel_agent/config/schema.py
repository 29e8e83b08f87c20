"""The configuration as values: one struct a section, one field an option.

Field names carry units; the option's name in the file is the field's encoded name. Descriptions, ranges and examples stand
in the `Meta` of each type: the checks, the JSON Schema, the reference page, the samples and the error messages are made from
them. `Duration` and `Size` are written as people write them (`15s`, `64MiB`) and are seconds and bytes from here on.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, field

Duration = Annotated[float, Meta(extra={"kind": "duration"})]
Size = Annotated[int, Meta(extra={"kind": "size"})]
Secret = Annotated[str, Meta(extra={"kind": "secret"})]
"""Masked wherever it is shown; option `x` may be given as `x_file` instead."""

FilePath = Annotated[str, Meta(extra={"kind": "file"})]
"""A file that must be readable when the configuration is loaded; absolute from then on."""

Path = Annotated[str, Meta(extra={"kind": "path"})]
"""A path that need not exist yet; absolute once loaded."""

Listen = Annotated[str, Meta(extra={"kind": "listen"})]
ReceiverListen = Annotated[str, Meta(extra={"kind": "receiver_listen"})]
"""HOST:PORT of what may be left out."""

AllowedHost = Annotated[str, Meta(extra={"kind": "allowed_host"})]
Url = Annotated[str, Meta(extra={"kind": "url"})]
Regex = Annotated[str, Meta(extra={"kind": "regex"})]
LinearRegex = Annotated[str, Meta(extra={"kind": "linear_regex"})]
"""Of RE2: for what is matched with texts from elsewhere."""

NameOrNumber = Annotated[str, Meta(extra={"kind": "name_or_number"})]
GroupName = Annotated[str, Meta(extra={"kind": "group_name"}, min_length=1)]
LogLevel = Literal["debug", "info", "warning", "error"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every section shares: an unknown key is an error."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Values that are right alone and wrong together: the key to look at, and the problem."""
        yield from ()


class Auth(Section, frozen=True, kw_only=True):
    """Who may change things and read from elsewhere."""

    token_file: Annotated[
        FilePath | None,
        Meta(
            description="File that holds the bearer token; with one, loopback needs it too. Without one, the agent makes "
            "a token, for requests from elsewhere, in api-token in its state directory at the first start.",
            examples=["/etc/novel-engine-agent/token"],
        ),
    ] = None


class ServerTls(Section, frozen=True, kw_only=True):
    """TLS of the agent's own listener; with `client_ca_file`, callers need a certificate of that authority."""

    cert_file: Annotated[
        FilePath, Meta(description="Certificate chain, PEM.", examples=["/etc/novel-engine-agent/tls.crt"])
    ]
    key_file: Annotated[FilePath, Meta(description="Private key, PEM.", examples=["/etc/novel-engine-agent/tls.key"])]
    client_ca_file: Annotated[
        FilePath | None,
        Meta(
            description="Authorities of client certificates, PEM: mutual TLS.",
            examples=["/etc/novel-engine-agent/clients-ca.crt"],
        ),
    ] = None


class Budget(Section, frozen=True, kw_only=True):
    """What the agent may cost; it slows down before it breaks this, and never drops."""

    cpu_percent: Annotated[float, Meta(gt=0, description="Of one core, averaged over a minute.")] = 5.0
    memory_bytes: Annotated[Size, Meta(ge=32 << 20, description="Resident memory.")] = field(
        default=96 << 20, name="memory"
    )


class Agent(Section, frozen=True, kw_only=True):
    """The daemon itself."""

    listen: Annotated[Listen, Meta(description="HOST:PORT of the API, the page and /metrics.")] = "127.0.0.1:9090"
    state_dir: Annotated[
        Path | None,
        Meta(
            description="Where state is kept. Without it: $STATE_DIRECTORY, which systemd sets; else "
            "/var/lib/novel-engine-agent for root, and for others novel-engine-agent in $XDG_STATE_HOME or "
            "~/.local/state.",
            examples=["/var/lib/novel-engine-agent"],
        ),
    ] = None
    """After loading: never None."""
    log_level: Annotated[LogLevel, Meta(description="What the agent logs about itself.")] = "info"
    allowed_hosts: Annotated[
        tuple[AllowedHost, ...],
        Meta(
            description="Host headers that are answered, beside loopback names and this machine's own; *.example.org "
            "stands for every name below example.org.",
            examples=[["agent.example.org"]],
        ),
    ] = ()
    auth: Auth = Auth()
    tls: ServerTls | None = None
    budget: Budget = Budget()


class Resource(Section, frozen=True, kw_only=True):
    """Who this telemetry is about."""

    attributes: Annotated[
        dict[str, str],
        Meta(
            description="Attributes of every resource, over what is detected.",
            examples=[{"service.name": "novel-engine", "deployment.environment.name": "production"}],
        ),
    ] = field(default_factory=dict)


class HostPaths(Section, frozen=True, kw_only=True):
    """Where the kernel shows itself; in a container, where the host's directories are mounted."""

    proc: Annotated[Path, Meta(description="The host's /proc.")] = "/proc"
    sys: Annotated[Path, Meta(description="The host's /sys.")] = "/sys"
    root: Annotated[Path, Meta(description="The host's /.")] = "/"


class Host(Section, frozen=True, kw_only=True):
    """Host metrics: node_exporter's names on /metrics, OpenTelemetry's system.* over OTLP."""

    interval_seconds: Annotated[
        Duration, Meta(ge=1, description="How often the host is sampled for export. A scrape samples by itself.")
    ] = field(default=15.0, name="interval")
    deadline_seconds: Annotated[
        Duration, Meta(gt=0, description="How long one collector may take before it is left behind.")
    ] = field(default=5.0, name="deadline")
    paths: HostPaths = HostPaths()
    collectors: Annotated[
        dict[str, Any],
        Meta(
            description="`on`, `off` or options, by collector. Options turn a collector on.",
            extra={"kind": "collectors"},
        ),
    ] = field(default_factory=dict)
    """After loading: collector name to True, False or a mapping of checked options."""


class Match(Section, frozen=True, kw_only=True):
    """Which processes; every criterion that is given must hold."""

    cmdline: Annotated[
        Regex | None,
        Meta(
            description="Regular expression found in the command line, its words joined by blanks.",
            examples=["uvicorn|api_server"],
        ),
    ] = None
    exe: Annotated[
        Regex | None,
        Meta(
            description="Regular expression for the whole path of the executable.", examples=["/usr/bin/python3[.0-9]*"]
        ),
    ] = None
    comm: Annotated[
        str | None, Meta(description="Exact kernel name, 15 characters at most.", examples=["postgres"])
    ] = None
    user: Annotated[
        NameOrNumber | None, Meta(description="Effective user, by name or number.", examples=["www-data"])
    ] = None
    unit: Annotated[str | None, Meta(description="systemd unit.", examples=["nginx.service"])] = None
    cgroup: Annotated[
        Regex | None,
        Meta(description="Regular expression found in the control group's path.", examples=["^/system.slice/docker-"]),
    ] = None
    pid_file: Annotated[Path | None, Meta(description="File with the process id.", examples=["/run/nginx.pid"])] = None

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.comm is not None and len(self.comm.encode()) > 15:
            yield "comm", f"is longer than the kernel keeps; write {self.comm.encode()[:15].decode(errors='ignore')}"


class ProcessGroup(Section, frozen=True, kw_only=True):
    """Processes counted as one; each belongs to the first group it fits, and groups without criteria come last."""

    name: Annotated[
        GroupName,
        Meta(
            description="Group name; may hold {comm}, {exe}, {user}, {unit}: one group a value.",
            examples=["python-{user}"],
        ),
    ]
    match: Match = Match()
    children: Annotated[bool, Meta(description="Descendants that fit no group belong to their parent's.")] = True
    top: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | None,
        Meta(description="Of a {…} name: this many groups by CPU and by memory, the rest as `other`.", examples=[10]),
    ] = None
    smaps: Annotated[
        bool, Meta(description="Read proportional memory (PSS) where permitted, at a pace its cost allows.")
    ] = True
    threads: Annotated[bool, Meta(description="Also show threads by name.")] = False

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.top is not None and "{" not in self.name:
            yield "top", "needs a name with a placeholder such as {comm}; a plain name is one group"


class ClientTls(Section, frozen=True, kw_only=True):
    """TLS towards a destination."""

    ca_file: Annotated[
        FilePath | None,
        Meta(
            description="Authorities trusted instead of the system's, PEM.",
            examples=["/etc/novel-engine-agent/ca.crt"],
        ),
    ] = None
    cert_file: Annotated[
        FilePath | None,
        Meta(description="Client certificate, PEM: mutual TLS.", examples=["/etc/novel-engine-agent/client.crt"]),
    ] = None
    key_file: Annotated[
        FilePath | None, Meta(description="Client key, PEM.", examples=["/etc/novel-engine-agent/client.key"])
    ] = None
    server_name: Annotated[
        str | None,
        Meta(description="Name to verify instead of the endpoint's host.", examples=["collector.example.org"]),
    ] = None
    insecure_skip_verify: Annotated[bool, Meta(description="Accept any certificate. For tests.")] = False

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.cert_file and not self.key_file:
            yield "cert_file", "needs key_file beside it"
        if self.key_file and not self.cert_file:
            yield "key_file", "needs cert_file beside it"


class Spool(Section, frozen=True, kw_only=True):
    """What waits for a destination, on disk in the state directory."""

    size_bytes: Annotated[Size, Meta(ge=1 << 20, description="Most bytes that wait.")] = field(
        default=512 << 20, name="size"
    )
    when_full: Annotated[
        Literal["drop_oldest", "block"],
        Meta(
            description="Whether the oldest makes room for what comes, or what comes is refused: receivers then answer "
            "that they are busy."
        ),
    ] = "drop_oldest"


class Rotation(Section, frozen=True, kw_only=True):
    """When a file is put aside, and how many are kept."""

    size_bytes: Annotated[Size, Meta(ge=64 << 10, description="Largest file.")] = field(default=64 << 20, name="size")
    keep: Annotated[int, Meta(ge=0, le=1000, description="Files put aside that are kept.")] = 5
    compress: Annotated[bool, Meta(description="gzip what is put aside.")] = True


class Export(Section, frozen=True, kw_only=True):
    """One destination. Each has its own spool, retries and acknowledgement."""

    name: Annotated[str, Meta(min_length=1, description="Name in logs, status and metrics.", examples=["central"])]
    type: Annotated[
        Literal["otlp", "loki", "prometheus_remote_write", "file"], Meta(description="Kind of destination.")
    ] = "otlp"
    endpoint: Annotated[
        Url | None,
        Meta(
            description="Base URL. With otlp over HTTP the signal's path (/v1/metrics) is appended; with loki and "
            "prometheus_remote_write it is the whole URL, /loki/api/v1/push or /api/v1/write where it has no path. "
            "Required of all but `file`.",
            examples=["https://collector.example.org:4318"],
        ),
    ] = None
    protocol: Annotated[
        Literal["http/protobuf", "http/json", "grpc"], Meta(description="Encoding and transport, of otlp.")
    ] = "http/protobuf"
    compression: Annotated[
        Literal["gzip", "zstd", "none"],
        Meta(description="Compression of request bodies, of otlp and loki; remote write is always snappy."),
    ] = "gzip"
    signals: Annotated[
        tuple[Literal["metrics", "logs", "traces"], ...],
        Meta(min_length=1, description="What is sent there, as far as the destination takes it."),
    ] = ("metrics", "logs", "traces")
    headers: Annotated[
        dict[str, Secret],
        Meta(
            description="Headers, or gRPC metadata, of every request. `NAME_file` reads one from a file.",
            examples=[{"x-tenant": "novel-engine"}],
        ),
    ] = field(default_factory=dict)
    timeout_seconds: Annotated[Duration, Meta(gt=0, description="Of one request.")] = field(
        default=10.0, name="timeout"
    )
    concurrency: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Most requests under way at a time; how many there are follows the destination's answers. Remote "
            "write must keep its order and so has one.",
        ),
    ] = 8
    tls: ClientTls = ClientTls()
    spool: Spool = Spool()
    remote_write_version: Annotated[
        Literal["2.0", "1.0"], Meta(description="Of prometheus_remote_write: the version of the protocol.")
    ] = "2.0"
    labels: Annotated[
        tuple[str, ...],
        Meta(
            description="Of loki: the attributes, of the resource or else the record, that become stream labels; keep "
            "to those with few values. The rest is structured metadata."
        ),
    ] = ("service.name", "service.namespace", "deployment.environment.name", "host.name")
    path: Annotated[
        Path | None,
        Meta(
            description="Of file: where OTLP JSON lines are written. Required there.",
            examples=["/var/lib/novel-engine-agent/export/telemetry.jsonl"],
        ),
    ] = None
    rotate: Rotation = Rotation()

    @property
    def url(self) -> str:
        """The endpoint; empty for a file."""
        return self.endpoint or ""

    @property
    def where(self) -> str:
        """The endpoint or the file."""
        return self.endpoint or self.path or ""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.type == "file":
            yield from self._conflicts_of_file()
            return
        if not self.endpoint:
            yield "endpoint", f"is missing; write a URL such as {_EXAMPLES[self.type]}"
            return
        if self.type == "otlp":
            yield from self._conflicts_of_otlp(self.endpoint)
        elif self.protocol != "http/protobuf":
            yield "protocol", f"is for type otlp; {self.type} has its own"
        if self.endpoint.startswith("http://") and self.tls != ClientTls():
            yield "tls", "is set, but endpoint is http://, so nothing would be encrypted; write https://"
        if self.type == "loki" and self.compression == "zstd":
            yield "compression", "is zstd, which Loki does not take; write gzip or none"
        if self.type == "loki" and len(self.labels) > MOST_LABELS:
            yield "labels", f"has {len(self.labels)} names; Loki takes {MOST_LABELS} labels a stream"
        only = TAKES[self.type]
        if not set(only) & set(self.signals):
            yield "signals", f"has nothing that {self.type} takes; it takes {' and '.join(only)}"

    def _conflicts_of_file(self) -> Iterator[tuple[str, str]]:
        if not self.path:
            yield "path", "is missing; write where the lines go, such as /var/log/telemetry.jsonl"
        if self.endpoint:
            yield "endpoint", "is for destinations on the network; a file has a path"

    def _conflicts_of_otlp(self, endpoint: str) -> Iterator[tuple[str, str]]:
        base = endpoint.split("?")[0].rstrip("/")
        path = base.partition("://")[2].partition("/")[2]
        if self.protocol == "grpc" and path:
            yield "endpoint", f"has the path /{path}, but gRPC takes none; end it after the port"
        elif path.endswith(("v1/metrics", "v1/logs", "v1/traces")):
            yield "endpoint", f"ends in the signal's path, which is appended; write {base.rpartition('/v1/')[0]}"
        if self.protocol == "grpc" and self.compression == "zstd":
            yield "compression", "is zstd, which gRPC servers do not take; write gzip or none"


_EXAMPLES = {
    "otlp": "https://collector.example.org:4318",
    "loki": "https://loki.example.org:3100",
    "prometheus_remote_write": "https://prometheus.example.org:9090",
}

MOST_LABELS = 15
"""Loki's own default limit of a stream."""

TAKES: dict[str, tuple[str, ...]] = {
    "otlp": ("metrics", "logs", "traces"),
    "loki": ("logs",),
    "prometheus_remote_write": ("metrics",),
    "file": ("metrics", "logs", "traces"),
}
"""The signals that each type of destination takes."""


class OtlpReceiver(Section, frozen=True, kw_only=True):
    """Takes the application's OTLP: traces, metrics and logs."""

    http: Annotated[
        ReceiverListen | None,
        Meta(description="HOST:PORT for OTLP over HTTP, protobuf and JSON.", examples=["127.0.0.1:4318"]),
    ] = None
    grpc: Annotated[
        ReceiverListen | None,
        Meta(description="HOST:PORT for OTLP over gRPC.", examples=["127.0.0.1:4317"]),
    ] = None
    durability: Annotated[
        Literal["fsync", "os"],
        Meta(
            description="When a request is answered: after its data is on disk, or as soon as the operating system has "
            "it, which survives the agent's end but not the machine's."
        ),
    ] = "fsync"
    max_request_bytes: Annotated[Size, Meta(ge=64 << 10, description="Largest request, decompressed.")] = field(
        default=64 << 20, name="max_request"
    )
    auth: Annotated[
        Auth | Literal["none"] | None,
        Meta(
            description="`token_file` with the bearer token that every request needs, or `none`. Without it, loopback "
            "needs no token, and any other address needs the API's."
        ),
    ] = None
    tls: ServerTls | None = None


class TailRule(Section, frozen=True, kw_only=True):
    """Which whole traces are kept: of the rules in order, the first whose criteria all hold decides."""

    name: Annotated[str, Meta(min_length=1, description="Name in counts.", examples=["errors"])]
    errors: Annotated[bool, Meta(description="A span of the trace has the status error.")] = False
    latency_seconds: Annotated[
        Annotated[Duration, Meta(gt=0)] | None,
        Meta(description="The trace took at least this long.", examples=["500ms"]),
    ] = field(default=None, name="latency")
    attributes: Annotated[
        dict[str, LinearRegex],
        Meta(
            description="A span, or its resource, has each of these attributes, its value matched whole by the regular "
            "expression.",
            examples=[{"user.tier": "gold|platinum"}],
        ),
    ] = field(default_factory=dict)
    probability: Annotated[float, Meta(ge=0, le=1, description="The share of such traces that is kept.")] = 1.0


class SpanMetrics(Section, frozen=True, kw_only=True):
    """Calls, errors and durations of the spans, as metrics."""

    dimensions: Annotated[
        tuple[str, ...],
        Meta(
            description="Further attributes, of the span or its resource, that tell series apart.",
            examples=[["deployment.environment.name"]],
        ),
    ] = ()
    buckets_seconds: Annotated[
        tuple[Duration, ...], Meta(min_length=1, description="Bounds of the duration histogram.")
    ] = field(
        default=(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
        name="buckets",
    )
    max_series: Annotated[int, Meta(ge=10, description="Most series; the rest becomes one.")] = 1000

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if any(below >= above for below, above in pairwise(self.buckets_seconds)):
            yield "buckets", "do not rise; write each bound once, the smallest first"


class Redaction(Section, frozen=True, kw_only=True):
    """What is taken out of spans before anybody sees them."""

    attributes: Annotated[
        tuple[LinearRegex, ...],
        Meta(
            description="Attributes whose names these regular expressions match whole: their values become `[redacted]`.",
            examples=[["http\\.request\\.header\\.(authorization|cookie)"]],
        ),
    ] = ()
    patterns: Annotated[
        tuple[Literal["email", "bearer", "key", "card", "url_password"], ...],
        Meta(
            description="Built-in patterns taken out of every text value.",
        ),
    ] = ()
    values: Annotated[
        tuple[LinearRegex, ...],
        Meta(
            description="Further regular expressions for what is taken out of text values.",
            examples=[["NE-[0-9]{8}"]],
        ),
    ] = ()

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for pattern in self.values:
            if re.fullmatch(pattern, "") is not None:
                yield "values", f"has {pattern!r}, which matches the empty text and so everywhere"


class AttributeLimits(Section, frozen=True, kw_only=True):
    """Bounds of what a span may carry; what is beyond is cut and counted as dropped."""

    count: Annotated[int, Meta(ge=1, description="Most attributes of a span, an event or a link.")] = 128
    value_length: Annotated[int, Meta(ge=16, description="Longest text value, in characters.")] = 4096
    events: Annotated[int, Meta(ge=0, description="Most events of a span.")] = 128
    links: Annotated[int, Meta(ge=0, description="Most links of a span.")] = 128


class Traces(Section, frozen=True, kw_only=True):
    """What happens to traces on their way. As shipped they are forwarded as they came, without being decoded."""

    head_sampling: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="The share of traces that is kept, decided by the trace id alone (consistent probability).",
        ),
    ] = 1.0
    tail_sampling: Annotated[
        tuple[TailRule, ...],
        Meta(
            description="Which whole traces are kept; what no rule takes is dropped. Without rules every trace is kept.",
            extra={"kind": "named"},
        ),
    ] = ()
    tail_wait_seconds: Annotated[
        Duration, Meta(gt=0, le=600, description="How long the spans of a trace are waited for, from the first.")
    ] = field(default=10.0, name="tail_wait")
    tail_memory_bytes: Annotated[
        Size,
        Meta(ge=1 << 20, description="Most bytes of spans that wait; beyond, the oldest traces are decided early."),
    ] = field(default=8 << 20, name="tail_memory")
    span_metrics: Annotated[
        bool | SpanMetrics,
        Meta(
            description="`on`, `off` or options: calls, errors and durations per service, span and status as metrics."
        ),
    ] = False
    service_graph: Annotated[
        bool, Meta(description="Who calls whom, with rates, errors and durations, as metrics.")
    ] = False
    redact: Redaction | None = None
    limits: AttributeLimits | None = None
    recent_bytes: Annotated[
        Size,
        Meta(description="Memory for the traces that were seen last, which can be looked up on this host; 0 for none."),
    ] = field(default=4 << 20, name="recent")


class Multiline(Section, frozen=True, kw_only=True):
    """Lines that belong together become one record."""

    preset: Annotated[
        Literal["python", "java", "go", "node"] | None,
        Meta(description="Tracebacks of this language, with the line before them.", examples=["python"]),
    ] = None
    start: Annotated[
        LinearRegex | None,
        Meta(
            description="Instead of a preset: what is found at the beginning of a record's first line; every other line "
            "belongs to the record before.",
            examples=["\\d{4}-\\d\\d-\\d\\d"],
        ),
    ] = None
    max_lines: Annotated[int, Meta(ge=2, le=10_000, description="Most lines of a record.")] = 500
    max_bytes: Annotated[Size, Meta(ge=1 << 10, le=1 << 20, description="Most bytes of a record.")] = field(
        default=256 << 10, name="max_size"
    )
    timeout_seconds: Annotated[
        Duration, Meta(gt=0, le=60, description="How long the next line of a record is waited for.")
    ] = field(default=1.0, name="timeout")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if (self.preset is None) == (self.start is None):
            yield "preset", "or start: give one of the two"


Severity = Literal["trace", "debug", "info", "warn", "error", "fatal"]


class LogMatch(Section, frozen=True, kw_only=True):
    """Which records; every criterion that is given must hold."""

    min_severity: Annotated[
        Severity | None,
        Meta(description="This severity or a higher one; a record without one has none.", examples=["warn"]),
    ] = None
    max_severity: Annotated[Severity | None, Meta(description="This severity or a lower one.", examples=["debug"])] = (
        None
    )
    body: Annotated[
        LinearRegex | None,
        Meta(description="Regular expression found in the body.", examples=["GET /health"]),
    ] = None
    attributes: Annotated[
        dict[str, LinearRegex],
        Meta(
            description="The record has each of these attributes, its value matched whole by the regular expression.",
            examples=[{"http.response.status_code": "5.."}],
        ),
    ] = field(default_factory=dict)


class LogFilter(Section, frozen=True, kw_only=True):
    """Which records go on. What does not is counted."""

    keep: Annotated[LogMatch | None, Meta(description="Only these.")] = None
    drop: Annotated[LogMatch | None, Meta(description="All but these.")] = None

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if (self.keep is None) == (self.drop is None):
            yield "keep", "or drop: give one of the two; for both write two steps"


class LogSample(Section, frozen=True, kw_only=True):
    """The share of records that is kept, by severity; of one trace all or none. A record without a severity is kept."""

    trace: Annotated[float, Meta(ge=0, le=1, description="Of severity trace.")] = 1.0
    debug: Annotated[float, Meta(ge=0, le=1, description="Of severity debug.")] = 1.0
    info: Annotated[float, Meta(ge=0, le=1, description="Of severity info.")] = 1.0
    warn: Annotated[float, Meta(ge=0, le=1, description="Of severity warn.")] = 1.0
    error: Annotated[float, Meta(ge=0, le=1, description="Of severity error.")] = 1.0
    fatal: Annotated[float, Meta(ge=0, le=1, description="Of severity fatal.")] = 1.0


class LogRate(Section, frozen=True, kw_only=True):
    """A bound on records per second. What is beyond is dropped and counted."""

    per_second: Annotated[float, Meta(gt=0, le=1e9, description="Records a second, in the long run.")]
    burst: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Records at once; a second's worth by default.", examples=[1000]),
    ] = None
    by: Annotated[
        str | None,
        Meta(description="Each value of this attribute has a bound of its own.", examples=["client.address"]),
    ] = None


class LogMetric(Section, frozen=True, kw_only=True):
    """A counter of records, or a histogram of a number in them."""

    name: Annotated[
        str, Meta(pattern="^[A-Za-z][A-Za-z0-9_.]*$", description="Of the metric.", examples=["stories.failed"])
    ]
    description: Annotated[str, Meta(description="Of the metric, for people.")] = ""
    unit: Annotated[str, Meta(description="Of the number, after UCUM.", examples=["ms"])] = ""
    match: LogMatch = LogMatch()
    value: Annotated[
        str | None,
        Meta(
            description="The attribute that holds the number; without it records are counted.", examples=["duration_ms"]
        ),
    ] = None
    buckets: Annotated[
        tuple[float, ...], Meta(description="Bounds of the histogram; without them the numbers are summed up.")
    ] = ()
    attributes: Annotated[
        tuple[str, ...],
        Meta(description="Attributes that tell series apart; `severity` is the record's.", examples=[["component"]]),
    ] = ()
    max_series: Annotated[int, Meta(ge=1, description="Most series; the rest becomes one.")] = 200

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.buckets and self.value is None:
            yield "buckets", "are for the number of `value`, which is missing"
        if any(below >= above for below, above in pairwise(self.buckets)):
            yield "buckets", "do not rise; write each bound once, the smallest first"


class LogStep(Section, frozen=True, kw_only=True):
    """One step of a log's processing."""

    redact: Annotated[
        tuple[Literal["email", "bearer", "key", "card", "url_password"], ...] | Redaction | None,
        Meta(
            description="Built-in patterns taken out of every text, or the options that traces.redact has.",
            examples=[["email", "bearer", "key", "card", "url_password"]],
        ),
    ] = None
    filter: Annotated[LogFilter | None, Meta(description="Which records go on.")] = None
    drop_attributes: Annotated[
        tuple[str, ...] | None,
        Meta(description="Attributes to leave out; * stands for any text.", examples=[["thread_*"]]),
    ] = None
    add_attributes: Annotated[
        dict[str, str] | None,
        Meta(description="Attributes to add, over what is there.", examples=[{"team": "stories"}]),
    ] = None
    sample: Annotated[LogSample | None, Meta(description="The share of records that is kept, by severity.")] = None
    rate_limit: Annotated[LogRate | None, Meta(description="A bound on records per second.")] = None
    count: Annotated[LogMetric | None, Meta(description="A metric of the records that come this far.")] = None

    def conflicts(self) -> Iterator[tuple[str, str]]:
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        if not given:
            yield self.__struct_fields__[0], f"is missing; a step is one of {', '.join(self.__struct_fields__)}"
        for name in given[1:]:
            yield name, f"stands beside {given[0]}; write it as an item of its own, so that the order is plain"


class LogKeys(Section, frozen=True, kw_only=True):
    """Where in a structured line the parts of a record stand: the first key that is there counts."""

    time: Annotated[tuple[str, ...], Meta(description="When it happened.")] = ("timestamp", "time", "@timestamp", "ts")
    severity: Annotated[tuple[str, ...], Meta(description="How bad it is.")] = ("level", "severity", "levelname", "lvl")
    body: Annotated[tuple[str, ...], Meta(description="What happened.")] = ("message", "msg", "event", "body")
    trace_id: Annotated[tuple[str, ...], Meta(description="The trace it belongs to, 32 hexadecimal digits.")] = (
        "trace_id", "traceId", "traceID",
    )  # fmt: skip
    span_id: Annotated[tuple[str, ...], Meta(description="The span it belongs to, 16 hexadecimal digits.")] = (
        "span_id", "spanId", "spanID",
    )  # fmt: skip

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for option in self.__struct_fields__:
            for name in getattr(self, option):
                if not name or not name.isprintable() or '"' in name or "\\" in name:
                    yield option, f"has {name!r}; the name of a key is not empty and holds no quote or backslash"


class Journal(Section, frozen=True, kw_only=True):
    """Which entries of the systemd journal; every criterion that is given must hold."""

    units: Annotated[
        tuple[str, ...], Meta(description="Of these units; all by default.", examples=[["novel-engine.service"]])
    ] = ()
    identifiers: Annotated[
        tuple[str, ...], Meta(description="Of these syslog identifiers.", examples=[["sshd", "sudo"]])
    ] = ()
    min_severity: Annotated[Severity | None, Meta(description="This severity or a higher one.", examples=["warn"])] = (
        None
    )
    kernel: Annotated[bool, Meta(description="Messages of the kernel, too, where units or identifiers are given.")] = (
        False
    )
    directory: Annotated[
        Path | None,
        Meta(description="Journal files of another place, such as a container's.", examples=["/var/log/journal"]),
    ] = None

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.kernel and any(set(unit) & set("*?[") for unit in self.units):
            yield (
                "units",
                "has a wildcard, which journalctl does not combine with `kernel`; write a source of its own for one",
            )


LogFormat = Literal["text", "json", "logfmt", "regex", "combined", "syslog", "cri", "docker"]


class LogSource(Section, frozen=True, kw_only=True):
    """Log files, or the systemd journal, to read."""

    name: Annotated[str, Meta(min_length=1, description="Name in logs, status and metrics.", examples=["worker"])]
    paths: Annotated[
        tuple[Path, ...],
        Meta(
            description="Files; * and ? and [a-z] match within a name, ** any directories.",
            examples=[["/var/log/novel-engine/*.log"]],
        ),
    ] = ()
    exclude: Annotated[
        tuple[Path, ...], Meta(description="Of those, not these.", examples=[["/var/log/novel-engine/debug*.log"]])
    ] = ()
    journal: Annotated[Journal | None, Meta(description="Instead of files, the systemd journal.")] = None
    format: Annotated[
        LogFormat,
        Meta(
            description="What a line is: text, a JSON object, logfmt, a line of `pattern`, an access log (combined, common or "
            "uvicorn's), syslog (RFC 5424 or 3164), a line of a Kubernetes container (cri) or of Docker's json-file driver."
        ),
    ] = "text"
    pattern: Annotated[
        LinearRegex | None,
        Meta(
            description="Of format regex: its named groups become attributes, those named like `keys` the parts of the record.",
            examples=["(?P<time>\\S+) (?P<level>[A-Z]+) (?P<message>.*)"],
        ),
    ] = None
    keys: LogKeys = LogKeys()
    time_format: Annotated[
        str | None,
        Meta(
            description="How time is written, after strptime, where it is none of RFC 3339, ISO 8601 or a Unix time.",
            examples=["%d/%b/%Y %H:%M:%S"],
        ),
    ] = None
    timezone: Annotated[str, Meta(description="Of times that name none: an IANA name.", examples=["Europe/Berlin"])] = (
        "UTC"
    )
    start_at: Annotated[
        Literal["beginning", "end"],
        Meta(description="Where a file is begun that was there when the agent first saw the source."),
    ] = "beginning"
    encoding: Annotated[
        Literal["auto", "utf-8", "utf-16-le", "utf-16-be"],
        Meta(description="auto is UTF-8, or UTF-16 where the file begins with its byte order mark."),
    ] = "auto"
    multiline: Annotated[
        Multiline | None,
        Meta(description="Lines that belong together. Partial lines of cri and docker are always joined."),
    ] = None
    attributes: Annotated[
        Literal["all", "envelope"],
        Meta(
            description="all: every key of a line becomes an attribute; envelope: the line stays the body, only time, severity "
            "and ids are read."
        ),
    ] = "all"
    max_line_bytes: Annotated[
        Size, Meta(ge=1 << 10, le=16 << 20, description="Longest line; what is beyond is cut, marked and counted.")
    ] = field(default=1 << 20, name="max_line_size")
    resource: Annotated[
        dict[str, str],
        Meta(
            description="Resource attributes of its records, over those of this host.",
            examples=[{"service.name": "nginx"}],
        ),
    ] = field(default_factory=dict)
    processors: Annotated[tuple[LogStep, ...], Meta(description="What is done to the records, in this order.")] = ()

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if bool(self.paths) == (self.journal is not None):
            yield "paths", "or journal: give one of the two"
        if self.format == "regex" and self.pattern is None:
            yield "pattern", "is missing; format regex needs a regular expression with named groups"
        if self.format != "regex" and self.pattern is not None:
            yield "pattern", "is for format regex"
        if self.pattern is not None and "(?P<" not in self.pattern:
            yield "pattern", "has no named group; write (?P<message>.*) for what is to become the body"
        if not _is_timezone(self.timezone):
            yield (
                "timezone",
                f"is {self.timezone!r}, which this machine does not know; write a name such as Europe/Berlin",
            )
        if self.journal is not None and (self.format != "text" or self.multiline is not None):
            yield "format" if self.format != "text" else "multiline", "is for files; the journal has its own"


def _is_timezone(name: str) -> bool:
    if name == "UTC":
        return True
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return False
    return True


class Config(Section, frozen=True, kw_only=True):
    """The configuration of the agent."""

    agent: Agent = Agent()
    resource: Resource = Resource()
    host: Host = Host()
    processes: Annotated[
        tuple[ProcessGroup, ...],
        Meta(
            description="Process metrics: process-exporter's names on /metrics, OpenTelemetry's process.* over OTLP.",
            extra={"kind": "named"},
        ),
    ] = ()
    otlp_receiver: OtlpReceiver = OtlpReceiver()
    traces: Traces = Traces()
    logs: Annotated[
        tuple[LogSource, ...], Meta(description="Log files and journals to read.", extra={"kind": "named"})
    ] = ()
    export: Annotated[tuple[Export, ...], Meta(description="Where telemetry is sent.", extra={"kind": "named"})] = ()

    def conflicts(self) -> Iterator[tuple[str, str]]:
        receivers = {"http": self.otlp_receiver.http, "grpc": self.otlp_receiver.grpc}
        yield from _shared_addresses(self.agent.listen, receivers)
        yield from _shared_files(self.export)
        yield from _shared_metrics(self.logs)
        for each in self.export:
            name = next((name for name, listen in receivers.items() if listen and _leads_to(each.url, listen)), None)
            if name:
                yield (
                    f"export[{each.name}].endpoint",
                    f"{OWN_RECEIVER}.{name}, so everything would go round for ever; "
                    "write another destination, or another port for the receiver",
                )


OWN_RECEIVER = "is this agent's own otlp_receiver"
"""How that problem begins: of the environment it is a notice, since applications have the same variables."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - named, not listened on


def _shared_addresses(api: str, receivers: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    taken = [("agent.listen", *_host_and_port(api))]
    for name, listen in receivers.items():
        if not listen:
            continue
        host, port = _host_and_port(listen)
        for other, other_host, other_port in taken:
            if port and port == other_port and _overlap(host, other_host):
                yield f"otlp_receiver.{name}", f"is {listen}, which {other} has; write another port"
        taken.append((f"otlp_receiver.{name}", host, port))


def _shared_files(exports: tuple[Export, ...]) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for each in exports:
        if each.type != "file" or not each.path:
            continue
        if each.path in first:
            yield f"export[{each.name}].path", f"is where {first[each.path]} writes; write another file"
        first.setdefault(each.path, each.name)


_OWN_METRICS = ("novel_agent_", "node_", "namedprocess_", "traces_span_metrics_", "traces_service_graph_")


def _shared_metrics(logs: tuple[LogSource, ...]) -> Iterator[tuple[str, str]]:
    """Metrics made of logs whose name on /metrics is another's."""
    first: dict[str, str] = {}
    for source in logs:
        for step in source.processors:
            if step.count is None:
                continue
            name = step.count.name.replace(".", "_").lower()
            key = f"logs[{source.name}].processors"
            if name.startswith(_OWN_METRICS):
                yield key, f"count {step.count.name}, which is one of the agent's own names; write another"
            if name in first:
                yield key, f"count {step.count.name}, which logs[{first[name]}] counts already; write another name"
            first.setdefault(name, source.name)


def _host_and_port(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host.strip("[]").lower(), int(port)


def _overlap(one: str, other: str) -> bool:
    """Whether listening at both fails, as far as names tell."""
    return (
        one == other or one in _EVERY_ADDRESS or other in _EVERY_ADDRESS or {one, other} == {"localhost", "127.0.0.1"}
    )


def _leads_to(url: str, listen: str) -> bool:
    """Whether a URL of this machine's loopback is that listener."""
    if not url:
        return False
    parts = urlsplit(url)
    host, port = _host_and_port(listen)
    to = (parts.hostname or "").lower()
    return port == parts.port and to in _LOOPBACK and (host in _EVERY_ADDRESS or host in _LOOPBACK)
