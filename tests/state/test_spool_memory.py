"""Memory does not depend on the backlog. NOVEL_AGENT_SPOOL_BACKLOG_MIB says how large it is."""

import os
import subprocess
import sys
from pathlib import Path

from novel_agent.state.segment_writer import SegmentWriter

BACKLOG_MIB = int(os.environ.get("NOVEL_AGENT_SPOOL_BACKLOG_MIB", "64"))
SUPPORT = Path(__file__).parents[1] / "support"


def test_a_backlog_of_small_records_is_streamed(tmp_path):
    (tmp_path / "traces").mkdir()
    writer = SegmentWriter(str(tmp_path / "traces"), 16 << 20)
    group = [(bytes(1000), 3, 1_800_000_000_000_000_000)] * 1024
    for _ in range(BACKLOG_MIB):
        assert writer.append(group, sync=False).error is None
    writer.close()
    command = [sys.executable, SUPPORT / "spool_reader.py", tmp_path, "4"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    print(said)
    _, items, _, before_kib, highest_kib = map(float, said.split())
    assert items == BACKLOG_MIB * 1024 * 3
    assert highest_kib - before_kib < 32 << 10
