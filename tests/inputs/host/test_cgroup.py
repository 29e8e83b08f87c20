import shutil
from pathlib import Path

import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.cgroup import ControlGroup, own_limits
from novel_agent.inputs.host.cgroup_files import Limits
from novel_agent.inputs.host.kernel import Kernel
from novel_agent.wire.prometheus import render_text

GIB = 1 << 30


def v2(path: str, **files: str) -> dict[str, str]:
    defaults = {
        "cgroup.controllers": "cpu memory\n",
        "cgroup.events": "populated 1\n",
        "cgroup.procs": "1\n2\n",
        "cpu.stat": "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n",
        "cpu.max": "max 100000\n",
        "memory.current": "1000000\n",
        "memory.max": "max\n",
        "memory.stat": "anon 600000\nfile 300000\ninactive_file 100000\npgfault 9\npgmajfault 4\n",
        "io.stat": "259:0 rbytes=10 wbytes=20 rios=1 wios=2\n",
    }
    contents = {**defaults, **{name.replace("_", "."): text for name, text in files.items()}}
    return {f"sys/fs/cgroup/{path}/{name}": text for name, text in contents.items()}


@pytest.fixture
def host(tree) -> Path:
    root: Path = tree(
        {
            "proc/self/cgroup": "0::/system.slice/agent.service\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/cpu.stat": "usage_usec 90\nuser_usec 60\nsystem_usec 30\n",
            "sys/fs/cgroup/cgroup.procs": "1\n",
            "sys/devices/system/cpu/online": "0-7\n",
            **v2("system.slice", memory_max=f"{2 * GIB}\n", cpu_max="600000 100000\n"),
            **v2("system.slice/agent.service"),
            **v2("system.slice/engine.service", memory_max=f"{GIB}\n"),
        }
    )
    (root / "sys/dev/block").mkdir(parents=True)
    (root / "sys/dev/block/259:0").symlink_to("../../devices/pci/nvme0n1")
    return root


def samples(cgroup) -> list[str]:
    text = render_text(cgroup.families(cgroup.read())).decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_shows_this_processs_own_group(host, collector):
    own = 'id="/system.slice/agent.service"'
    assert samples(collector("cgroup", host)) == [
        f'container_cpu_usage_seconds_total{{{own},cpu="total"}} 3.0',
        f"container_cpu_user_seconds_total{{{own}}} 2.0",
        f"container_cpu_system_seconds_total{{{own}}} 1.0",
        f"container_memory_usage_bytes{{{own}}} 1000000",
        f"container_memory_working_set_bytes{{{own}}} 900000",
        f"container_memory_rss{{{own}}} 600000",
        f"container_memory_cache{{{own}}} 300000",
        f"container_processes{{{own}}} 2",
        f"container_spec_memory_limit_bytes{{{own}}} 0",
        f"container_spec_cpu_period{{{own}}} 100000",
        f"container_effective_memory_limit_bytes{{{own}}} 2147483648",
        f"container_effective_cpu_limit_cores{{{own}}} 6.0",
        f'container_memory_failures_total{{{own},failure_type="pgfault",scope="container"}} 9',
        f'container_memory_failures_total{{{own},failure_type="pgmajfault",scope="container"}} 4',
        f'container_memory_failures_total{{{own},failure_type="pgfault",scope="hierarchy"}} 9',
        f'container_memory_failures_total{{{own},failure_type="pgmajfault",scope="hierarchy"}} 4',
        f'container_fs_reads_bytes_total{{{own},device="/dev/nvme0n1"}} 10',
        f'container_fs_writes_bytes_total{{{own},device="/dev/nvme0n1"}} 20',
        f'container_fs_reads_total{{{own},device="/dev/nvme0n1"}} 1',
        f'container_fs_writes_total{{{own},device="/dev/nvme0n1"}} 2',
    ]


def test_shows_chosen_groups_beside_it(host, collector):
    cgroup = collector("cgroup", host, groups=("engine.service", "/system.slice/agent.*"))
    assert [usage.path for usage in cgroup.read().groups] == [
        "/system.slice/agent.service",
        "/system.slice/engine.service",
    ]
    assert 'container_effective_memory_limit_bytes{id="/system.slice/engine.service"} 1073741824' in samples(cgroup)


