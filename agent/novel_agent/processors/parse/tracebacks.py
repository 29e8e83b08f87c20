"""Which lines belong to a traceback of Python, Java, Go or Node.

A grammar is told a record's first line by `begin` and asked by `continues` for each line after it; it keeps where in the
traceback it is. Blank lines are not shown to it: they belong to a record if the next line does.

What all have in common: an ordinary line is a record of its own; a traceback that directly follows one belongs to it, as
logging writes it (a panic of Go and an uncaught error of Java or Node excepted, which are events of their own). Where that
first line begins as lines of a log do, with a time, a level, an address or a bracket, the text of an error may have more lines:
those that do not begin so. Else only what can be nothing but a traceback belongs to it.

Every expression takes time that grows with the line alone.
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

_LOG_LINE = re.compile(
    rb"\d{4}[-/]\d\d|\d\d?[:/.]\d\d[:/. ]|\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b|\d{9,}|[\[{<]"
    rb"|(?i:mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6},? ++\d"
    rb"|(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL|SEVERE)\b"
    rb"|(?:time|ts|level|lvl|timestamp)=|[IWEF]\d{4} "
)
"""How lines of a log begin: a time, an address, a bracket, a level, a key of logfmt, klog's header."""

_State = Callable[[bytes, bool], str]
"""From a line, and whether blank ones stand before it, to the next state's name; empty if the record has ended before."""


class Grammar(Protocol):
    """One language."""

    def begin(self, line: bytes) -> None:
        """This is the first line of a record."""

    def continues(self, line: bytes, *, after_blank: bool) -> bool:
        """Whether the line belongs to the record; if so, the next one is judged as following it."""


class _States:
    """A grammar made of states."""

    def __init__(self, first: Callable[[bytes], str], states: Mapping[str, _State]) -> None:
        self._first = first
        self._states = states
        self._state = "plain"
        self.logged = False

    def begin(self, line: bytes) -> None:
        """This is the first line of a record."""
        self.logged = _LOG_LINE.match(line) is not None
        self._state = "plain" if self.logged else self._first(line)

    def continues(self, line: bytes, *, after_blank: bool) -> bool:
        """Whether the line belongs to the record; if so, the next one is judged as following it."""
        following = self._states[self._state](line, after_blank)
        if following:
            self._state = following
        return following != ""

    def enter(self, state: str) -> None:
        """Go on from this state."""
        self._state = state

    def text(self, line: bytes) -> bool:
        """Whether it may be a further line of an error's text."""
        return self.logged and _LOG_LINE.match(line) is None


_PYTHON_TRACEBACK = re.compile(rb"Traceback \(most recent call last\):")
_PYTHON_GROUP = re.compile(rb" ++\+ Exception Group Traceback \(most recent call last\):")
_PYTHON_FILE = re.compile(rb' ++File "')
_PYTHON_CHAIN = re.compile(
    rb"During handling of the above exception, another exception occurred:"
    rb"|The above exception was the direct cause of the following exception:"
)
_PYTHON_REMOTE = re.compile(rb"[\w.]++(?<=RemoteTraceback):\s*+$")
_ASYNCIO_CONTEXT = re.compile(
    rb"(?:future|task|handle|transport|protocol|socket|asyncgen): <"
    rb"|(?:source_traceback|handle_traceback): Object created at \(most recent call last\):"
)


