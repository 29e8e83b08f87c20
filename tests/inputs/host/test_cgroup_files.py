import pytest

from novel_agent.inputs.host.cgroup_files import (
    Limits,
    Transfers,
    effective_limits,
    parse_limits,
    parse_v1,
    parse_v2,
)

MIB = 1 << 20

V2 = {
    "cpu.stat": (
        b"usage_usec 7500000\nuser_usec 5000000\nsystem_usec 2500000\nnr_periods 400\nnr_throttled 30\nthrottled_usec 1500000"
    ),
    "cpu.max": b"150000 100000",
    "cpuset.cpus.effective": b"0-2,8",
    "memory.current": b"104857600",
    "memory.peak": b"209715200",
    "memory.max": b"268435456",
    "memory.stat": b"anon 52428800\nfile 41943040\nfile_mapped 1048576\ninactive_file 20971520\npgfault 900\npgmajfault 12",
    "memory.swap.current": b"4096",
    "memory.events": b"low 0\nhigh 0\nmax 7\noom 3\noom_kill 2",
    "io.stat": b"259:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:0",
    "pids.current": b"17",
    "pids.max": b"max",
    "cpu.pressure": b"some avg10=0.00 avg60=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 total=500000",
    "memory.pressure": b"some avg10=0.00 avg60=0.00 total=10\nfull avg10=0.00 avg60=0.00 total=5",
}
V1 = {
    "cpu.stat": b"nr_periods 400\nnr_throttled 30\nthrottled_time 1500000000",
    "cpu.cfs_quota_us": b"50000",
    "cpu.cfs_period_us": b"100000",
    "cpuacct.usage": b"7500000000",
    "cpuacct.stat": b"user 500\nsystem 250",
    "cpuset.effective_cpus": b"3",
    "memory.usage_in_bytes": b"104857600",
    "memory.max_usage_in_bytes": b"209715200",
    "memory.limit_in_bytes": b"9223372036854771712",
    "memory.stat": (
        b"cache 1\nrss 2\npgfault 90\npgmajfault 1\ntotal_cache 41943040\ntotal_rss 52428800\ntotal_swap 4096\n"
        b"total_mapped_file 1048576\ntotal_inactive_file 20971520\ntotal_pgfault 900\ntotal_pgmajfault 12"
    ),
    "memory.oom_control": b"oom_kill_disable 0\nunder_oom 0\noom_kill 2",
    "blkio.throttle.io_service_bytes_recursive": (
        b"8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 0\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 12288\nTotal 12288"
    ),
    "blkio.throttle.io_serviced_recursive": b"8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3",
    "pids.current": b"17",
    "pids.max": b"64",
}


def test_reads_a_group_of_v2():
    usage = parse_v2(V2)
    assert (usage.cpu_seconds, usage.user_seconds, usage.system_seconds) == (7.5, 5.0, 2.5)
    assert (usage.periods, usage.throttled_periods, usage.throttled_seconds) == (400, 30, 1.5)
    assert (usage.cpu_quota_microseconds, usage.cpu_period_microseconds, usage.cpuset_cpus) == (150000, 100000, 4)
    assert (usage.memory_bytes, usage.memory_peak_bytes, usage.memory_limit_bytes) == (100 * MIB, 200 * MIB, 256 * MIB)
    assert usage.working_set_bytes == 80 * MIB
    assert (usage.rss_bytes, usage.cache_bytes, usage.mapped_file_bytes) == (50 * MIB, 40 * MIB, MIB)
    assert (usage.swap_bytes, usage.oom_kills) == (4096, 2)
    assert (usage.faults, usage.major_faults, usage.faults_with_below) == (900, 12, 900)
    assert (usage.threads, usage.threads_max) == (17, 0)
    assert (usage.cpu_waiting_seconds, usage.cpu_stalled_seconds, usage.io_waiting_seconds) == (1.5, 0.5, None)
    assert (usage.memory_waiting_seconds, usage.memory_stalled_seconds) == (0.00001, 0.000005)
    assert usage.transfers == {"259:0": Transfers(4096, 8192, 1, 2), "8:0": Transfers(0, 0, 0, 0)}