def test_a_quota_brings_its_periods(host, tree, collector):
    tree(
        v2(
            "system.slice/agent.service",
            cpu_max="50000 100000\n",
            cpu_stat="usage_usec 3\nuser_usec 2\nsystem_usec 1\nnr_periods 40\nnr_throttled 4\nthrottled_usec 2500000\n",
        )
    )
    own = '{id="/system.slice/agent.service"}'
    assert {
        f"container_cpu_cfs_periods_total{own} 40",
        f"container_cpu_cfs_throttled_periods_total{own} 4",
        f"container_cpu_cfs_throttled_seconds_total{own} 2.5",
        f"container_spec_cpu_quota{own} 50000",
        f"container_effective_cpu_limit_cores{own} 0.5",
    } <= set(samples(collector("cgroup", host)))


@pytest.mark.parametrize(("cpuset", "cores"), [("0-1", 2), ("0-7", 6.0)])
def test_a_cpu_set_is_a_limit_where_it_is_smaller_than_the_host(host, tree, collector, cpuset, cores):
    tree({"sys/fs/cgroup/system.slice/agent.service/cpuset.cpus.effective": f"{cpuset}\n"})
    assert collector("cgroup", host).read().groups[0].effective_cpus == cores


def test_telemetry_follows_the_conventions(host, tree, collector):
    container = "0123456789abcdef" * 4
    tree(
        {
            "proc/self/cgroup": f"0::/docker/{container}\n",
            **v2(f"docker/{container}", memory_max="4000000\n"),
            **v2("docker"),
        }
    )
    cgroup = collector("cgroup", host)
    (block,) = cgroup.telemetry(cgroup.read())
    identity = {"process.linux.cgroup": f"/docker/{container}", "container.id": container}
    assert [
        (series.family.name, dict(series.labels), value)
        for series, value in zip(block.shape.series, block.values, strict=True)
    ] == [
        ("container.cpu.time", {**identity, "cpu.mode": "user"}, 2.0),
        ("container.cpu.time", {**identity, "cpu.mode": "system"}, 1.0),
        ("container.memory.usage", identity, 1000000),
        ("container.memory.available", identity, 3100000),
        ("container.memory.rss", identity, 600000),
        ("container.memory.working_set", identity, 900000),
        ("container.paging.faults", {**identity, "system.paging.fault.type": "minor"}, 5),
        ("container.paging.faults", {**identity, "system.paging.fault.type": "major"}, 4),
        (
            "container.disk.io",
            {**identity, "disk.io.direction": "read", "system.device": "/dev/nvme0n1"},
            10,
        ),
        (
            "container.disk.io",
            {**identity, "disk.io.direction": "write", "system.device": "/dev/nvme0n1"},
            20,
        ),
    ]


def test_telemetry_tells_the_cpus_in_use_between_two_readings(host, tree, collector):
    cgroup = collector("cgroup", host)
    cgroup.telemetry(cgroup.read())
    cgroup.kernel.now = lambda: 1_700_000_010.0
    tree(v2("system.slice/agent.service", cpu_stat="usage_usec 28000000\nuser_usec 1\nsystem_usec 1\n"))
    (block,) = cgroup.telemetry(cgroup.read())
    values = {
        series.family.name: (value, dict(series.labels))
        for series, value in zip(block.shape.series, block.values, strict=True)
    }
    assert values["container.cpu.usage"] == (2.5, {"process.linux.cgroup": "/system.slice/agent.service"})


def test_a_group_that_ends_is_left_out_and_comes_back_with_its_next_start(host, tree, collector):
    cgroup = collector("cgroup", host, groups=("engine.service",))
    assert len(cgroup.read().groups) == 2
    shutil.rmtree(host / "sys/fs/cgroup/system.slice/engine.service")
    assert [usage.path for usage in cgroup.read().groups] == ["/system.slice/agent.service"]
    tree(v2("system.slice/engine.service", memory_current="7\n"))
    assert [usage.memory_bytes for usage in cgroup.read().groups] == [1000000, 7]


def test_a_controller_that_is_given_later_is_noticed(host, tree, collector):
    cgroup = collector("cgroup", host)
    assert cgroup.read().groups[0].threads is None
    own = "sys/fs/cgroup/system.slice/agent.service"
    tree({f"{own}/cgroup.controllers": "cpu memory pids\n", f"{own}/pids.current": "12\n"})
    assert cgroup.read().groups[0].threads == 12


