"""Side by side with Debian's process-exporter over the same processes."""

import subprocess
import sys

import pytest
from agent_process import AgentProcess
from exposition import fetch, near, parse

pytestmark = pytest.mark.interop

GROUP = "novel-engine-interop"
# What moves by itself while both look, or that process-exporter counts from its own start.
MOVING = ("cpu_seconds_total", "context_switches_total", "page_faults_total", "_bytes_total", "threads_wchan", "states")
WORK = """
import os, sys, threading, time
held = [open(os.devnull) for _ in range(17)]
ballast = bytearray(30 << 20)
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


def test_names_types_help_and_resting_values_equal_process_exporters(rival, tmp_path):
    config = tmp_path / "process-exporter.yml"
    config.write_text(f"process_names:\n  - name: {GROUP}\n    cmdline: ['{GROUP}']\n")
    workers = [
        subprocess.Popen([sys.executable, "-c", WORK, GROUP], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
        url = rival(
            "prometheus-process-exporter", "-web.listen-address=127.0.0.1:{port}", f"-config.path={config}",
            ready="/",
        )  # fmt: skip
        settings = {"processes": [{"name": GROUP, "match": {"cmdline": GROUP}, "threads": True}]}
        with AgentProcess(tmp_path / "agent", settings) as agent:
            for _ in range(2):
                theirs = parse(fetch(f"{url}/metrics"))
                ours = parse(agent.get("/metrics"))
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    shared = {name: what for name, what in theirs.families.items() if name.startswith("namedprocess_namegroup")}
    assert {name: ours.families.get(name) for name in shared} == shared
    resting = {
        key: value
        for key, value in theirs.series.items()
        if key[0] in shared and dict(key[1]).get("groupname") == GROUP and not key[0].endswith(MOVING)
    }
    assert len(resting) >= 8
    wrong = {
        str(key): (value, ours.series.get(key))
        for key, value in resting.items()
        if key not in ours.series or not near(value, ours.series[key], 0.02)
    }
    assert wrong == {}
