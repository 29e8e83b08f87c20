"""Ten thousand network interfaces."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HELPER = Path(__file__).parents[1] / "support" / "many_interfaces.py"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="making interfaces needs root and iproute2")
def test_ten_thousand_interfaces_are_shown_within_bounds(tmp_path):
    done = subprocess.run(
        [sys.executable, str(HELPER), str(tmp_path), "5000"], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    assert shown["received"] == 10_001
    assert shown["mtu"] == 10_001
    assert shown["load"]
    assert {shown["states"][name] for name in ("netdev", "netclass", "loadavg")} == {"up"}
    assert shown["descriptors"] < 4_096
    assert shown["resident"] < 256 << 20
    assert shown["exit"] == 0
