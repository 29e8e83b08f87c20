from pathlib import Path

import pytest

from novel_agent.inputs.host.loadavg import parse
from novel_agent.wire.prometheus import render_text


def test_reads_three_averages(tree, collector):
    loadavg = collector("loadavg", tree({"proc/loadavg": "0.21 0.37 0.39 1/719 19737\n"}))
    text = render_text(loadavg.families(loadavg.read())).decode()
    assert text == (
        "# HELP node_load1 1m load average.\n# TYPE node_load1 gauge\nnode_load1 0.21\n"
        "# HELP node_load5 5m load average.\n# TYPE node_load5 gauge\nnode_load5 0.37\n"
        "# HELP node_load15 15m load average.\n# TYPE node_load15 gauge\nnode_load15 0.39\n"
    )


def test_telemetry_has_the_same_values(tree, collector):
    loadavg = collector("loadavg", tree({"proc/loadavg": "0.21 0.37 0.39 1/719 19737\n"}))
    (block,) = loadavg.telemetry(loadavg.read())
    assert [(series.family.name, value) for series, value in zip(block.shape.series, block.values, strict=True)] == [
        ("system.cpu.load_average.1m", 0.21),
        ("system.cpu.load_average.5m", 0.37),
        ("system.cpu.load_average.15m", 0.39),
    ]


@pytest.mark.parametrize("data", [b"", b"0.21 0.37", b"\x00\x00\x00", b"a b c d e"])
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message: the supervisor reports it with the collector's name
        parse(data)


def test_a_missing_file_is_an_os_error(collector, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        collector("loadavg").read()
