"""What `status` shows: one value, made on demand, the same for the command line, the API and the page."""

import msgspec

from novel_agent.runtime.supervise import Component


class HealthCheck(msgspec.Struct):
    """One thing that is well or not; `checked_at` in seconds since the epoch."""

    name: str
    status: str
    """`healthy`, `degraded` or `unhealthy`."""
    message: str
    checked_at: float


class Health(msgspec.Struct):
    """The worst of the checks, and the checks."""

    status: str
    checks: list[HealthCheck]


class DestinationStatus(msgspec.Struct):
    """How an export is doing; counted since start."""

    name: str
    type: str
    endpoint: str
    protocol: str
    state: str
    """`idle`, `delivering`, `waiting to retry`, `stopped`."""
    queue_items: int
    queue_bytes: int
    queue_capacity_bytes: int
    queue_in_memory: bool
    """The spool cannot be written, so what waits would not survive the agent."""
    queue_oldest_age_seconds: float
    """0 where nothing waits."""
    damaged_bytes: int
    """Of the spool that could not be read back."""
    requests_under_way: int
    concurrency_limit: int
    sent_items: dict[str, int]
    """By signal."""
    sent_requests: int
    sent_bytes: int
    failed_requests: int
    retries: int
    rejected_items: dict[str, int]
    """By reason."""
    dropped_items: dict[str, int]
    """By reason."""
    last_success_at: float | None
    last_error: str
    last_error_at: float | None
    retry_in_seconds: float | None


class ReceiverStatus(msgspec.Struct):
    """One receiver; counted since start."""

    transport: str
    address: str
    connections: int
    requests: dict[str, int]
    """By outcome."""
    accepted_items: dict[str, int]
    """By signal."""
    refused: dict[str, int]
    """By reason, those there were."""
    received_bytes: int
    """On the wire."""


class LogFileStatus(msgspec.Struct):
    """One log file; counted since start, offsets in bytes."""

    path: str
    identity: str
    """Device, inode and what its records are named by."""
    state: str
    """`reading`, `quiet`, `rotated`, `gone`, or `unreadable`."""
    size_bytes: int
    read_offset: int
    committed_offset: int
    """Everything before it is safe; reading resumes here after a crash."""
    lag_bytes: int
    lag_seconds: float
    """How long the end of the file has not been reached."""
    records: int
    records_per_second: float
    errors: int
    """Lines that are not valid in the configured format."""
    reason: str
    """Why it cannot be read; empty where it can."""


class LogSourceStatus(msgspec.Struct):
    """One source of logs; counted since start."""

    name: str
    kind: str
    """`files` or `journal`."""
    state: str
    """`reading`, `idle`, `waiting` or `hung`."""
    reason: str
    records: int
    records_per_second: float
    read_bytes: int
    errors: dict[str, int]
    """Lines that are not valid in the configured format, by reason."""
    dropped: dict[str, int]
    """Records that a step left out, by step."""
    replaced_characters: int
    truncated: int
    lag_bytes: int
    lag_seconds: float
    position: str
    """Of a journal, its cursor."""
    files: list[LogFileStatus]


class BudgetStatus(msgspec.Struct):
    """The soft budget and how much of it is used."""

    cpu_percent: float
    memory_bytes: int
    cpu_of_budget: float
    memory_of_budget: float
    level: int
    measure: str


class ConfigStatus(msgspec.Struct):
    """Which files are in force, and how the last attempt to change them went."""

    files: list[str]
    loaded_at: float
    notices: list[str]
    last_reload_ok: bool
    last_reload_at: float | None
    errors: list[str]
    """Of the last reload, where it failed; the configuration before it is still in force."""


class Status(msgspec.Struct):
    """Everything worth knowing at 3 am. Times are seconds since the epoch."""

    version: str
    pid: int
    host: str
    started_at: float
    now: float
    listen: str
    state_dir: str
    health: Health
    cpu_seconds: float
    resident_bytes: int
    open_descriptors: int
    left_behind: int
    budget: BudgetStatus
    config: ConfigStatus
    components: list[Component]
    destinations: list[DestinationStatus]
    receivers: list[ReceiverStatus]
    logs: list[LogSourceStatus]
    renamed: dict[str, str]
    """Families received over OTLP that /metrics shows under another name, because theirs was taken."""
    missing: list[str]
    """Figures that cannot be had without a capability, each with the capability that would give them."""


class Overview(msgspec.Struct):
    """The host at a glance, from the last two samples; shares are 0 to 1, None where unknown."""

    at: float | None
    uptime_seconds: float | None
    cpus: int | None
    cpu_utilization: float | None
    load: list[float]
    memory_total_bytes: float | None
    memory_available_bytes: float | None
    swap_total_bytes: float | None
    swap_free_bytes: float | None
    filesystems: list["FilesystemUse"]
    disks: list["DeviceRate"]
    networks: list["DeviceRate"]
    groups: list["GroupUse"]


class FilesystemUse(msgspec.Struct):
    """One mounted file system."""

    mountpoint: str
    device: str
    size_bytes: float
    available_bytes: float


class DeviceRate(msgspec.Struct):
    """Bytes a second in and out (read and written) of one device, and its total errors."""

    device: str
    in_bytes_per_second: float | None
    out_bytes_per_second: float | None


class GroupUse(msgspec.Struct):
    """One process group."""

    name: str
    processes: float
    cpu_cores: float | None
    resident_bytes: float