def test_reads_a_group_of_v1():
    usage = parse_v1(V1)
    assert (usage.cpu_seconds, usage.user_seconds, usage.system_seconds) == (7.5, 5.0, 2.5)
    assert (usage.periods, usage.throttled_periods, usage.throttled_seconds) == (400, 30, 1.5)
    assert (usage.cpu_quota_microseconds, usage.cpu_period_microseconds, usage.cpuset_cpus) == (50000, 100000, 1)
    assert (usage.memory_bytes, usage.memory_peak_bytes, usage.memory_limit_bytes) == (100 * MIB, 200 * MIB, 0)
    assert usage.working_set_bytes == 80 * MIB
    assert (usage.rss_bytes, usage.cache_bytes, usage.mapped_file_bytes) == (50 * MIB, 40 * MIB, MIB)
    assert (usage.swap_bytes, usage.oom_kills) == (4096, 2)
    assert (usage.faults, usage.major_faults) == (90, 1)
    assert (usage.faults_with_below, usage.major_faults_with_below) == (900, 12)
    assert (usage.threads, usage.threads_max) == (17, 64)
    assert usage.transfers == {"8:0": Transfers(4096, 8192, 1, 2)}


@pytest.mark.parametrize("parse", [parse_v1, parse_v2])
def test_what_a_group_has_not_is_not_made_up(parse):
    usage = parse({})
    assert usage.memory_bytes is usage.memory_limit_bytes is usage.cpu_seconds is usage.threads_max is None
    assert usage.transfers == {}


def test_throttling_is_shown_only_under_a_quota():
    usage = parse_v2({**V2, "cpu.max": b"max 100000"})
    assert (usage.cpu_quota_microseconds, usage.cpu_period_microseconds) == (None, 100000)
    assert usage.periods is usage.throttled_periods is usage.throttled_seconds is None


def test_a_working_set_is_never_below_nothing():
    assert parse_v2({**V2, "memory.current": b"4096"}).working_set_bytes == 0


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({}, Limits(None, None)),
        ({"memory.max": b"max", "cpu.max": b"max 100000"}, Limits(None, None)),
        ({"memory.max": b"0"}, Limits(0, None)),
        ({"memory.max": b"1048576", "cpu.max": b"250000 100000"}, Limits(1048576, 2.5)),
        ({"memory.limit_in_bytes": b"9223372036854771712", "cpu.cfs_quota_us": b"-1"}, Limits(None, None)),
        (
            {
                "memory.limit_in_bytes": b"9223372036854771712",
                "memory.stat": b"rss 5\nhierarchical_memory_limit 2097152\nhierarchical_memsw_limit 1\n",
            },
            Limits(2097152, None),
        ),
        ({"memory.limit_in_bytes": b"4096", "memory.stat": b"hierarchical_memory_limit 8192"}, Limits(4096, None)),
        (
            {"memory.limit_in_bytes": b"1048576", "cpu.cfs_quota_us": b"5000", "cpu.cfs_period_us": b"10000"},
            Limits(1048576, 0.5),
        ),
    ],
)
def test_a_groups_own_limits(files, limits):
    assert parse_limits(files) == limits


@pytest.mark.parametrize(
    ("levels", "limits"),
    [
        ([], Limits(None, None)),
        ([Limits(None, None), Limits(None, None)], Limits(None, None)),
        ([Limits(100, None), Limits(50, 4.0), Limits(None, 8.0)], Limits(50, 4.0)),
        ([Limits(100, 0.5), Limits(500, 4.0)], Limits(100, 0.5)),
        ([Limits(0, None), Limits(50, None)], Limits(0, None)),
    ],
)
def test_the_tightest_limit_on_the_way_up_holds(levels, limits):
    assert effective_limits(levels) == limits


@pytest.mark.parametrize("parse", [parse_v1, parse_v2])
@pytest.mark.parametrize("name", sorted(name for name in {*V1, *V2} if not name.startswith("blkio.")))
def test_refuses_what_the_kernel_does_not_write(parse, name):
    if name in (V2 if parse is parse_v2 else V1):
        with pytest.raises(ValueError):  # noqa: PT011
            parse({name: b"some nonsense here"})
