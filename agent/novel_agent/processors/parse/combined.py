r"""Access logs of web servers: NCSA common and combined (nginx, Apache, gunicorn) and what uvicorn writes.

The body stays the line; what is read from it becomes attributes of OpenTelemetry's semantic conventions for HTTP. What such
a log writes for an absent value (`-`) gives no attribute. Neither path nor query is decoded: what was sent is what an
inspection wants to see. Only the escapes that the server put in to write its line (`\"`, `\\`, `\t`, `\xHH`: nginx
ngx_http_log_module, Apache mod_log_config) are undone, byte by byte, and the bytes read as UTF-8.

The severity is that of the answer: error from status 500 on, warn from 400 on, else info, with no text since none is written.

Each expression here takes time that grows with the line alone: what is repeated is possessive, or bounded, or stands in an
atomic group.
"""

import re
from datetime import date
from itertools import islice

from novel_agent.model.log import LogRecord
from novel_agent.model.value import Attributes, Value
from novel_agent.processors.parse.record import LineError
from novel_agent.processors.parse.severity import ERROR, INFO, WARN
from novel_agent.processors.parse.timestamps import ReadTime

NOT_AN_ACCESS_LINE = "not an access log line"
NO_TIME = "no valid time"

_TEXT = r'([^"\\]*+(?:\\.[^"\\]*+)*+)"'
_NCSA = re.compile(
    r'(?>(\S++) (\S++) (.*?) \[([0-9A-Za-z/:+., -]{10,40}+)\] ")'
    + _TEXT + r' (\d{3}|-) (\d{1,18}|-)(?: "' + _TEXT + ' "' + _TEXT + r")?+(?:\s++(.*))?$",
    re.DOTALL,
)  # fmt: skip
"""Host, identity, user, time, request, status, size, referer, user agent, more. A user may hold blanks, but no quote."""
_MORE = re.compile(r'"' + _TEXT + r"(?!\S)|(\S++)", re.DOTALL)
_CLF_TIME = re.compile(r"(\d\d)/([A-Z][a-z][a-z])/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)", re.ASCII)
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}

_LEADING_TIME = re.compile(
    r"\[?"
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?+(?: ?(?:Z|[+-]\d\d:?\d\d))?+"
    r"|\d\d/[A-Z][a-z][a-z]/\d{4}:[\d:]{8} [+-]\d{4})"
)
_STATUS = re.compile(r"(\d{3})(?: .*)?$")

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"v": b"\v", b"f": b"\f"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_VERSIONS = {"HTTP/2.0": "2", "HTTP/3.0": "3"}
_ADDRESSES = re.compile(
    r"(?:\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?|\[?[0-9A-Fa-f]{0,4}:[0-9A-Fa-f.]*+:[0-9A-Fa-f:.]*+\]?)"
    r"(?:, ?(?:\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?|\[?[0-9A-Fa-f]{0,4}:[0-9A-Fa-f.]*+:[0-9A-Fa-f:.]*+\]?))*+"
)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"))
"""Those that `http.request.method` may name; any other is `_OTHER` (semantic conventions for HTTP)."""
_LONGEST_PORT = 5
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_LATEST_SECONDS = 1 << 33
"""The year 2242; nanoseconds of it fit into what OTLP has for them."""
_MOST_FIELDS = 64


class CombinedParser:
    """Lines of access logs. `read_time` is for times that are not written as NCSA does."""

    def __init__(self, read_time: ReadTime) -> None:
        self._read_time = read_time
        self._last_time = ""
        self._last_nanoseconds = 0

    def parse(self, line: bytes) -> LogRecord:
        """The record; LineError where the line is of neither kind, or its time is none."""
        text = line.decode("utf-8", "replace")
        found = _NCSA.match(text) if '] "' in text else None
        if found is None:
            return self._parse_uvicorn(text)
        host, identity, user, time, request, status, size, referer, agent, more = found.groups()
        attributes: Attributes = {"client.address": host}
        if " " in user:
            user = _take_virtual_host(attributes, host, identity, user)
        if user != "-":
            attributes["user.name"] = _unescape(user)
        _take_request(attributes, request)
        severity = _take_status(attributes, status)
        if size != "-":
            attributes["http.response.body.size"] = int(size)
        if referer and referer != "-":
            attributes["http.request.header.referer"] = [_unescape(referer)]
        if agent and agent != "-":
            attributes["user_agent.original"] = _unescape(agent)
        if more:
            _take_more(attributes, more)
        return LogRecord(
            time_unix_nano=self._time(time), severity_number=severity, body=text, attributes=attributes
        )  # fmt: skip

    def _parse_uvicorn(self, text: str) -> LogRecord:
        """As of uvicorn's access logger: `PEER - "REQUEST" STATUS PHRASE`, whatever its formatter puts before.

        What is between the quotes is not escaped, and a query may hold quotes, but no blanks.
        """
        before, _, rest = text.partition(' - "')
        request, _, answer = rest.rpartition('" ')
        status = _STATUS.match(answer)
        if status is None:
            raise LineError(NOT_AN_ACCESS_LINE)
        attributes: Attributes = {}
        peer = before.rpartition(" ")[2]
        address, _, port = peer.rpartition(":")
        if address and port.isdecimal() and len(port) <= _LONGEST_PORT:
            attributes["client.address"] = address
            attributes["client.port"] = int(port)
        elif peer:
            raise LineError(NOT_AN_ACCESS_LINE)
        _take_request(attributes, request, escaped=False)
        severity = _take_status(attributes, status[1])
        time = _LEADING_TIME.match(before)
        return LogRecord(
            time_unix_nano=self._time(time[1]) if time else 0,
            severity_number=severity, body=text, attributes=attributes,
        )  # fmt: skip

    def _time(self, text: str) -> int:
        """Lines of one second share their time, so the last one is kept."""
        if text != self._last_time:
            try:
                nanoseconds = _clf_nanoseconds(text)
                self._last_nanoseconds = self._read_time(text) if nanoseconds is None else nanoseconds
            except ValueError:
                raise LineError(NO_TIME) from None
            self._last_time = text
        return self._last_nanoseconds