def test_v1_takes_each_controller_from_its_own_tree(tree, collector):
    root = tree(
        {
            "proc/self/cgroup": "4:memory:/a\n3:pids:/a\n2:cpu:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000000\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "4096\n",
            "sys/fs/cgroup/memory/a/cgroup.procs": "1\n2\n3\n",
            "sys/fs/cgroup/pids/a/pids.current": "5\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/release_agent": "\n",
            "sys/fs/cgroup/cpu/cgroup.procs": "1\n2\n3\n4\n",
        }
    )
    of_cpu, of_memory = collector("cgroup", root).read().groups
    assert (of_cpu.path, of_cpu.cpu_quota_microseconds, of_cpu.memory_bytes, of_cpu.processes) == (
        "/",
        150000,
        None,
        None,
    )
    assert (of_memory.path, of_memory.memory_bytes, of_memory.threads, of_memory.processes) == ("/a", 4096, 5, 3)
    assert (of_memory.memory_limit_bytes, of_memory.effective_memory_bytes) == (0, 5000000)
    assert own_limits(Kernel(str(root / "proc"), str(root / "sys"))) == Limits(5000000, 1.5)


def test_v1_notices_a_controller_that_is_given_later(tree, collector):
    root = tree(
        {
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "4096\n",
            "sys/fs/cgroup/pids/release_agent": "\n",
        }
    )
    cgroup = collector("cgroup", root, groups=("/a",))
    assert [usage.threads for usage in cgroup.read().groups if usage.path == "/a"] == [None]
    tree({"sys/fs/cgroup/pids/a/pids.current": "5\n"})
    assert [usage.threads for usage in cgroup.read().groups if usage.path == "/a"] == [5]


def test_own_limits_walk_up_to_the_top(host, tree):
    kernel = Kernel(str(host / "proc"), str(host / "sys"))
    assert own_limits(kernel) == Limits(2 * GIB, 6.0)
    tree(v2("system.slice/agent.service", memory_max="1024\n", cpu_max="max 100000\n"))
    assert own_limits(kernel) == Limits(1024, 6.0)
    kernel.close()


def test_no_more_than_a_hundred_groups_are_shown(tree, host, collector):
    files = {f"sys/fs/cgroup/docker/c{number:03}/memory.current": f"{number}\n" for number in range(120)}
    tree(files)
    reading = collector("cgroup", host, groups=("/docker/*",)).read()
    assert len(reading.groups) == 100
    assert reading.left_out == 21
    assert reading.groups[-1].memory_bytes == 98


def test_a_device_that_the_kernel_forgot_keeps_its_numbers(host, tree, collector):
    tree(v2("system.slice/agent.service", io_stat="7:1 rbytes=1 wbytes=2 rios=3 wios=4\n"))
    assert samples(collector("cgroup", host))[-1].endswith('device="7:1"} 4')


def test_a_number_that_was_out_of_use_may_stand_for_another_device(host, tree, collector):
    tree(v2("system.slice/agent.service", io_stat="259:1 rbytes=1 wbytes=2 rios=3 wios=4\n"))
    link = host / "sys/dev/block/259:1"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("../../devices/nvme0n1")
    cgroup = collector("cgroup", host)
    assert samples(cgroup)[-1].endswith('device="/dev/nvme0n1"} 4')
    tree(v2("system.slice/agent.service", io_stat=""))
    samples(cgroup)
    link.unlink()
    link.symlink_to("../../devices/nvme7n1")
    tree(v2("system.slice/agent.service", io_stat="259:1 rbytes=1 wbytes=2 rios=3 wios=5\n"))
    assert samples(cgroup)[-1].endswith('device="/dev/nvme7n1"} 5')


def test_a_host_without_control_groups_has_no_data(collector):
    with pytest.raises(NoData):
        collector("cgroup").read()


@pytest.mark.parametrize("content", ["usage_usec\n", "usage_usec x\n", "\xff\n"])
def test_garbage_is_a_value_error(host, tree, collector, content):
    tree(v2("system.slice/agent.service", cpu_stat=content))
    with pytest.raises(ValueError):  # noqa: PT011
        collector("cgroup", host).read()


def test_this_machines_own_groups_can_be_read():
    cgroup = ControlGroup(Kernel(), ControlGroup.Options())
    try:
        reading = cgroup.read()
    except NoData:
        pytest.skip("this process sees no control groups")
    finally:
        cgroup.close()
    assert all(usage.path.startswith("/") for usage in reading.groups)
    assert b"container_" in render_text(cgroup.families(reading))
