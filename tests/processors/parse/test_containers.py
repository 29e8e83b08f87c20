"""Lines of container runtimes, whole and in parts."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novel_agent.config.schema import LogKeys, Multiline
from novel_agent.model.log import LogRecord
from novel_agent.processors.parse.containers import ContainerJoiner
from novel_agent.processors.parse.cri import CriParser, CriWrapping
from novel_agent.processors.parse.docker import DockerParser, DockerWrapping
from novel_agent.processors.parse.fields import FieldReader
from novel_agent.processors.parse.logfmt import LogfmtParser
from novel_agent.processors.parse.multiline import Joined
from novel_agent.processors.parse.record import LineError
from novel_agent.processors.parse.text import TextParser

READ = 1_475_713_029_669_794_202


def read_time(text: str) -> int:
    """One time is known here."""
    if text == "2016-10-06T00:17:09.669794202Z":
        return READ
    raise ValueError(text)


CRI_TIME = b"2016-10-06T00:17:09.669794202Z"


def cri(text: bytes, tags: bytes = b"F", stream: bytes = b"stdout") -> bytes:
    """A line of containerd."""
    return b" ".join((CRI_TIME, stream, tags, text))


def docker(text: str, stream: str = "stdout") -> bytes:
    """A line of Docker."""
    return json.dumps({"log": text, "stream": stream, "time": CRI_TIME.decode()}, separators=(",", ":")).encode()


def placed(lines: list[bytes]) -> list[tuple[bytes, int, int]]:
    """Lines with their offsets, as in a file with newlines."""
    place = 0
    result = []
    for line in lines:
        result.append((line, place, place + len(line) + 1))
        place += len(line) + 1
    return result


def joined(joiner: ContainerJoiner, lines: list[bytes]) -> list[bytes]:
    """What becomes of lines with nothing behind them."""
    return [each.text for each in joiner.feed(placed(lines), 0.0) + joiner.flush(0.0, force=True)]


@pytest.mark.parametrize(
    ("line", "body", "stream"),
    [
        (cri(b"log content 1"), "log content 1", "stdout"),
        (cri(b"log content 2", stream=b"stderr"), "log content 2", "stderr"),
        (cri(b" indented  "), " indented  ", "stdout"),
        (cri(b""), "", "stdout"),
        (CRI_TIME + b" stdout F", "", "stdout"),
        (cri(b"caf\xc3\xa9 \xff", b"P:x"), "café �", "stdout"),
        (cri(b"a\nb"), "a\nb", "stdout"),
    ],
)
def test_a_line_of_containerd(line: bytes, body: str, stream: str) -> None:
    record = CriParser(read_time, TextParser()).parse(line)
    assert record == LogRecord(time_unix_nano=READ, body=body, attributes={"log.iostream": stream})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not a line of a container runtime"),
        (b"2016-10-06T00:17:09.669794202Z stdin F x", "not a line of a container runtime"),
        (b"text stdout F x", "not a line of a container runtime"),
        (b"2016-10-06T00:17:09.6697942zzz stdout F x", "no valid time"),
    ],
)
def test_what_is_no_line_of_containerd(line: bytes, reason: str) -> None:
    with pytest.raises(LineError) as error:
        CriParser(read_time, TextParser()).parse(line)
    assert error.value.reason == reason


def test_a_line_of_docker() -> None:
    line = (
        b'{"log":"hello \\u001b[0m\\"you\\"\\r\\n","stream":"stderr","attrs":{"tag":"web/abc","log.iostream":"x"},'
        b'"time":"2016-10-06T00:17:09.669794202Z","more":1}'
    )
    assert DockerParser(read_time, TextParser()).parse(line) == LogRecord(
        time_unix_nano=READ, body='hello \x1b[0m"you"', attributes={"tag": "web/abc", "log.iostream": "stderr"}
    )


def test_a_line_of_docker_that_is_not_utf_8() -> None:
    assert DockerParser(read_time, TextParser()).parse(b'{"log":"a\xffb\\n"}').body == "a�b"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not a line of Docker's json-file driver"),
        (b"{}", "not a line of Docker's json-file driver"),
        (b'{"log":1}', "not a line of Docker's json-file driver"),
        (b'{"log":"\\ud800"}', "not a line of Docker's json-file driver"),
        (b'{"log":"x\\n","stream":"stdout","time":"2016"}', "no valid time"),
    ],
)
def test_what_is_no_line_of_docker(line: bytes, reason: str) -> None:
    with pytest.raises(LineError) as error:
        DockerParser(read_time, TextParser()).parse(line)
    assert error.value.reason == reason


def test_another_parser_may_read_what_the_container_wrote() -> None:
    reader = FieldReader(LogKeys(), read_time, lambda text: {"warn": 13}.get(text, 0))
    record = CriParser(read_time, LogfmtParser(reader)).parse(cri(b"level=warn msg=low left=3"))
    assert record == LogRecord(
        time_unix_nano=READ,
        severity_number=13,
        severity_text="warn",
        body="low",
        attributes={"left": "3", "log.iostream": "stdout"},
    )


def test_what_that_parser_refuses_keeps_time_and_stream() -> None:
    reader = FieldReader(LogKeys(), read_time, lambda _: 0)
    record = CriParser(read_time, LogfmtParser(reader)).parse(cri(b"Starting"))
    assert record == LogRecord(
        time_unix_nano=READ, body="Starting", attributes={"log.parse_error": "not logfmt", "log.iostream": "stdout"}
    )


def test_parts_of_a_line_are_joined_until_the_last() -> None:
    lines = [cri(b"first ", b"P"), cri(b"second ", b"P"), cri(b"third"), cri(b"next")]
    joiner = ContainerJoiner(CriWrapping(), 1000, None)
    assert joiner.feed(placed(lines[:2]), 0.0) == []
    assert joiner.held_from == 0
    done = joiner.feed(placed(lines)[2:], 0.0)
    assert done == [
        Joined(cri(b"first second third"), 0, 141),
        Joined(cri(b"next"), 141, 186),
    ]
    assert joiner.held_from is None


def test_the_two_streams_are_joined_each_by_itself() -> None:
    lines = [
        cri(b"out 1 ", b"P"),
        cri(b"err 1 ", b"P", b"stderr"),
        cri(b"out 2"),
        cri(b"err 2", b"F", b"stderr"),
    ]
    assert joined(ContainerJoiner(CriWrapping(), 1000, None), lines) == [
        cri(b"out 1 out 2"),
        cri(b"err 1 err 2", b"F", b"stderr"),
    ]


def test_docker_parts_have_no_newline() -> None:
    lines = [docker("first "), docker("err\n", "stderr"), docker("second\n"), docker("\n"), docker("next\n")]
    assert joined(ContainerJoiner(DockerWrapping(), 1000, None), lines) == [
        docker("err\n", "stderr"),
        docker("first second\n"),
        docker("next\n"),
    ]


def test_what_a_first_docker_line_has_beside_its_text_stays() -> None:
    first = b'{"log":"a","stream":"stdout","time":"t","attrs":{"tag":"x"}}'
    assert joined(ContainerJoiner(DockerWrapping(), 1000, None), [first, docker("b\n")]) == [
        b'{"log":"ab\\n","stream":"stdout","time":"t","attrs":{"tag":"x"}}'
    ]


def test_a_line_that_is_not_wrapped_passes_as_it_is() -> None:
    joiner = ContainerJoiner(CriWrapping(), 1000, None)
    assert joined(joiner, [cri(b"a ", b"P"), b"garbage", cri(b"b")]) == [b"garbage", cri(b"a b")]


def test_a_line_beyond_the_limit_is_handed_on_marked_and_goes_on_in_a_next_one() -> None:
    joiner = ContainerJoiner(CriWrapping(), 10, None)
    done = joiner.feed(placed([cri(b"12345", b"P"), cri(b"67890", b"P"), cri(b"abc", b"P"), cri(b"def")]), 0.0)
    assert done == [
        Joined(cri(b"1234567890"), 0, 92, truncated=True),
        Joined(cri(b"abcdef"), 92, 180),
    ]


def test_a_part_that_nothing_follows_is_handed_on_after_five_seconds() -> None:
    joiner = ContainerJoiner(CriWrapping(), 1000, None)
    joiner.feed(placed([cri(b"half", b"P")]), 100.0)
    assert joiner.deadline == 105.0
    assert not joiner.due(104.9)
    assert joiner.flush(104.9) == []
    assert joiner.due(105.0)
    assert [each.text for each in joiner.flush(105.0)] == [cri(b"half")]
    assert joiner.deadline is None


TRACEBACK = [
    b"ERROR failed",
    b"Traceback (most recent call last):",
    b'  File "x.py", line 1, in f',
    b"    g()",
    b"ValueError: x",
]


def test_tracebacks_are_joined_within_their_stream() -> None:
    lines = [cri(b"INFO before", stream=b"stderr")]
    for each in TRACEBACK:
        lines += [cri(each, stream=b"stderr"), cri(b"INFO between", stream=b"stdout")]
    lines += [cri(b"INFO after", stream=b"stderr")]
    result = joined(ContainerJoiner(CriWrapping(), 1000, Multiline(preset="python")), lines)
    assert [each for each in result if b"stderr" in each] == [
        cri(b"INFO before", stream=b"stderr"),
        cri(b"\n".join(TRACEBACK), stream=b"stderr"),
        cri(b"INFO after", stream=b"stderr"),
    ]
    assert result.count(cri(b"INFO between")) == 5


def test_what_is_held_begins_at_the_oldest_of_both_streams() -> None:
    joiner = ContainerJoiner(CriWrapping(), 1000, Multiline(preset="python", timeout_seconds=2.0))
    lines = placed([cri(b"ERROR failed", stream=b"stderr"), cri(b"a"), cri(b"b")])
    joiner.feed(lines, 10.0)
    assert joiner.held_from == 0
    assert joiner.deadline == 12.0
    assert [each.text for each in joiner.flush(12.0)] == [cri(b"b"), cri(b"ERROR failed", stream=b"stderr")]
    assert joiner.held_from is None


@settings(max_examples=300, deadline=None)
@given(line=st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(cri), st.text(max_size=100).map(docker)))
def test_any_bytes_are_a_record_or_a_line_error(line: bytes) -> None:
    for parser in (CriParser(read_time, TextParser()), DockerParser(read_time, TextParser())):
        try:
            record = parser.parse(line)
        except LineError:
            continue
        assert len(str(record.body)) <= len(line)


_WRITTEN = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr"]), st.text('ab \\"é', min_size=1, max_size=12)), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(written=_WRITTEN, cut=st.integers(1, 5))
def test_whatever_is_cut_into_parts_is_put_together_again(written: list[tuple[str, str]], cut: int) -> None:
    """Of both formats; blank lines are dropped."""
    in_cri: list[bytes] = []
    in_docker: list[bytes] = []
    for stream, text in written:
        parts = [text[place : place + cut] for place in range(0, len(text), cut)]
        in_cri += [cri(part.encode(), b"P", stream.encode()) for part in parts[:-1]]
        in_cri.append(cri(parts[-1].encode(), b"F", stream.encode()))
        in_docker += [docker(part, stream) for part in parts[:-1]] + [docker(parts[-1] + "\n", stream)]
    expected = [(stream, text) for stream, text in written if text.strip()]
    for joiner, parser, lines in (
        (ContainerJoiner(CriWrapping(), 1000, None), CriParser(read_time, TextParser()), in_cri),
        (ContainerJoiner(DockerWrapping(), 1000, None), DockerParser(read_time, TextParser()), in_docker),
    ):
        records = [parser.parse(line) for line in joined(joiner, lines)]
        assert [(each.attributes["log.iostream"], each.body) for each in records] == expected
