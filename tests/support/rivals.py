"""Where other people's programs are, and free ports for them."""

import os
import shutil
import socket
from pathlib import Path

RIVALS = Path(os.environ.get("RIVALS_DIR", Path.home() / ".cache" / "novel-engine-rivals")) / "bin"


def find(name: str) -> str:
    here = RIVALS / name
    found = str(here) if here.exists() else shutil.which(name)
    assert found, f"{name} is missing; `make interop` brings it"
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
