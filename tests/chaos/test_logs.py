"""Log files that are rotated in every way, readers that are killed, a destination that fails: each record arrives, whole.

`NOVEL_AGENT_LOG_CHAOS_SECONDS` is how long is written; `NOVEL_AGENT_LOG_CHAOS_SEED` repeats what was drawn.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from failing_log_sink import FailingLogSink
from log_judge import UNNOTED_SECONDS, Life, LogJudge, Verdict
from log_writers import Kind, LogWriter

from rivals import find

pytestmark = pytest.mark.chaos

SECONDS = float(os.environ.get("NOVEL_AGENT_LOG_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("NOVEL_AGENT_LOG_CHAOS_SEED", "20261128"))
RECORDS_PER_SECOND = float(os.environ.get("NOVEL_AGENT_LOG_CHAOS_RATE", "2000"))
KINDS: tuple[Kind, ...] = ("text", "text", "json", "multiline")
TIMEOUT_SECONDS = 3
QUIET_SECONDS = 30
SETTLED_SECONDS = 3
STARTED_SECONDS = 15
KILLED_EARLY_SHARE = 0.15
LONG_SHARE = 0.25
DISK_MIB = 96
FULL_SECONDS = 8.0


class Run(NamedTuple):
    """What happened."""

    verdict: Verdict
    lives: Sequence[Life]
    ended_by_themselves: int
    last_code: int
    said: str


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system that can be filled."""
    if os.geteuid() != 0:
        pytest.skip("a disk can be filled only where one may be mounted: needs root")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a disk cannot be mounted: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def ours(directory: Path, state: Path, sink_url: str, rotated_too: Sequence[str]) -> list[str]:
    """The command of the agent, following the files of all kinds; of some its patterns match rotated files, too."""
    export = {
        "name": "central",
        "endpoint": sink_url,
        "signals": ["logs"],
        "timeout": f"{TIMEOUT_SECONDS}s",
        "spool": {"size": "32MiB", "when_full": "block"},
    }
    kinds = {
        "text": {},
        "json": {"format": "json"},
        "multiline": {"multiline": {"start": "w\\d+:", "timeout": "5s"}},
    }
    sources = [
        {"name": kind, "paths": [f"{directory}/logs/{kind}*.log{'*' * (kind in rotated_too)}"], **settings}
        for kind, settings in kinds.items()
    ]
    config = directory / "agent.json"
    config.write_text(json.dumps({"host": {"interval": "1h"}, "logs": sources, "export": [export]}))
    command = [sys.executable, "-m", "novel_agent", "run", "--config", str(config), "--listen", "127.0.0.1:0"]
    return [*command, "--state-dir", str(state)]


COLLECTOR = """
extensions:
  file_storage: {directory: STATE, fsync: true}
receivers:
  filelog/text: {include: [LOGS/text*.log*], start_at: beginning, storage: file_storage, compression: auto}
  filelog/json:
    include: [LOGS/json*.log*]
    start_at: beginning
    storage: file_storage
    compression: auto
    operators: [{type: json_parser}, {type: move, from: attributes.message, to: body}]
  filelog/multiline:
    include: [LOGS/multiline*.log*]
    start_at: beginning
    storage: file_storage
    compression: auto
    force_flush_period: 5s
    multiline: {line_start_pattern: '^w[0-9]+:'}
exporters:
  otlp_http:
    endpoint: SINK
    timeout: TIMEOUTs
    retry_on_failure: {initial_interval: 200ms, max_interval: 2s, max_elapsed_time: 0}
    sending_queue: {storage: file_storage, block_on_overflow: true}
service:
  extensions: [file_storage]
  telemetry: {metrics: {level: none}, logs: {level: error}}
  pipelines: {logs: {receivers: [filelog/text, filelog/json, filelog/multiline], exporters: [otlp_http]}}
"""


def collector(directory: Path, state: Path, sink_url: str) -> list[str]:
    """The command of the OpenTelemetry Collector, with its storage for positions and queue, rotated files included."""
    state.mkdir(exist_ok=True)
    config = directory / "collector.yaml"
    text = COLLECTOR.replace("STATE", str(state)).replace("LOGS", f"{directory}/logs").replace("SINK", sink_url)
    config.write_text(text.replace("TIMEOUT", str(TIMEOUT_SECONDS)))
    return [find("otelcol"), f"--config={config}"]


@contextmanager
def full_for_a_while(disk: Path | None) -> Iterator[list[tuple[float, float]]]:
    """Fills the disk after a third of the time, and makes room again; gives when it was full."""
    when: list[tuple[float, float]] = []
    if disk is None:
        yield when
        return
    stopping = threading.Event()

    def fill() -> None:
        ballast = disk / "ballast"
        if stopping.wait(SECONDS / 3):
            return
        since = time.monotonic()
        until = since + FULL_SECONDS
        when.append((since, until))
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while not stopping.is_set() and time.monotonic() < until:
                with suppress(OSError):
                    file.write(bytes(4096))
                    continue
                stopping.wait(0.01)
        ballast.unlink(missing_ok=True)
        when[:] = [(since, time.monotonic())]

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield when
    finally:
        stopping.set()
        thread.join()


