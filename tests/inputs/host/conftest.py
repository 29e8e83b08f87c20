"""Collectors over trees of recorded or hand-written kernel files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from novel_agent import registry
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import Kernel

Make = Callable[..., HostCollector[Any]]


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, str | bytes]], Path]:
    """Write files (`proc/loadavg`, `sys/class/…`) below a fresh root and give the root."""

    def write(files: dict[str, str | bytes]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path

    return write


@pytest.fixture
def collector(tmp_path: Path) -> Any:
    """Make a registered collector over a directory that holds `proc`, `sys` and `root` (the host's /); closed in the end."""
    made: list[HostCollector[Any]] = []

    def make(name: str, root: Path | None = None, **options: Any) -> HostCollector[Any]:
        root = root or tmp_path
        kernel = Kernel(str(root / "proc"), str(root / "sys"), str(root / "root"), now=lambda: 1_700_000_000.0)
        plugin = registry.load(registry.HOST_COLLECTORS[name])
        instance: HostCollector[Any] = plugin(kernel, plugin.Options(**options))
        made.append(instance)
        return instance

    yield make
    for instance in made:
        instance.close()
