import os

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs

from novel_agent.config.schema import LogSource, Multiline
from novel_agent.runtime.log_files import FileReader
from novel_agent.runtime.log_reading import Tally

NOW = 1_764_000_000.0


class Session:
    """A reader driven by hand, on a clock that is moved by hand."""

    def __init__(self, directory, **options):
        self.directory = directory
        self.steady = 1000.0
        self.saved = []
        self.tally = Tally()
        source = LogSource(name="app", paths=(f"{directory}/*.log",), **options)
        self.reader = FileReader(source, None, None, self.tally, self.saved.append, steady=lambda: self.steady)
        self.marks = []

    def turn(self, most_bytes=1 << 20):
        marks, self.marks = self.marks, []
        return self.reader.turn(marks, NOW, most_bytes)

    def parse(self, turn):
        bodies = []
        for piece in turn.pieces:
            bodies += self.taken(self.reader.parse(piece, NOW))
        return bodies

    def flush(self):
        return [body for parsed in self.reader.flush(NOW) for body in self.taken(parsed)]

    def taken(self, parsed):
        self.marks += parsed.marks
        scope = ScopeLogs()
        scope.ParseFromString(parsed.records)
        assert len(scope.log_records) == parsed.items
        return [record.body.string_value for record in scope.log_records]

    def append(self, text, name="a.log"):
        with open(self.directory / name, "a") as file:
            file.write(text)


@pytest.fixture
def session(tmp_path):
    made = []

    def make(**options):
        made.append(Session(tmp_path, **options))
        return made[-1]

    yield make
    for each in made:
        each.reader.close()


def test_a_record_is_not_torn_however_late_its_next_line_is_read(session):
    here = session(multiline=Multiline(start="[a-z]", timeout_seconds=1.0))
    here.append("one\n")
    assert here.parse(here.turn()) == []
    here.append("  more\n")
    here.steady += 10
    assert here.flush() == []
    assert here.parse(here.turn()) == []
    assert here.flush() == []
    here.steady += 10
    assert here.parse(here.turn()) == []
    assert here.flush() == ["one\n  more"]


def test_a_quiet_file_gives_up_what_it_holds_while_another_is_written(session):
    here = session(multiline=Multiline(start="[a-z]", timeout_seconds=1.0))
    here.append("one\n", "a.log")
    here.parse(here.turn())
    here.steady += 2
    here.append("two\n", "b.log")
    here.steady += 11
    here.parse(here.turn())
    assert here.flush() == ["one"]


def test_what_is_held_back_is_not_committed(session):
    here = session(multiline=Multiline(start="[a-z]", timeout_seconds=1.0))
    here.append("one\n  more\ntwo\n  more\n")
    assert here.parse(here.turn()) == ["one\n  more"]
    here.steady += 2
    here.turn()
    (file,) = here.reader.about(here.steady).files
    assert (file.read_offset, file.committed_offset, file.lag_bytes) == (22, 11, 11)


def test_blank_lines_within_a_record_stay_in_it(session):
    here = session(multiline=Multiline(start="[a-z]", timeout_seconds=1.0))
    here.append("one\n\n  more\ntwo\n")
    assert here.parse(here.turn()) == ["one\n\n  more"]


def test_a_line_that_is_cut_ends_the_record_before_it(session):
    here = session(multiline=Multiline(start="[a-z]", timeout_seconds=1.0), max_line_bytes=1024)
    here.append("one\n  more\n" + "x" * 3000 + "\ntwo\nthree\n")
    bodies = []
    for _ in range(4):
        bodies += here.parse(here.turn())
    assert bodies == ["one\n  more", "x" * 1024, "two"]
    assert here.tally.truncated == 1


def test_positions_are_given_at_most_once_a_second_and_at_the_end(session):
    here = session()
    here.append("one\n")
    here.parse(here.turn())
    here.reader.saved()
    assert len(here.saved) == 1  # what was found, so that the source counts as seen
    for _ in range(3):
        here.append("two\n")
        here.steady += 0.1
        here.parse(here.turn())
        here.reader.saved()
    assert len(here.saved) == 1
    here.steady += 1
    assert here.turn().wait_seconds > 0
    here.reader.saved()
    assert [position.offset for position in here.saved[-1].files] == [16]
    here.append("last\n")
    here.parse(here.turn())
    here.turn(0)
    here.reader.saved()
    assert [position.offset for position in here.saved[-1].files] == [21]


def test_a_record_in_a_file_that_is_rotated_waits_for_the_rest_of_the_file(session, tmp_path):
    here = session(multiline=Multiline(start="[a-z]", timeout_seconds=1.0))
    here.append("one\n")
    here.parse(here.turn())
    os.rename(tmp_path / "a.log", tmp_path / "a.log.1")
    here.steady += 2
    here.parse(here.turn())
    here.steady += 2
    here.parse(here.turn())
    assert here.flush() == []
    here.append("  more\n", "a.log.1")
    here.steady += 2
    assert here.parse(here.turn()) == []
    bodies = []
    for _ in range(8):
        here.steady += 2
        bodies += here.parse(here.turn()) + here.flush()
    assert bodies == ["one\n  more"]


def test_a_record_whose_file_was_truncated_waits_for_the_copy_to_be_found(session, tmp_path):
    here = session(multiline=Multiline(start="[a-z]", timeout_seconds=1.0))
    here.append("one\n" + "  line\n" * 200)
    here.parse(here.turn())
    content = (tmp_path / "a.log").read_text() + "  more\n"
    (tmp_path / "a.log").write_text("")
    here.steady += 12
    bodies = here.parse(here.turn()) + here.flush()
    (tmp_path / "a.log.1").write_text(content)
    for _ in range(8):
        here.steady += 2
        bodies += here.parse(here.turn()) + here.flush()
    assert bodies == [content.strip()]


def test_a_file_that_is_truncated_is_resumed_where_a_record_begins(session, tmp_path):
    here = session(multiline=Multiline(start="[a-z]", timeout_seconds=1.0))
    long = "  " + "x" * 500 + "\n"
    here.append("one\n" + long * 400 + "two\n" + long * 3)
    bodies = []
    for _ in range(6):
        bodies += here.parse(here.turn())
    assert [body[:3] for body in bodies] == ["one"]
    (tmp_path / "a.log").write_text("")
    here.steady += 2
    here.turn(0)
    here.reader.saved()
    (position,) = [each for each in here.saved[-1].files if each.head_bytes]
    assert position.offset == len("one\n" + long * 400)
    assert position.before
