"""Versions of the agent, Python, the kernel and the libraries."""

import argparse
import json
import os
import platform
from importlib import metadata

from novel_agent import __version__

LIBRARIES = ("aiohttp", "h2", "msgspec", "psutil", "PyYAML", "uvloop")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `version`."""
    parser.add_argument("--json", action="store_true", help="for programs")


def main(args: argparse.Namespace) -> int:
    """Print the versions."""
    versions = {
        "novel-engine-agent": __version__,
        "python": platform.python_version(),
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        **{name: _version(name) for name in LIBRARIES},
    }
    if args.json:
        print(json.dumps(versions, indent=2))
        return 0
    for name, version in versions.items():
        print(f"{name:20}{version}")
    return 0


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
