"""What every registered host collector promises, whatever it collects."""

import os
import re
from itertools import groupby
from pathlib import Path

import pytest

from novel_agent import registry
from novel_agent.errors import InputError
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import Kernel
from novel_agent.model.metric import Family

FIXTURES = Path(__file__).parent.parent / "fixtures" / "hosts"
HOSTS = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir()) if FIXTURES.is_dir() else []
NAMES = sorted(registry.HOST_COLLECTORS)


def load(name: str) -> type[HostCollector]:
    return registry.load(registry.HOST_COLLECTORS[name])


def make(name: str, root: Path) -> HostCollector:
    plugin = load(name)
    return plugin(Kernel(str(root / "proc"), str(root / "sys"), str(root / "root")), plugin.Options())


def undeclared(collector: HostCollector, blocks, declared) -> list[str]:
    exact = {id(declaration) for declaration in declared if isinstance(declaration, Family)}
    patterns = [
        (re.compile(declaration.name), declaration) for declaration in declared if not isinstance(declaration, Family)
    ]
    return [
        series.family.name
        for block in blocks
        for series in block.shape.series
        if id(series.family) not in exact
        and not any(
            pattern.fullmatch(series.family.name) and set(dict(series.labels)) <= set(declaration.labels)
            for pattern, declaration in patterns
        )
    ]


@pytest.mark.parametrize("name", NAMES)
def test_is_named_as_registered_and_described(name):
    plugin = load(name)
    assert plugin.name == name
    assert plugin.summary
    assert plugin.default_on == (name not in registry.OFF_BY_DEFAULT)
    assert all(declaration.help for declaration in (*plugin.prometheus, *plugin.otel))
    assert all(declaration.unit for declaration in plugin.otel)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", NAMES)
def test_emits_only_what_it_declares(name, host):
    collector = make(name, FIXTURES / host)
    try:
        reading = collector.read()
    except (InputError, OSError):
        return
    finally:
        collector.close()
    for blocks, declared in (
        (collector.families(reading), collector.prometheus),
        (collector.telemetry(reading), collector.otel),
    ):
        assert undeclared(collector, blocks, declared) == []
        families = [series.family for block in blocks for series in block.shape.series]
        runs = [family for family, _ in groupby(families, key=id)]
        assert len(runs) == len(set(runs)), "the series of a family stand together, in one block"
        for block in blocks:
            assert len(block.values) == len(block.shape)
            assert len(set(block.shape.series)) == len(block.shape), "no series twice"


@pytest.mark.parametrize("name", NAMES)
def test_leaves_no_descriptor_open(name):
    before = len(os.listdir("/proc/self/fd"))
    collector = make(name, Path("/"))
    for _ in range(2):
        try:
            reading = collector.read()
        except (InputError, OSError, ValueError):
            continue
        collector.families(reading)
        collector.telemetry(reading)
    collector.close()
    collector.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", NAMES)
def test_fails_cleanly_where_the_kernel_shows_nothing(name, tmp_path):
    collector = make(name, tmp_path)
    try:
        reading = collector.read()
    except (InputError, OSError, ValueError):
        return
    finally:
        collector.close()
    collector.families(reading)
    collector.telemetry(reading)
