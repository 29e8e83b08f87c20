r"""Lines of syslog: RFC 5424, RFC 3164 and what daemons make of them in files.

Told apart by how a line begins:

    <34>1 2003-10-11T22:14:15.003Z host su 123 ID47 [ex@1 k="v"] text     RFC 5424
    <34>Oct 11 22:14:15 host su[123]: text                                RFC 3164
    Oct 11 22:14:15 host su[123]: text                                    the same in a file, where the priority is left out
    2003-10-11T22:14:15.003123+02:00 host su[123]: text                   rsyslog's RSYSLOG_FileFormat, systemd's short-iso

The length that RFC 6587 puts before a message (`83 <34>1 ...`) is passed over. Attributes are named as the mapping of syslog in
OpenTelemetry's data model has it (`syslog.procid`, `syslog.msgid`, `syslog.version`), with Elastic's names below `syslog.` for
what that leaves to the resource or to be parts of one name: `syslog.facility.code`, `syslog.facility.name`, `syslog.hostname`,
`syslog.appname`, `syslog.structured_data`. Host and program stay attributes because one file may hold those of many.

Severity numbers are those of the data model's appendix B, the text is syslog's keyword for it. The body is the message.
"""

import re
from collections.abc import Callable
from time import gmtime

from novel_agent.model.log import LogRecord
from novel_agent.model.value import Attributes, Value
from novel_agent.processors.parse.record import LineError
from novel_agent.processors.parse.timestamps import ReadTime

NOT_SYSLOG = "not syslog"
NO_TIME = "no valid time"

_SEVERITIES = (
    (21, "emerg"), (19, "alert"), (18, "crit"), (17, "err"), (13, "warning"), (10, "notice"), (9, "info"), (5, "debug"),
)  # fmt: skip
_FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "security", "console", "solaris-cron", *(f"local{number}" for number in range(8)),
)  # fmt: skip
"""RFC 5424 section 6.2.1, by the keywords of syslog.conf (rsyslog), 12 to 15 as util-linux's logger has them."""
_LARGEST_PRIORITY = 191

_PRIORITY = re.compile(r"(?:\d{1,7} )?+<(\d{1,3})>", re.ASCII)
_HEADER_5424 = re.compile(r"(\d{1,3}) (\S++) (\S++) (\S++) (\S++) (\S++)(?: |$)", re.ASCII)
"""Version, time, host, program, process, message id. Structured data and the message follow."""
_ELEMENT = re.compile(
    r'\[([^\s=\]"]++)((?: ++[^\s=\]"]++="[^"\\]*+(?:\\.[^"\\]*+)*+")*+) *+\]', re.ASCII | re.DOTALL
)  # fmt: skip
_PARAMETER = re.compile(r'([^\s=\]"]++)="([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.ASCII | re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\\]])')

_TIME_3164 = re.compile(
    r"([A-Z][a-z][a-z]) {1,2}(\d{1,2})(?: (\d{4}))?+ (\d\d:\d\d:\d\d(?:[.,]\d{1,9})?+)(?: (\d{4})(?= ))?+:?(?: |$)",
    re.ASCII,
)
_TIME_3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S{0,16})(?: |$)", re.ASCII)
_TAG = re.compile(r"([^\s:\[\]]++(?:::?[^\s:\[\]]++)*+)(?:\[([^\]\s]*+)\])?+:(?:\s|$)", re.ASCII)
_HOST = re.compile(r"(\S++)(?: |$)", re.ASCII)
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
_AHEAD_NANOSECONDS = 86_400 * 1_000_000_000
"""How far ahead of the reader's clock a time without a year may be before it is taken for one of the year before."""
_YEARS_BACK = 8
"""How far apart leap days may be."""


