"""What an entry of the journal is as a log record.

Fields that OpenTelemetry's semantic conventions name get those names; the rest keeps its own, in lower case. What is the same
in all entries of a host, or is the journal's own bookkeeping, is left out. Sources: systemd.journal-fields(7); OpenTelemetry,
logs/data-model-appendix.md for severities (syslog) and the registry of attributes.
"""

from collections.abc import Callable, Container
from typing import NamedTuple

from novel_agent.inputs.logs.journal_export import Field, Fields
from novel_agent.model.log import LogRecord
from novel_agent.model.value import Attributes, Value

UID, TRUNCATED = "log.record.uid", "log.truncated"
CURSOR = "__CURSOR"

PRIORITIES = (
    ("emerg", 21), ("alert", 19), ("crit", 18), ("err", 17), ("warning", 13), ("notice", 10), ("info", 9), ("debug", 5),
)  # fmt: skip
"""Name and OpenTelemetry's number of each syslog level, from 0."""


class JournalEntry(NamedTuple):
    """A record, and where reading goes on after it."""

    record: LogRecord
    cursor: str


Convert = Callable[[str], Value]


def _number(text: str) -> Value:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else text


def _text(text: str) -> Value:
    return text


_NAMES: dict[str, tuple[str, Convert]] = {
    "_PID": ("process.pid", _number),
    "_COMM": ("process.executable.name", _text),
    "_EXE": ("process.executable.path", _text),
    "_CMDLINE": ("process.command_line", _text),
    "_UID": ("process.user.id", _number),
    "_SYSTEMD_UNIT": ("systemd.unit", _text),
    "_SYSTEMD_USER_UNIT": ("systemd.user_unit", _text),
    "_TRANSPORT": ("journal.transport", _text),
    "_NAMESPACE": ("journal.namespace", _text),
    "SYSLOG_IDENTIFIER": ("syslog.appname", _text),
    "SYSLOG_FACILITY": ("syslog.facility.code", _number),
    "CODE_FILE": ("code.file.path", _text),
    "CODE_LINE": ("code.line.number", _number),
    "CODE_FUNC": ("code.function.name", _text),
    "TID": ("thread.id", _number),
    "ERRNO": ("errno", _number),
    "CONTAINER_ID_FULL": ("container.id", _text),
    "CONTAINER_NAME": ("container.name", _text),
    "IMAGE_NAME": ("container.image.name", _text),
}
_OF_OTHER_HOSTS = {"_HOSTNAME": ("host.name", _text), "_MACHINE_ID": ("host.id", _text)}

_LEFT_OUT = frozenset(
    {
        *(
            "MESSAGE",
            "PRIORITY",
            "_SOURCE_REALTIME_TIMESTAMP",
            "_SOURCE_MONOTONIC_TIMESTAMP",
            "_SOURCE_BOOTTIME_TIMESTAMP",
        ),
        *("_BOOT_ID", "_MACHINE_ID", "_HOSTNAME", "_RUNTIME_SCOPE", "_GID", "_CAP_EFFECTIVE", "_SELINUX_CONTEXT"),
        *("_AUDIT_SESSION", "_AUDIT_LOGINUID", "_SYSTEMD_CGROUP", "_SYSTEMD_SLICE", "_SYSTEMD_USER_SLICE"),
        *("_SYSTEMD_SESSION", "_SYSTEMD_OWNER_UID", "_SYSTEMD_INVOCATION_ID", "_STREAM_ID", "_LINE_BREAK"),
        *("SYSLOG_PID", "SYSLOG_TIMESTAMP", "SYSLOG_RAW", "CONTAINER_ID", "CONTAINER_TAG"),
    }
)
_TRACE_IDS = ("TRACE_ID", "OTEL_TRACE_ID", "TRACEID")
_SPAN_IDS = ("SPAN_ID", "OTEL_SPAN_ID", "SPANID")
_FLAGS = "TRACE_FLAGS"
_OF_TRACES = frozenset({*_TRACE_IDS, *_SPAN_IDS, _FLAGS})
_MICROSECOND = 1000
_LONGEST_NAME = 64
_MOST_NAMES = 1024


