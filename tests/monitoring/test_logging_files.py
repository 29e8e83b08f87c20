import gzip
import json
import logging
import os
import threading

import pytest

from monitoring import structured_logging
from monitoring._log_files import LogFiles, compress_backups
from monitoring._log_lines import LineMaker
from monitoring._log_writer import LogWriter
from monitoring.structured_logging import LoggingConfig, setup_structured_logging, shutdown_structured_logging


@pytest.fixture
def files(tmp_path):
    made = LogFiles(str(tmp_path / "logs"), max_bytes=10, backups=3)
    yield made
    made.wait_for_compression(10)
    made.close()


def contents(files):
    found = {}
    for name in sorted(os.listdir(files.directory)):
        if not name.startswith("."):
            with open(os.path.join(files.directory, name), "rb") as file:
                content = file.read()
            found[name] = gzip.decompress(content) if name.endswith(".gz") else content
    return found


def test_the_first_backup_stays_as_it_is_and_older_ones_are_compressed(files):
    for letter in (b"a", b"b", b"c", b"d", b"e"):
        files.write("x.log", letter * 10 + b"\n")
        files.wait_for_compression(10)
    files.write("x.log", b"f\n")
    assert contents(files) == {
        "x.log": b"f\n",
        "x.log.1": b"eeeeeeeeee\n",
        "x.log.2.gz": b"dddddddddd\n",
        "x.log.3.gz": b"cccccccccc\n",
    }


def test_a_rotated_file_keeps_its_inode(files):
    files.write("x.log", b"a\n")
    before = os.stat(os.path.join(files.directory, "x.log")).st_ino
    files.write("x.log", b"aaaaaaaaa\n")
    assert os.stat(os.path.join(files.directory, "x.log.1")).st_ino == before


def test_a_compressed_backup_has_the_time_of_the_original(files):
    files.write("x.log", b"a" * 10 + b"\n")
    os.utime(os.path.join(files.directory, "x.log.1"), (1_000_000, 1_000_000))
    files.write("x.log", b"b" * 10 + b"\n")
    files.wait_for_compression(10)
    assert os.stat(os.path.join(files.directory, "x.log.2.gz")).st_mtime == 1_000_000


def test_what_a_killed_compression_left_is_taken_away_and_done_again(files):
    for letter in (b"a", b"b"):
        files.write("x.log", letter * 10 + b"\n")
        files.wait_for_compression(10)
    unfinished = os.path.join(files.directory, ".novel-engine.1-2.gz.tmp")
    with open(unfinished, "wb") as file:
        file.write(b"\x1f\x8b half")
    with open(os.path.join(files.directory, "x.log.3"), "wb") as file:
        file.write(b"older\n")
    compress_backups(files.directory)
    assert not os.path.exists(unfinished)
    assert contents(files)["x.log.3.gz"] == b"older\n"
    assert "x.log.3" not in contents(files)


def test_a_file_that_somebody_else_renames_is_begun_anew(files):
    files.write("x.log", b"a\n")
    os.rename(os.path.join(files.directory, "x.log"), os.path.join(files.directory, "x.log-20261128"))
    files.write("x.log", b"b\n")
    assert contents(files) == {"x.log": b"b\n", "x.log-20261128": b"a\n"}


def test_a_directory_that_is_removed_is_made_again(files):
    files.write("x.log", b"a\n")
    for name in os.listdir(files.directory):
        os.unlink(os.path.join(files.directory, name))
    os.rmdir(files.directory)
    files.write("x.log", b"b\n")
    assert contents(files) == {"x.log": b"b\n"}


def test_half_a_line_of_a_killed_writer_is_taken_away(files):
    files.write("x.log", b"a\n")
    with open(os.path.join(files.directory, "x.log"), "ab") as file:
        file.write(b'{"half')
    files.write("x.log", b"b\n")
    assert contents(files) == {"x.log": b"a\nb\n"}


def test_log_files_are_not_for_everybody(files):
    files.write("x.log", b"a\n")
    assert os.stat(os.path.join(files.directory, "x.log")).st_mode & 0o007 == 0


def test_without_backups_a_full_file_is_begun_anew(tmp_path):
    files = LogFiles(str(tmp_path), max_bytes=2, backups=0)
    files.write("x.log", b"aa\n")
    files.write("x.log", b"b")
    files.close()
    assert contents(files) == {"x.log": b"b"}


def test_files_that_cannot_be_written_are_said_once_and_counted(tmp_path, capsys):
    blocked = tmp_path / "logs"
    blocked.write_text("a file, not a directory")
    logger = setup_structured_logging(LoggingConfig(log_directory=blocked, enable_console=False))
    for number in range(3):
        logger.info("x", n=number)
        logger.flush()
    blocked.unlink()
    logger.info("y")
    shutdown_structured_logging()
    said = capsys.readouterr().err
    assert said.count("lines are lost") == 1
    assert "log files are written again; lost so far: 3" in said
    assert (blocked / "novel-engine.log").read_text().count("\n") == 1


