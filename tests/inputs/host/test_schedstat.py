import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.schedstat import parse
from novel_agent.wire.prometheus import render_text

CONTENT = """\
version 17
timestamp 4295893124
cpu0 498494191 0 3533438552 2553969831 3853684107 2465731542 2045936778163039 343796328169361 4767485306
domain0 SMT 03 212499247 210112015 1861015 1860405436 536440 369895 32599 210079416
cpu1 518377256 0 4155211005 2778589869 10466382 2867629021 1904686152592476 364107263788241 5145567945
"""


def test_shows_times_in_seconds_by_cpu(tree, collector):
    schedstat = collector("schedstat", tree({"proc/schedstat": CONTENT}))
    text = render_text(schedstat.families(schedstat.read())).decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'node_schedstat_running_seconds_total{cpu="0"} 2045936.778163039',
        'node_schedstat_running_seconds_total{cpu="1"} 1904686.152592476',
        'node_schedstat_waiting_seconds_total{cpu="0"} 343796.328169361',
        'node_schedstat_waiting_seconds_total{cpu="1"} 364107.263788241',
        'node_schedstat_timeslices_total{cpu="0"} 4767485306',
        'node_schedstat_timeslices_total{cpu="1"} 5145567945',
    ]


def test_a_cpu_that_comes_gets_its_series(tree, collector):
    schedstat = collector("schedstat", tree({"proc/schedstat": CONTENT}))
    schedstat.families(schedstat.read())
    tree({"proc/schedstat": CONTENT + "cpu2 0 0 0 0 0 0 3000000000 0 7\n"})
    text = render_text(schedstat.families(schedstat.read()))
    assert b'node_schedstat_running_seconds_total{cpu="2"} 3.0\n' in text


def test_a_kernel_without_the_file_has_no_data(collector):
    with pytest.raises(NoData):
        collector("schedstat").read()


@pytest.mark.parametrize("data", [b"", b"version 17\n", b"cpu0 1 2 3\n", b"cpu0 1 2 3 4 5 6 7 8 x\n"])
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        parse(data)