def noted_in(state: Path) -> dict[str, int]:
    """Up to where each content of a file is noted as read, by its uid; the lowest where several files are that content."""
    noted: dict[str, int] = {}
    with suppress(FileNotFoundError):
        document = json.loads((state / "positions.json").read_text())
        for source in document["sources"].values():
            for file in source["files"]:
                uid, offset = file.get("uid", ""), file.get("offset", 0)
                noted[uid] = min(noted.get(uid, offset), offset)
    return noted


def first_request_at(sink: FailingLogSink) -> float:
    """When the next request came, or that none has for long."""
    before, deadline = sink.requests, time.monotonic() + STARTED_SECONDS
    while sink.requests == before and time.monotonic() < deadline:
        time.sleep(0.02)
    return time.monotonic()


def live(began: float, seconds: float, writers: Sequence[LogWriter], full: Sequence[tuple[float, float]]) -> None:
    """Let a reader that began then live for a while, and the writers know which of their files it must have noted."""
    ends_at = time.monotonic() + seconds
    while (now := time.monotonic()) < ends_at:
        noted = now - UNNOTED_SECONDS
        if noted > began and not any(since < now and noted < until for since, until in full):
            for writer in writers:
                writer.known_at = noted
        time.sleep(0.1)


def run_chaos(directory: Path, command_for, *, disk: Path | None = None) -> Run:
    """Write, rotate, fail and kill for SECONDS; then let one life bring the rest."""
    (directory / "logs").mkdir()
    state = (disk or directory) / "state"
    draw = random.Random(SEED)
    judge = LogJudge(len(KINDS))
    lives: list[Life] = []
    ended_by_themselves = 0
    log = directory / "reader.log"
    with FailingLogSink(judge, seed=SEED, hang_seconds=TIMEOUT_SECONDS + 1) as sink, log.open("wb") as out:
        command = command_for(directory, state, sink.url)
        writers = [
            LogWriter(directory / "logs", index, kind, records_per_second=RECORDS_PER_SECOND, seed=SEED)
            for index, kind in enumerate(KINDS)
        ]
        ends_at = time.monotonic() + SECONDS
        for writer in writers:
            writer.start()
        with full_for_a_while(disk) as full:
            while time.monotonic() < ends_at:
                process = subprocess.Popen(command, stdout=out, stderr=out)
                if draw.random() < KILLED_EARLY_SHARE:
                    began = time.monotonic()
                    time.sleep(draw.uniform(0.05, 1.5))
                else:
                    began = first_request_at(sink)
                    seconds = draw.uniform(8, 12) if draw.random() < LONG_SHARE else draw.uniform(1, 5)
                    live(began, seconds, writers, full)
                ended_by_themselves += process.poll() is not None
                process.kill()
                process.wait(10)
                lives.append(Life(began, time.monotonic(), noted_in(state)))
                time.sleep(draw.uniform(0, 1))
        for writer in writers:
            writer.stop()
        sink.calm = True
        process = subprocess.Popen(command, stdout=out, stderr=out)
        began = time.monotonic()
        judge.wait(sum(writer.count for writer in writers), QUIET_SECONDS)
        rest_seconds = time.monotonic() - began
        time.sleep(SETTLED_SECONDS)
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
        failures = {way: count for way, count in sorted(sink.ways.items()) if way != "good"}
        requests = sink.requests
    verdict = judge.verdict(writers, lives)
    rotations: dict[str, int] = {}
    for writer in writers:
        for way, count in writer.rotations.items():
            rotations[way.strip("_")] = rotations.get(way.strip("_"), 0) + count
    print(f"\n{SECONDS:g} s, seed {SEED}, {len(lives)} kills, rotations {rotations}, {requests} requests, {failures}")
    print(
        f"disk full {[f'{until - since:.1f} s' for since, until in full]}, the rest took {rest_seconds:.1f} s, {verdict}"
    )
    return Run(verdict, lives, ended_by_themselves, code, log.read_text(errors="replace"))


def judge_ours(run: Run) -> None:
    """What the agent promises."""
    verdict = run.verdict
    assert verdict.written > SECONDS * len(KINDS) * 100, "too little was written for the test to mean anything"
    assert verdict.lost == 0, verdict.lost_ones
    assert verdict.torn == 0, verdict.torn_ones
    assert verdict.unnamed == 0
    assert verdict.with_another_uid == 0
    assert verdict.unexplained == 0
    assert run.ended_by_themselves == 0, run.said[-2000:]
    assert run.last_code == 0, run.said[-2000:]
    # What reads the configuration for an agent that was killed finds nobody to tell.
    assert run.said.count("Traceback") == run.said.count("BrokenPipeError"), run.said[-2000:]


def test_each_record_arrives_whole_through_rotations_kills_and_failures(tmp_path):
    judge_ours(run_chaos(tmp_path, lambda *places: ours(*places, rotated_too=("json",))))


def test_each_record_arrives_whole_also_when_the_disk_of_the_state_is_full_for_a_while(tmp_path, small_disk):
    judge_ours(run_chaos(tmp_path, lambda *places: ours(*places, rotated_too=("text", "multiline")), disk=small_disk))


@pytest.mark.interop
def test_the_same_run_shows_what_the_collector_loses(tmp_path):
    run = run_chaos(tmp_path, collector)
    assert run.verdict.arrived > run.verdict.written / 2
    assert run.ended_by_themselves == 0, run.said[-2000:]
