import pytest

from novel_agent.inputs.host.softnet import parse
from novel_agent.wire.prometheus import render_text

TWO_CPUS = (
    "115cf66b 00000003 000001d2 00000000 00000000 00000000 00000000 00000000 00000004 000002f1 00000006 00000005"
    " 00000000 00000005 00000000\n"
    "0000000a 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000"
    " 00000003 00000000 00000000\n"
)


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_each_cpu_by_its_number(tree, collector):
    softnet = collector("softnet", tree({"proc/net/softnet_stat": TWO_CPUS}))
    assert samples(softnet.families(softnet.read())) == [
        'node_softnet_processed_total{cpu="0"} 291305067',
        'node_softnet_processed_total{cpu="3"} 10',
        'node_softnet_dropped_total{cpu="0"} 3',
        'node_softnet_dropped_total{cpu="3"} 0',
        'node_softnet_times_squeezed_total{cpu="0"} 466',
        'node_softnet_times_squeezed_total{cpu="3"} 0',
        'node_softnet_cpu_collision_total{cpu="0"} 4',
        'node_softnet_cpu_collision_total{cpu="3"} 0',
        'node_softnet_received_rps_total{cpu="0"} 753',
        'node_softnet_received_rps_total{cpu="3"} 0',
        'node_softnet_flow_limit_count_total{cpu="0"} 6',
        'node_softnet_flow_limit_count_total{cpu="3"} 0',
        'node_softnet_backlog_len{cpu="0"} 5',
        'node_softnet_backlog_len{cpu="3"} 0',
    ]


def test_follows_a_cpu_that_is_taken_out(tree, collector):
    softnet = collector("softnet", tree({"proc/net/softnet_stat": TWO_CPUS}))
    softnet.families(softnet.read())
    tree({"proc/net/softnet_stat": TWO_CPUS.splitlines()[1] + "\n"})
    assert all('cpu="3"' in line for line in samples(softnet.families(softnet.read())))


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (9, [1, 2, 3, 9, 0, 0, 0]),
        (10, [1, 2, 3, 9, 10, 0, 0]),
        (11, [1, 2, 3, 9, 10, 11, 0]),
        (12, [1, 2, 3, 9, 10, 11, 12]),
    ],
)
def test_older_kernels_have_fewer_columns_and_no_numbers(columns, shown):
    line = b" ".join(b"%08x" % number for number in range(1, columns + 1)) + b"\n"
    assert parse(line + line) == {"0": shown, "1": shown}


@pytest.mark.parametrize("data", [b"", b"0 1 2 3 4 5 6 7\n", b"x " * 13, b"\x00\xff\xfe", b"\n"])
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message: the supervisor reports it with the collector's name
        parse(data)


def test_a_missing_file_is_an_os_error(collector):
    with pytest.raises(FileNotFoundError):
        collector("softnet").read()
