"""Process groups over a /proc that the test writes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_proc import Clock, FakeProc, Watched

from novel_agent.config.schema import ProcessGroup
from novel_agent.inputs.host.kernel import Kernel
from novel_agent.inputs.process import ProcessGroups

Watch = Callable[..., Watched]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fake(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


@pytest.fixture
def watch(fake: FakeProc, clock: Clock) -> Iterator[Watch]:
    """Make a collector of these groups, closed after the test."""
    made: list[ProcessGroups] = []

    def make(*groups: ProcessGroup, handle_limit: int | None = None) -> Watched:
        kernel = Kernel(str(fake.proc), str(fake.root / "sys"), str(fake.root / "root"), now=clock)
        made.append(ProcessGroups(kernel, groups, handle_limit=handle_limit))
        return Watched(made[-1])

    yield make
    for collector in made:
        collector.close()