class Python(_States):
    """Tracebacks of CPython: chained, of exception groups, of syntax errors, of other processes, with asyncio's context."""

    def __init__(self) -> None:
        super().__init__(
            self._opening,
            {
                "plain": self._plain,
                "context": self._context,
                "frames": self._frames,
                "group": self._group,
                "message": self._message,
                "chain": self._chain,
                "quoted": self._quoted,
            },
        )

    @staticmethod
    def _opening(line: bytes) -> str:
        """The state after a line that a traceback may begin with, or `plain`."""
        if line[:1] == b"T" and _PYTHON_TRACEBACK.match(line):
            return "frames"
        if line[:1] == b" ":
            if _PYTHON_GROUP.match(line):
                return "group"
            if _PYTHON_FILE.match(line):
                return "frames"
        return "plain"

    def _plain(self, line: bytes, after_blank: bool) -> str:
        if after_blank:
            return ""
        opening = self._opening(line)
        if opening != "plain":
            return opening
        if _PYTHON_REMOTE.match(line):
            return "message"
        return "context" if _ASYNCIO_CONTEXT.match(line) else ""

    def _context(self, line: bytes, after_blank: bool) -> str:
        return "context" if line[:1] == b" " else self._plain(line, after_blank)

    def _frames(self, line: bytes, after_blank: bool) -> str:
        if line[:1] in (b" ", b"\t"):
            return "frames"
        return "" if after_blank or _LOG_LINE.match(line) else "message"

    def _group(self, line: bytes, after_blank: bool) -> str:
        if line[:1] == b" ":
            return "group"
        return "chain" if _PYTHON_CHAIN.match(line) else ""

    def _message(self, line: bytes, after_blank: bool) -> str:
        if line[:1] in (b" ", b"\t"):
            return "message"
        if _PYTHON_CHAIN.match(line):
            return "chain"
        if line == b'"""':
            return "quoted"
        return "message" if not _PYTHON_TRACEBACK.match(line) and self.text(line) else ""

    def _chain(self, line: bytes, after_blank: bool) -> str:
        opening = self._opening(line)
        return "" if opening == "plain" else opening

    @staticmethod
    def _quoted(line: bytes, after_blank: bool) -> str:
        return "message" if line == b'"""' else "quoted"


_JAVA_FRAME = re.compile(rb"\s++(?:at \S|\.\.\. \d++ (?:more|common frames omitted))")
_JAVA_CAUSE = re.compile(rb"\s*+(?:Caused by|Suppressed|Wrapped by): |\s*+\[CIRCULAR REFERENCE")
_JAVA_ERROR = re.compile(
    rb"[A-Za-z_$][\w$]*+\.[\w$.]*+(?:(?<=Exception)|(?<=Error)|(?<=Failure)|(?<=Throwable))(?::|\s*+$)"
)
_JAVA_UNCAUGHT = re.compile(rb'Exception in thread "')


class Java(_States):
    """What Throwable.printStackTrace and the layouts of Logback and Log4j print."""

    def __init__(self) -> None:
        super().__init__(
            self._opening,
            {"plain": self._plain, "message": self._message, "frames": self._frames},
        )

    @staticmethod
    def _opening(line: bytes) -> str:
        return "message" if _JAVA_ERROR.match(line) or _JAVA_UNCAUGHT.match(line) else "plain"

    def _plain(self, line: bytes, after_blank: bool) -> str:
        if _JAVA_FRAME.match(line):
            return "frames"
        return "message" if not after_blank and (_JAVA_ERROR.match(line) or _JAVA_CAUSE.match(line)) else ""

    def _message(self, line: bytes, after_blank: bool) -> str:
        if _JAVA_FRAME.match(line):
            return "frames"
        if line[:1] in (b" ", b"\t") or _JAVA_CAUSE.match(line):
            return "message"
        return "message" if not _JAVA_ERROR.match(line) and self.text(line) else ""

    @staticmethod
    def _frames(line: bytes, after_blank: bool) -> str:
        if _JAVA_CAUSE.match(line):
            return "message"
        return "frames" if line[:1] in (b" ", b"\t") else ""


_GO_PANIC = re.compile(
    rb"panic: |fatal error: |unexpected fault address |SIG[A-Z]{2,6}: |runtime: goroutine stack exceeds "
)
_GO_GOROUTINE = re.compile(rb"goroutine \d++ (?:gp=\S++ m=\S++ (?:mp=\S++ )?)?\[[^\]]*+\]:|runtime stack:")
_GO_BEFORE_STACK = re.compile(
    rb"\[signal |\[originating from |fatal error: |PC=|runtime: |goroutine running on |\[recovered"
)
_GO_STACK = re.compile(
    rb"created by \S|\.\.\.(?:additional|\d++) frames elided|exit status \d++$|-----$|\[originating from "
    rb"|[a-z][a-z0-9]{1,5}\s++0x[0-9a-f]++$|PC=|sigcode="
)
_GO_CALL = re.compile(rb"[^\s(]++\(.*\)$")