class Keeping:
    """A sink that may be held up."""

    def __init__(self):
        self.lines = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def write(self, batch):
        self.entered.set()
        assert self.open.wait(10)
        self.lines += [json.loads(line) for _, line in batch]

    def flush(self, timeout_seconds):
        pass

    def reset_in_child(self):
        pass

    def close(self):
        pass


def record(text):
    return logging.LogRecord("x", logging.INFO, "", 0, text, (), None)


def test_what_does_not_fit_is_counted_and_reported_and_nobody_waits():
    sink, lines = Keeping(), LineMaker()
    writer = LogWriter(lines, [sink], bytes, most_lines=10, most_bytes=1 << 20)
    sink.open.clear()
    writer.put(lines.entry(record("first")))
    assert sink.entered.wait(10)
    for number in range(25):
        writer.put(lines.entry(record(f"n{number}")))
    sink.open.set()
    assert writer.flush(10)
    writer.close()
    assert writer.dropped_lines == 15
    assert [line["message"] for line in sink.lines] == [
        "first",
        *(f"n{number}" for number in range(10)),
        "log lines dropped",
    ]
    report = sink.lines[-1]
    assert (report["level"], report["category"]) == ("warning", "infrastructure")
    assert report["attributes"] == {"dropped": 15, "by_category": {"application": 15}, "reason": "queue full"}


def test_the_queue_is_bounded_by_bytes_too():
    sink, lines = Keeping(), LineMaker()
    writer = LogWriter(lines, [sink], bytes, most_lines=1000, most_bytes=50_000)
    sink.open.clear()
    writer.put(lines.entry(record("first")))
    assert sink.entered.wait(10)
    for _ in range(10):
        writer.put(lines.entry(record("x" * 10_000)))
    sink.open.set()
    writer.close()
    assert writer.dropped_lines == 6


def test_setting_up_again_the_same_way_changes_nothing_and_otherwise_moves_the_lines(tmp_path):
    config = LoggingConfig(log_directory=tmp_path / "a", enable_console=False)
    first = setup_structured_logging(config)
    assert setup_structured_logging() is first
    assert setup_structured_logging(LoggingConfig(log_directory=tmp_path / "a", enable_console=False)) is first
    assert len(structured_logging._state.attached) == 1
    first.info("a")
    setup_structured_logging(LoggingConfig(log_directory=tmp_path / "b", enable_console=False))
    first.info("b")
    shutdown_structured_logging()
    for name in ("a", "b"):
        (line,) = (tmp_path / name / "novel-engine.log").read_text().splitlines()
        assert json.loads(line)["message"] == name


def test_the_environment_says_what_the_configuration_does_not(monkeypatch, tmp_path):
    monkeypatch.setenv("LOG_LEVEL", "debug")
    monkeypatch.setenv("LOG_DIRECTORY", str(tmp_path / "from environment"))
    monkeypatch.setenv("REMOTE_LOG_ENDPOINT", "http://127.0.0.1:1/loki/api/v1/push")
    config = LoggingConfig()
    assert (config.log_level, config.log_directory) == ("debug", str(tmp_path / "from environment"))
    assert config.enable_remote_logging
    assert config.remote_endpoint == "http://127.0.0.1:1/loki/api/v1/push"


def test_what_the_server_says_of_itself_is_written_too(tmp_path):
    uvicorn = logging.getLogger("uvicorn")
    uvicorn.propagate = False
    try:
        setup_structured_logging(LoggingConfig(log_directory=tmp_path, enable_console=False))
        logging.getLogger("uvicorn.error").error("Exception in ASGI application")
        shutdown_structured_logging()
        assert uvicorn.handlers == []
    finally:
        uvicorn.propagate = True
    (line,) = (tmp_path / "novel-engine.log").read_text().splitlines()
    assert json.loads(line)["component"] == "uvicorn.error"


def test_an_idle_application_is_not_woken(tmp_path):
    logger = setup_structured_logging(LoggingConfig(log_directory=tmp_path, enable_console=False))
    logger.info("x")
    logger.flush()
    (thread,) = (each for each in threading.enumerate() if each.name == "monitoring-log-writer")
    woken = f"/proc/self/task/{thread.native_id}/status"

    def switches():
        with open(woken) as file:
            return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches"))

    def rests():
        before = switches()
        threading.Event().wait(0.2)
        return switches() == before

    assert any(rests() for _ in range(20))
    shutdown_structured_logging()