class EntryReader:
    """Makes records of entries; `other_hosts` where the journal may be another host's, whose name is then written down."""

    def __init__(self, *, other_hosts: bool = False) -> None:
        named: dict[str, tuple[str, Convert | None]] = dict.fromkeys(_LEFT_OUT, ("", None))
        self._named = named | _NAMES | (_OF_OTHER_HOSTS if other_hosts else {})
        self._others: dict[str, tuple[str, Convert | None]] = {}

    def entry(self, fields: Fields, observed_unix_nano: int) -> JournalEntry:
        """The record of an entry. What contradicts itself is left as it is: a time, severity or id that is none is not set."""
        values = fields.values
        cursor = _first(values.get(CURSOR, ""))
        number, name = _severity(values.get("PRIORITY"))
        record = LogRecord(
            time_unix_nano=_time(values),
            observed_unix_nano=observed_unix_nano,
            severity_number=number,
            severity_text=name,
            body=_joined(values.get("MESSAGE")),
        )
        record.attributes = attributes = self._attributes(fields, _take_ids(record, values))
        if fields.truncated:
            attributes[TRUNCATED] = True
        if cursor:
            attributes[UID] = uid_of(cursor)
        return JournalEntry(record, cursor)

    def _attributes(self, fields: Fields, taken: Container[str]) -> Attributes:
        attributes: Attributes = {}
        named, others, data = self._named, self._others, fields.data
        for name, value in fields.values.items():
            attribute, convert = named.get(name) or others.get(name) or self._other(name)
            if not attribute or name in taken:
                continue
            if name in data:
                attributes[attribute] = data[name]
            elif convert is not None:
                attributes[attribute] = convert(_first(value))
            else:
                attributes[attribute] = value if isinstance(value, str) else list(value)
        return attributes

    def _other(self, name: str) -> tuple[str, Convert | None]:
        """What a field of others becomes; nothing of an address. Short names are remembered."""
        found = ("" if name.startswith("__") else name.lower(), None)
        if len(name) <= _LONGEST_NAME:
            if len(self._others) >= _MOST_NAMES:
                self._others.clear()
            self._others[name] = found
        return found


def uid_of(cursor: str) -> str:
    """Tells an entry from every other: the id of the sequence of numbers that it is from, and its number."""
    sequence, _, rest = cursor.partition(";")
    number = rest.partition(";")[0]
    return f"{sequence[2:]}-{number[2:]}" if sequence.startswith("s=") and number.startswith("i=") else cursor


def cursor_microseconds(cursor: str) -> int | None:
    """When the entry of a cursor was received, since the epoch; None of what is no cursor."""
    for part in cursor.split(";"):
        if part.startswith("t="):
            try:
                return int(part[2:], 16)
            except ValueError:
                return None
    return None


def _first(value: Field) -> str:
    return value if isinstance(value, str) else value[0]


def _joined(value: Field | None) -> str | None:
    """The text of a message; one that has several, one below the other."""
    return "\n".join(value) if isinstance(value, list) else value


def _severity(priority: Field | None) -> tuple[int, str]:
    text = "" if priority is None else _first(priority)
    if len(text) == 1 and "0" <= text <= "7":
        name, number = PRIORITIES[int(text)]
        return number, name
    return 0, ""


def _time(values: dict[str, Field]) -> int:
    """When the source says it happened, else when the journal received it; 0 where neither is a time."""
    for name in ("_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"):
        text = _first(values.get(name, ""))
        if text.isascii() and text.isdecimal() and len(text) <= 16:
            return int(text) * _MICROSECOND
    return 0


def _take_ids(record: LogRecord, values: dict[str, Field]) -> Container[str]:
    """Set the ids; the names of what they are from."""
    if _OF_TRACES.isdisjoint(values):
        return _OF_TRACES
    taken = set()
    for names, size, field in ((_TRACE_IDS, 16, "trace_id"), (_SPAN_IDS, 8, "span_id")):
        for name in names:
            if name in values and (found := _id(_first(values[name]), size)):
                setattr(record, field, found)
                taken.add(name)
                break
    if record.trace_id and _FLAGS in values and (flags := _id(_first(values[_FLAGS]), 1, zero=True)):
        record.flags = flags[0]
        taken.add(_FLAGS)
    return taken


def _id(text: str, size: int, *, zero: bool = False) -> bytes:
    """An id of so many bytes, written in hexadecimal; nothing where it is none."""
    if len(text) != 2 * size:
        return b""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return b""
    return found if len(found) == size and (zero or any(found)) else b""
