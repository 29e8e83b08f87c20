"""Run the agent in a network namespace of its own with very many interfaces, and print what it showed as JSON.

many_interfaces.py DIRECTORY PAIRS: needs root and iproute2. It makes PAIRS veth pairs, scrapes, more than a second apart, at
least three times and until every collector has answered (the first readings of so many interfaces may miss their deadline where
the machine is busy: they are skipped then, and the others go on), and stops the agent.
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
LONGEST_SECONDS = 90.0


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
        until = time.monotonic() + LONGEST_SECONDS
        scrapes = 0
        while True:
            page = agent.get("/metrics")
            scrapes += 1
            loaded_throughout = "\nnode_load1 " in page
            status = agent.json("/api/v1/status")
            states = {each["name"]: each["state"] for each in status["components"]}
            everybody_answered = states["netclass"] == "up" and "\nnode_network_mtu_bytes{" in page
            if not loaded_throughout or (scrapes >= 3 and everybody_answered) or time.monotonic() > until:
                break
            time.sleep(1.1)
    print(
        json.dumps(
            {
                "received": len(re.findall(r"^node_network_receive_bytes_total\{", page, re.M)),
                "mtu": len(re.findall(r"^node_network_mtu_bytes\{", page, re.M)),
                "load": loaded_throughout,
                "states": states,
                "descriptors": status["open_descriptors"],
                "resident": status["resident_bytes"],
                "exit": agent.process.returncode,
            }
        )
    )


if __name__ == "__main__":
    main()
