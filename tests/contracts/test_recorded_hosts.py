"""The recorded hosts, shown as node_exporter shows them: its pages are kept under tests/golden.

`make interop` checks that the kept pages are what the real node_exporter says, and writes them anew with WRITE_GOLDEN=1.
"""

from pathlib import Path

import pytest
from exposition import near, parse

import golden
from novel_agent import registry
from novel_agent.config.schema import Config, Host, HostPaths
from novel_agent.inputs.host.kernel import call_directly
from novel_agent.runtime.build import make_sampler
from novel_agent.runtime.lanes import LeftBehind
from novel_agent.wire.prometheus import render_text

HOSTS = Path(__file__).parent.parent / "fixtures" / "hosts"


async def page_over(host: Path):
    paths = HostPaths(proc=f"{host}/proc", sys=f"{host}/sys", root=f"{host}/root")
    collectors = {name: name in golden.OVER_TREES for name in registry.HOST_COLLECTORS}
    config = Config(host=Host(paths=paths, collectors=collectors))
    sampler = make_sampler(config, LeftBehind(), call_directly)
    page = render_text(sampler.families(await sampler.sample()))
    await sampler.close()
    return golden.comparable(parse(page.decode()))


@pytest.mark.parametrize("name", sorted(path.name for path in HOSTS.iterdir()))
async def test_a_recorded_host_is_shown_as_node_exporter_shows_it(name):
    theirs, ours = golden.read(name), await page_over(HOSTS / name)
    assert {family: ours.families.get(family) for family in theirs.families} == theirs.families
    assert sorted(map(str, theirs.series.keys() - ours.series.keys())) == []
    more = {key for key in ours.series.keys() - theirs.series.keys() if key[0] not in golden.NOT_OVER_TREES}
    assert sorted(map(str, more)) == []
    differing = [key for key, value in theirs.series.items() if not near(value, ours.series[key])]
    assert sorted(map(str, differing)) == []
