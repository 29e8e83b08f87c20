"""What the agent's own tail reads of log files while the library writes and rotates them."""

import json
import subprocess
import sys

from tail_session import TailSession

from monitoring._log_files import LogFiles

WRITER = """
import sys
from monitoring.structured_logging import LoggingConfig, setup_structured_logging
logger = setup_structured_logging(LoggingConfig(
    log_directory=sys.argv[1], enable_console=False, max_file_size=100_000, backup_count=1000))
for part in sys.stdin:
    for n in range(100):
        logger.info("written", writer=int(sys.argv[2]), n=100 * int(part) + n)
    logger.flush()
    print("done", flush=True)
"""


def start(directory, number):
    command = [sys.executable, "-c", WRITER, directory, str(number)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def test_the_agents_tail_reads_every_line_once_while_files_are_rotated_and_compressed(tmp_path):
    """No part is so long that a file comes and is rotated away between two looks, which nobody can read."""
    tail = TailSession(tmp_path / "*.log")
    writers = [start(tmp_path, number) for number in range(3)]
    for part in range(20):
        for writer in writers:
            writer.stdin.write(f"{part}\n")
        for writer in writers:
            assert writer.stdout.readline() == "done\n"
        tail.poll(1.0)
    for writer in writers:
        writer.communicate()
    tail.wait(10)
    tail.close()
    read = sorted((line["attributes"]["writer"], line["attributes"]["n"]) for line in map(json.loads, tail.lines))
    assert read == [(writer, n) for writer in range(3) for n in range(2000)]
    assert any(path.suffix == ".gz" for path in tmp_path.iterdir())
    assert [writer.returncode for writer in writers] == [0, 0, 0]


def test_an_agent_that_was_away_during_rotations_reads_what_it_missed(tmp_path):
    files = LogFiles(str(tmp_path), max_bytes=4000, backups=10)
    lines = [f'{{"n":{n},"filler":"{"x" * 100}"}}\n'.encode() for n in range(200)]
    files.write("novel-engine.log", b"".join(lines[:20]))
    tail = TailSession(tmp_path / "*.log")
    tail.poll()
    for begin in range(20, 200, 20):
        files.write("novel-engine.log", b"".join(lines[begin : begin + 20]))
        files.wait_for_compression(10)
    tail.restart()
    tail.wait(10)
    tail.close()
    files.close()
    assert sorted(json.loads(line)["n"] for line in tail.lines) == list(range(200))