class Go(_States):
    """Panics, fatal errors and dumps of goroutines, as the runtime and debug.Stack write them."""

    def __init__(self) -> None:
        super().__init__(self._opening, {"plain": self._plain, "panic": self._panic, "stack": self._stack})

    @staticmethod
    def _opening(line: bytes) -> str:
        if _GO_PANIC.match(line):
            return "panic"
        return "stack" if _GO_GOROUTINE.match(line) else "plain"

    @staticmethod
    def _plain(line: bytes, after_blank: bool) -> str:
        return "stack" if not after_blank and _GO_GOROUTINE.match(line) else ""

    @staticmethod
    def _panic(line: bytes, after_blank: bool) -> str:
        if _GO_GOROUTINE.match(line):
            return "stack"
        if line[:1] in (b" ", b"\t") or _GO_BEFORE_STACK.match(line):
            return "panic"
        return "" if _GO_PANIC.match(line) or _LOG_LINE.match(line) else "panic"

    @staticmethod
    def _stack(line: bytes, after_blank: bool) -> str:
        if line[:1] == b"\t" or _GO_GOROUTINE.match(line) or _GO_STACK.match(line) or _GO_CALL.match(line):
            return "stack"
        return ""


_NODE_SOURCE = re.compile(rb"(?:file:///?|node:|/|[A-Za-z]:\\)[^\s:]*+:\d++$|[^\s:]++\.[cm]?[jt]sx?:\d++$")
_NODE_CARET = re.compile(rb"\s*+\^++\s*+$")
_NODE_FRAME = re.compile(rb"\s++at \S")
_NODE_ERROR = re.compile(
    rb"(?:Uncaught )?[A-Za-z_$][\w$.]*+(?:(?<=Error)|(?<=Exception)|(?<=Rejection))(?: \[\w++\])?+(?::|\s*+$)"
)
_NODE_INSPECTED = re.compile(rb"\[[A-Za-z_$][\w$.]*+(?<=Error)(?: \[\w++\])?+(?:: .*)?\] \{$")
_NODE_MORE = re.compile(rb"[}\])]|Caused by: |caused by: |From previous event:|Thrown at:|Node\.js v\d")


class Node(_States):
    """Stacks of V8, and how Node prints an uncaught error and an error with its properties and causes."""

    def __init__(self) -> None:
        super().__init__(
            self._opening,
            {
                "plain": self._plain,
                "source": self._source,
                "code": self._code,
                "caret": self._caret,
                "uncaught": self._uncaught,
                "message": self._message,
                "frames": self._frames,
            },
        )

    @staticmethod
    def _opening(line: bytes) -> str:
        if _NODE_SOURCE.match(line):
            return "source"
        return "message" if _NODE_ERROR.match(line) else "plain"

    def begin(self, line: bytes) -> None:
        """As of every grammar; an error without frames, printed with its properties, begins with a bracket."""
        super().begin(line)
        if line[:1] == b"[" and _NODE_INSPECTED.match(line):
            self.enter("frames")

    @staticmethod
    def _plain(line: bytes, after_blank: bool) -> str:
        if after_blank:
            return ""
        if _NODE_FRAME.match(line):
            return "frames"
        return "message" if _NODE_ERROR.match(line) else ""

    @staticmethod
    def _source(line: bytes, after_blank: bool) -> str:
        return "" if after_blank or _LOG_LINE.match(line) else "code"

    @staticmethod
    def _code(line: bytes, after_blank: bool) -> str:
        return "caret" if _NODE_CARET.match(line) else ""

    @staticmethod
    def _caret(line: bytes, after_blank: bool) -> str:
        return "" if _LOG_LINE.match(line) else "uncaught"

    @staticmethod
    def _uncaught(line: bytes, after_blank: bool) -> str:
        """Whatever is printed before the frames belongs to the error."""
        if _NODE_FRAME.match(line):
            return "frames"
        return "" if _LOG_LINE.match(line) else "uncaught"

    def _message(self, line: bytes, after_blank: bool) -> str:
        if _NODE_FRAME.match(line):
            return "frames"
        if line[:1] in (b" ", b"\t") or _NODE_MORE.match(line):
            return "message"
        return "message" if not _NODE_ERROR.match(line) and self.text(line) else ""

    @staticmethod
    def _frames(line: bytes, after_blank: bool) -> str:
        return "frames" if line[:1] in (b" ", b"\t") or _NODE_MORE.match(line) else ""


GRAMMARS: Mapping[Literal["python", "java", "go", "node"], Callable[[], Grammar]] = {
    "python": Python,
    "java": Java,
    "go": Go,
    "node": Node,
}
