"""The configuration as values: one struct a section, one field an option.

Field names carry units; the option's name in the file is the field's encoded name. Descriptions, ranges and examples stand
in the `Meta` of each type: the checks, the JSON Schema, the reference page, the samples and the error messages are made from
them. `Duration` and `Size` are written as people write them (`15s`, `64MiB`) and are seconds and bytes from here on.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

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
AllowedHost = Annotated[str, Meta(extra={"kind": "allowed_host"})]
Url = Annotated[str, Meta(extra={"kind": "url"})]
Regex = Annotated[str, Meta(extra={"kind": "regex"})]
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


class MemoryQueue(Section, frozen=True, kw_only=True):
    """What waits for a destination."""

    size_bytes: Annotated[Size, Meta(ge=64 << 10, description="Most bytes that wait.")] = field(
        default=8 << 20, name="size"
    )


class Export(Section, frozen=True, kw_only=True):
    """One destination. Each has its own queue, retries and acknowledgement."""

    name: Annotated[str, Meta(min_length=1, description="Name in logs, status and metrics.", examples=["central"])]
    type: Annotated[Literal["otlp"], Meta(description="Kind of destination.")] = "otlp"
    endpoint: Annotated[
        Url,
        Meta(
            description="Base URL; over HTTP the signal's path (/v1/metrics) is appended.",
            examples=["https://collector.example.org:4318"],
        ),
    ]
    protocol: Annotated[Literal["http/protobuf", "http/json", "grpc"], Meta(description="Encoding and transport.")] = (
        "http/protobuf"
    )
    compression: Annotated[Literal["gzip", "none"], Meta(description="Compression of request bodies.")] = "gzip"
    signals: Annotated[
        tuple[Literal["metrics", "logs", "traces"], ...], Meta(min_length=1, description="What is sent there.")
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
    tls: ClientTls = ClientTls()
    queue: MemoryQueue = MemoryQueue()

    def conflicts(self) -> Iterator[tuple[str, str]]:
        base = self.endpoint.split("?")[0].rstrip("/")
        path = base.partition("://")[2].partition("/")[2]
        if self.protocol == "grpc" and path:
            yield "endpoint", f"has the path /{path}, but gRPC takes none; end it after the port"
        elif path.endswith(("v1/metrics", "v1/logs", "v1/traces")):
            yield "endpoint", f"ends in the signal's path, which is appended; write {base.rpartition('/v1/')[0]}"
        if base.startswith("http://") and self.tls != ClientTls():
            yield "tls", "is set, but endpoint is http://, so nothing would be encrypted; write https://"


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
    export: Annotated[tuple[Export, ...], Meta(description="Where telemetry is sent.", extra={"kind": "named"})] = ()