class SyslogParser:
    """Lines of syslog. `read_time` takes RFC 3339 and ISO 8601 without a zone, `now` is in seconds since the epoch."""

    def __init__(self, read_time: ReadTime, now: Callable[[], float]) -> None:
        self._read_time = read_time
        self._now = now
        self._last_time = ""
        self._last_nanoseconds = 0

    def parse(self, line: bytes) -> LogRecord:
        """The record; LineError where the line has neither a priority nor a time, or its time is none."""
        text = line.decode("utf-8", "replace")
        record = LogRecord()
        priority = _PRIORITY.match(text)
        place = 0
        if priority is not None and int(priority[1]) <= _LARGEST_PRIORITY:
            _take_priority(record, int(priority[1]))
            place = priority.end()
            header = _HEADER_5424.match(text, place)
            if header is not None and (header[2] == "-" or _TIME_3339.match(header[2])):
                self._take_5424(record, header, text)
                return record
        self._take_3164(record, text, place)
        return record

    def _take_5424(self, record: LogRecord, header: re.Match[str], text: str) -> None:
        version, time, host, program, process, message_id = header.groups()
        if time != "-":
            record.time_unix_nano = self._time(time, lambda: self._read_time(time))
        attributes = record.attributes
        attributes["syslog.version"] = int(version)
        for name, value in (
            ("syslog.hostname", host), ("syslog.appname", program), ("syslog.procid", process), ("syslog.msgid", message_id),
        ):  # fmt: skip
            if value != "-":
                attributes[name] = value
        record.body = _take_structured_data(attributes, text, header.end())

    def _take_3164(self, record: LogRecord, text: str, place: int) -> None:
        """A time, a host and a tag, of which each may be missing; without a priority there has to be a time."""
        place = self._take_time(record, text, place)
        tag = _TAG.match(text, place)
        if tag is None and record.time_unix_nano and (host := _HOST.match(text, place)):
            record.attributes["syslog.hostname"] = host[1]
            place = host.end()
            tag = _TAG.match(text, place)
        if tag is not None:
            record.attributes["syslog.appname"] = tag[1]
            if tag[2]:
                record.attributes["syslog.procid"] = tag[2]
            place = tag.end()
        record.body = text[place:].removeprefix("\ufeff")

    def _take_time(self, record: LogRecord, text: str, place: int) -> int:
        """The place behind it."""
        found = _TIME_3164.match(text, place)
        if found is not None and found[1] in _MONTHS:
            parts = found.groups()
            record.time_unix_nano = self._time(found[0], lambda: self._guess(*parts))
            return found.end()
        found = _TIME_3339.match(text, place)
        if found is not None:
            time = found[1]
            record.time_unix_nano = self._time(time, lambda: self._read_time(time))
            return found.end()
        if not record.severity_number:
            raise LineError(NOT_SYSLOG)
        return place

    def _time(self, text: str, read: Callable[[], int]) -> int:
        """Lines of one second often share their time, so the last one is kept."""
        if text != self._last_time:
            try:
                self._last_nanoseconds = read()
            except ValueError:
                raise LineError(NO_TIME) from None
            self._last_time = text
        return self._last_nanoseconds

    def _guess(self, month: str, day: str, year: str | None, time: str, year_behind: str | None) -> int:
        """The latest year in which the time is at most a day ahead: right for what is younger than a year less a day."""
        date = f"{_MONTHS[month]:02}-{int(day):02}T{time.replace(',', '.')}"
        if year or year_behind:
            return self._read_time(f"{year or year_behind}-{date}")
        now = self._now()
        latest = int(now * 1_000_000_000) + _AHEAD_NANOSECONDS
        this_year = gmtime(now).tm_year
        for candidate in range(this_year + 1, this_year - _YEARS_BACK - 1, -1):
            try:
                nanoseconds = self._read_time(f"{candidate}-{date}")
            except ValueError:
                continue
            if nanoseconds <= latest:
                return nanoseconds
        raise ValueError(date)


def _take_priority(record: LogRecord, priority: int) -> None:
    facility, severity = divmod(priority, 8)
    record.severity_number, record.severity_text = _SEVERITIES[severity]
    record.attributes["syslog.facility.code"] = facility
    record.attributes["syslog.facility.name"] = _FACILITIES[facility]


def _take_structured_data(attributes: Attributes, text: str, place: int) -> str:
    """The message behind it. What is not structured data, though it should be, belongs to the message."""
    if text.startswith("-", place) and text[place + 1 : place + 2] in ("", " "):
        return text[place + 2 :].removeprefix("\ufeff")
    data: dict[str, Value] = {}
    while found := _ELEMENT.match(text, place):
        data[found[1]] = _parameters(found[2])
        place = found.end()
    if data:
        attributes["syslog.structured_data"] = data
        place += text.startswith(" ", place)
    return text[place:].removeprefix("\ufeff")


def _parameters(text: str) -> dict[str, Value]:
    """Of one element; a name that stands more than once has a list."""
    parameters: dict[str, Value] = {}
    for name, written in _PARAMETER.findall(text):
        value = _ESCAPE.sub(r"\1", written) if "\\" in written else written
        if name not in parameters:
            parameters[name] = value
        elif isinstance(there := parameters[name], list):
            there.append(value)
        else:
            parameters[name] = [there, value]
    return parameters