def _clf_nanoseconds(text: str) -> int | None:
    """Of `10/Oct/2000:13:55:36 -0700`; None where it is written otherwise, ValueError where there is no such day or hour."""
    found = _CLF_TIME.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        return None
    day, hour, minute, second = int(found[1]), int(found[4]), int(found[5]), int(found[6])
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError(text)
    away = (int(found[8]) * 60 + int(found[9])) * 60
    days = date(int(found[3]), _MONTHS[found[2]], day).toordinal() - _EPOCH_ORDINAL
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second + (away if found[7] == "-" else -away)
    if not 0 <= seconds < _LATEST_SECONDS:
        raise ValueError(text)
    return seconds * 1_000_000_000


def _take_virtual_host(attributes: Attributes, host: str, identity: str, user: str) -> str:
    """Apache's vhost_combined has `NAME:PORT ` in front, which moves what follows by one word; the user."""
    name, _, port = host.rpartition(":")
    if not name or not port.isdecimal() or len(port) > _LONGEST_PORT or ("." not in identity and ":" not in identity):
        return user
    attributes["server.address"] = name
    attributes["server.port"] = int(port)
    attributes["client.address"] = identity
    return user.partition(" ")[2]


def _take_request(attributes: Attributes, request: str, *, escaped: bool = True) -> None:
    """A request of HTTP in one (method), two (HTTP/0.9) or three words; a target may hold blanks where it is not escaped.

    What is none, such as a TLS handshake on a port without TLS, is `http.request.line`, as it is written.
    """
    method, _, rest = request.partition(" ")
    if method not in _METHODS:
        if method in ("", "-"):
            return
        if not _TOKEN.fullmatch(method) or (not rest and not method.isupper()):
            attributes["http.request.line"] = request
            return
        attributes["http.request.method_original"] = method
        method = "_OTHER"
    attributes["http.request.method"] = method
    target, blank, protocol = rest.rpartition(" ")
    if not blank:
        target, protocol = rest, ""
    if protocol.startswith("HTTP/"):
        attributes["network.protocol.version"] = _VERSIONS.get(protocol, protocol[5:])
    elif protocol:
        target = rest
    if target:
        _take_target(attributes, _unescape(target) if escaped else target)


def _take_target(attributes: Attributes, target: str) -> None:
    """Path and query; of an absolute target (to a proxy) also the whole."""
    if target[0] != "/" and "://" in target[:16]:
        attributes["url.full"] = target
        rest = target.partition("://")[2]
        target = rest[len(re.split("[/?]", rest, maxsplit=1)[0]) :]
    path, _, query = target.partition("?")
    if path:
        attributes["url.path"] = path
    if query:
        attributes["url.query"] = query


def _take_status(attributes: Attributes, status: str) -> int:
    """The severity."""
    if status == "-":
        return INFO
    code = int(status)
    attributes["http.response.status_code"] = code
    return INFO if code < 400 else WARN if code < 500 else ERROR


def _take_more(attributes: Attributes, text: str) -> None:
    """Further fields in their order, without their quotes; one that holds addresses is X-Forwarded-For, as nginx writes it."""
    fields: list[Value] = []
    for found in islice(_MORE.finditer(text), _MOST_FIELDS):
        quoted, word = found.groups()
        if (
            quoted is not None
            and "http.request.header.x-forwarded-for" not in attributes
            and _ADDRESSES.fullmatch(quoted)
        ):
            attributes["http.request.header.x-forwarded-for"] = [quoted]
        else:
            fields.append(_unescape(quoted) if quoted is not None else word)
    if fields and fields != ["-"]:
        attributes["http.access_log.fields"] = fields


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_unescape_one, text.encode("utf-8", "replace")).decode("utf-8", "replace")


def _unescape_one(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if code[0] == 0x78 and len(code) > 1:
        return bytes((int(code[1:], 16),))
    return _ESCAPED.get(code, code)
