import re

import pytest

from novel_agent.inputs.host.vmstat import VmStatOptions, parse, select
from novel_agent.wire.prometheus import render_text

CONTENT = """\
nr_free_pages 1030143
pgpgin 1844672
pgpgout 9312201
pswpin 5210
pswpout 71344
pgfault 28119044
pgmajfault 41290
oom_kill 3
nr_unstable 0
"""


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_paging_and_kills_by_default(tree, collector):
    vmstat = collector("vmstat", tree({"proc/vmstat": CONTENT}))
    blocks = vmstat.families(vmstat.read())
    assert samples(blocks) == [
        "node_vmstat_pgpgin 1844672",
        "node_vmstat_pgpgout 9312201",
        "node_vmstat_pswpin 5210",
        "node_vmstat_pswpout 71344",
        "node_vmstat_pgfault 28119044",
        "node_vmstat_pgmajfault 41290",
        "node_vmstat_oom_kill 3",
    ]
    assert (
        b"# HELP node_vmstat_pgpgin /proc/vmstat information field pgpgin.\n# TYPE node_vmstat_pgpgin untyped\n"
    ) in render_text(blocks)


def test_shows_the_fields_asked_for(tree, collector):
    vmstat = collector("vmstat", tree({"proc/vmstat": CONTENT}), fields="^nr_")
    assert samples(vmstat.families(vmstat.read())) == ["node_vmstat_nr_free_pages 1030143", "node_vmstat_nr_unstable 0"]


def test_telemetry_has_paging_whatever_is_shown(tree, collector):
    vmstat = collector("vmstat", tree({"proc/vmstat": CONTENT}), fields="^nr_")
    (block,) = vmstat.telemetry(vmstat.read())
    assert [
        (series.family.name, dict(series.labels), value)
        for series, value in zip(block.shape.series, block.values, strict=True)
    ] == [
        ("system.paging.faults", {"system.paging.fault.type": "minor"}, 28077754),
        ("system.paging.faults", {"system.paging.fault.type": "major"}, 41290),
        ("system.paging.operations", {"system.paging.fault.type": "major", "system.paging.direction": "in"}, 5210),
        ("system.paging.operations", {"system.paging.fault.type": "major", "system.paging.direction": "out"}, 71344),
    ]


def test_a_kernel_without_swap_has_no_telemetry(tree, collector):
    vmstat = collector("vmstat", tree({"proc/vmstat": "pgfault 2\npgmajfault 1\n"}))
    reading = vmstat.read()
    assert samples(vmstat.families(reading)) == ["node_vmstat_pgfault 2", "node_vmstat_pgmajfault 1"]
    assert vmstat.telemetry(reading) == []


def test_another_set_of_fields_is_noticed(tree, collector):
    vmstat = collector("vmstat", tree({"proc/vmstat": CONTENT}))
    vmstat.read()
    tree({"proc/vmstat": CONTENT + "pgpgnew 9\n"})
    assert samples(vmstat.families(vmstat.read()))[-1] == "node_vmstat_pgpgnew 9"


@pytest.mark.parametrize("data", [b"", b"pgfault", b"pgfault x\n", b"pgfault 1 2\n", b"\xff\xff 1\n", b"\x00\x00\n"])
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        select(data, re.compile(VmStatOptions().fields))


def test_a_field_that_is_gone_is_an_error():
    with pytest.raises(ValueError, match="not found"):
        parse(b"pgfault 2\n", [b"\npgfault ", b"\npgmajfault "])


@pytest.mark.parametrize("data", [b"pgfault 2", b"pgfault x\n"])
def test_a_torn_field_is_an_error(data):
    with pytest.raises(ValueError, match=r"not found|invalid literal"):
        parse(data, [b"\npgfault "])
