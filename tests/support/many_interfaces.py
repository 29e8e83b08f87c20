"""Run the agent in a network namespace of its own with very many interfaces, and print what it showed as JSON.

many_interfaces.py DIRECTORY PAIRS: needs root and iproute2. It makes PAIRS veth pairs, scrapes three times, more than a second
apart, and stops the agent.
"""

import ctypes
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from agent_process import AgentProcess

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
MS_REC_PRIVATE = 16384 | 262144


def main() -> None:
    directory, pairs = Path(sys.argv[1]), int(sys.argv[2])
    libc = ctypes.CDLL(None, use_errno=True)
    for result in (
        libc.unshare(CLONE_NEWNET | CLONE_NEWNS),
        libc.mount(None, b"/", None, MS_REC_PRIVATE, None),
        libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None),
    ):
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    batch = "link set lo up\n" + "".join(f"link add v{n} type veth peer name w{n}\n" for n in range(pairs))
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
    with AgentProcess(directory, {}) as agent:
        for _ in range(3):
            page = agent.get("/metrics")
            time.sleep(1.1)
        status = agent.json("/api/v1/status")
    print(
        json.dumps(
            {
                "received": len(re.findall(r"^node_network_receive_bytes_total\{", page, re.M)),
                "mtu": len(re.findall(r"^node_network_mtu_bytes\{", page, re.M)),
                "load": "\nnode_load1 " in page,
                "states": {each["name"]: each["state"] for each in status["components"]},
                "descriptors": status["open_descriptors"],
                "resident": status["resident_bytes"],
                "exit": agent.process.returncode,
            }
        )
    )


if __name__ == "__main__":
    main()
