import pytest

from novel_agent.inputs.host.cpu import forward, parse, parse_cpu_list, parse_info
from novel_agent.wire.prometheus import render_text

STAT = """cpu  1000 20 300 40000 50 6 70 8 90 10
cpu0 600 10 200 20000 30 4 50 5 60 7
cpu1 400 10 100 20000 20 2 20 3 30 3
intr 10744361044 31 0
ctxt 31204118827
"""

CPUINFO = """processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 85
model name	: Intel(R) Xeon(R) Gold 5222 CPU @ 3.80GHz
stepping	: 7
microcode	: 0x5003707
cpu MHz		: 3800.112
cache size	: 16896 KB
physical id	: 0
core id		: 4
flags		: fpu sse avx aes avx2
bugs		: spectre_v1 swapgs
power management:

processor	: 1
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Gold 5222 CPU @ 3.80GHz
cpu MHz		: 1800.000
physical id	: 1
core id		: 0
flags		: fpu
power management:
"""


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def read(instance) -> list[str]:
    return samples(instance.families(instance.read()))


def cpu_files(number: int, package: str, core: str, siblings: str, **files: str) -> dict[str, str]:
    base = f"sys/devices/system/cpu/cpu{number}"
    return {
        f"{base}/topology/physical_package_id": f"{package}\n",
        f"{base}/topology/core_id": f"{core}\n",
        f"{base}/topology/thread_siblings_list": f"{siblings}\n",
    } | {f"{base}/{name.replace('__', '/')}": f"{content}\n" for name, content in files.items()}


def throttled(core: int, package: int) -> dict[str, str]:
    return {
        "thermal_throttle__core_throttle_count": str(core),
        "thermal_throttle__package_throttle_count": str(package),
    }


def test_counts_seconds_by_cpu_and_mode(tree, collector):
    lines = read(collector("cpu", tree({"proc/stat": STAT})))
    assert lines[:8] == [
        'node_cpu_seconds_total{cpu="0",mode="user"} 6.0',
        'node_cpu_seconds_total{cpu="0",mode="nice"} 0.1',
        'node_cpu_seconds_total{cpu="0",mode="system"} 2.0',
        'node_cpu_seconds_total{cpu="0",mode="idle"} 200.0',
        'node_cpu_seconds_total{cpu="0",mode="iowait"} 0.3',
        'node_cpu_seconds_total{cpu="0",mode="irq"} 0.04',
        'node_cpu_seconds_total{cpu="0",mode="softirq"} 0.5',
        'node_cpu_seconds_total{cpu="0",mode="steal"} 0.05',
    ]
    assert lines[16:] == [
        'node_cpu_guest_seconds_total{cpu="0",mode="user"} 0.6',
        'node_cpu_guest_seconds_total{cpu="0",mode="nice"} 0.07',
        'node_cpu_guest_seconds_total{cpu="1",mode="user"} 0.3',
        'node_cpu_guest_seconds_total{cpu="1",mode="nice"} 0.03',
    ]


def test_guest_time_can_be_left_out(tree, collector):
    assert not any("guest" in line for line in read(collector("cpu", tree({"proc/stat": STAT}), guest=False)))


def test_columns_that_an_older_kernel_lacks_are_zero():
    assert parse(b"cpu  1 2 3 4\ncpu0 1 2 3 4\n") == {"0": (1, 2, 3, 4, 0, 0, 0, 0, 0, 0)}


@pytest.mark.parametrize("data", [b"", b"intr 1\n", b"cpu  1 2\ncpu0\n", b"cpu  1\ncpuX 1 2 3 4\n", b"cpu0 a b c d\n"])
def test_refuses_what_is_not_proc_stat(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse(data)


def test_idle_and_iowait_never_run_backwards():
    before = (10, 0, 0, 1000, 50, 0, 0, 0, 0, 0)
    assert forward(before, (11, 0, 0, 998, 40, 0, 0, 0, 0, 0)) == (11, 0, 0, 1000, 50, 0, 0, 0, 0, 0)


def test_counters_start_again_where_a_cpu_was_taken_out_and_put_back():
    before = (10, 0, 0, 1000, 50, 0, 0, 0, 0, 0)
    assert forward(before, (1, 0, 0, 700, 0, 0, 0, 0, 0, 0)) == (1, 0, 0, 700, 0, 0, 0, 0, 0, 0)


def test_counts_throttling_once_a_core_and_once_a_package(tree, collector):
    lines = read(
        collector(
            "cpu",
            tree(
                {"proc/stat": STAT}
                | cpu_files(0, "0", "4", "0-1", **throttled(3, 5))
                | cpu_files(1, "0", "4", "0-1", **throttled(99, 99))
                | cpu_files(2, "1", "0", "2", **throttled(0, 2))
                | cpu_files(3, "-1", "0", "3", **throttled(7, 7))
            ),
        )
    )
    assert [line for line in lines if "throttles" in line] == [
        'node_cpu_core_throttles_total{package="0",core="4"} 3',
        'node_cpu_core_throttles_total{package="1",core="0"} 0',
        'node_cpu_package_throttles_total{package="0"} 5',
        'node_cpu_package_throttles_total{package="1"} 2',
    ]


def test_shows_which_cpus_are_isolated_and_online(tree, collector):
    files = {"proc/stat": STAT, "sys/devices/system/cpu/isolated": "1,3-4\n"}
    files |= {f"sys/devices/system/cpu/cpu{number}/online": f"{on}\n" for number, on in ((0, 1), (1, 1), (2, 0))}
    lines = read(collector("cpu", tree(files)))
    assert lines[-6:] == [
        'node_cpu_isolated{cpu="1"} 1',
        'node_cpu_isolated{cpu="3"} 1',
        'node_cpu_isolated{cpu="4"} 1',
        'node_cpu_online{cpu="0"} 1',
        'node_cpu_online{cpu="1"} 1',
        'node_cpu_online{cpu="2"} 0',
    ]


def test_shows_none_online_where_the_first_cpu_cannot_be_taken_out(tree, collector):
    files = {"proc/stat": STAT, "sys/devices/system/cpu/cpu1/online": "1\n"} | cpu_files(0, "0", "0", "0")
    assert not any("node_cpu_online" in line for line in read(collector("cpu", tree(files))))


def test_looks_at_sysfs_again_when_a_cpu_comes(tree, collector):
    root = tree({"proc/stat": "cpu  1 0 0 1\ncpu0 1 0 0 1\n"} | cpu_files(0, "0", "0", "0", **throttled(1, 1)))
    cpu = collector("cpu", root)
    assert len([line for line in read(cpu) if "core_throttles" in line]) == 1
    tree({"proc/stat": STAT} | cpu_files(1, "0", "1", "1", **throttled(2, 1)))
    assert len([line for line in read(cpu) if "core_throttles" in line]) == 2


def test_info_and_frequency_come_from_cpuinfo_when_asked_for(tree, collector):
    lines = read(collector("cpu", tree({"proc/stat": STAT, "proc/cpuinfo": CPUINFO}), info=True))
    assert lines[-4:] == [
        'node_cpu_info{package="0",core="4",cpu="0",vendor="GenuineIntel",family="6",model="85",'
        'model_name="Intel(R) Xeon(R) Gold 5222 CPU @ 3.80GHz",microcode="0x5003707",stepping="7",'
        'cachesize="16896 KB"} 1',
        'node_cpu_info{package="1",core="0",cpu="1",vendor="GenuineIntel",family="",model="",'
        'model_name="Intel(R) Xeon(R) Gold 5222 CPU @ 3.80GHz",microcode="",stepping="",cachesize=""} 1',
        'node_cpu_frequency_hertz{package="0",core="4",cpu="0"} 3800112000.0',
        'node_cpu_frequency_hertz{package="1",core="0",cpu="1"} 1800000000.0',
    ]


def test_frequency_is_left_to_cpufreq_where_the_hardware_tells_it(tree, collector):
    files = {"proc/stat": STAT, "proc/cpuinfo": CPUINFO} | cpu_files(0, "0", "4", "0", cpufreq__cpuinfo_cur_freq="1000")
    lines = read(collector("cpu", tree(files), info=True))
    assert any("node_cpu_info" in line for line in lines)
    assert not any("node_cpu_frequency_hertz" in line for line in lines)


def test_flags_and_bugs_of_the_first_cpu_imply_info(tree, collector):
    root = tree({"proc/stat": STAT, "proc/cpuinfo": CPUINFO})
    lines = read(collector("cpu", root, flags_include="^(aes|avx.?)$", bugs_include="spectre"))
    assert any("node_cpu_info" in line for line in lines)
    assert lines[-4:] == [
        'node_cpu_flag_info{flag="avx"} 1',
        'node_cpu_flag_info{flag="aes"} 1',
        'node_cpu_flag_info{flag="avx2"} 1',
        'node_cpu_bug_info{bug="spectre_v1"} 1',
    ]


def test_arm_calls_the_flags_features():
    cpus = parse_info(b"processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n")
    assert cpus[0]["flags"] == "fp asimd"


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"model name\t: x\n", b"processor\t: zero\n"])
def test_refuses_what_is_not_cpuinfo(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse_info(data)


def test_cpu_lists_are_ranges_and_numbers():
    assert parse_cpu_list(b"0-2,8,10-11\n") == ("0", "1", "2", "8", "10", "11")
    assert parse_cpu_list(b"\n") == ()


@pytest.mark.parametrize("data", [b"a", b"1-", b"0-99999999999", b"1-2-3"])
def test_refuses_what_is_no_cpu_list(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse_cpu_list(data)


def test_telemetry_has_utilization_from_the_second_reading(tree, collector):
    cpu = collector("cpu", tree({"proc/stat": "cpu0 100 0 100 800 0 0 0 0\n"} | cpu_files(0, "0", "0", "0-1")))
    first = samples(cpu.telemetry(cpu.read()))
    assert not any("utilization" in line for line in first)
    assert "system.cpu.logical.count 1" in first
    assert "system.cpu.physical.count 1" in first
    tree({"proc/stat": "cpu0 150 0 125 825 0 0 0 0\n"})
    second = samples(cpu.telemetry(cpu.read()))
    assert 'system.cpu.time{cpu.logical_number="0",cpu.mode="user"} 1.5' in second
    assert 'system.cpu.utilization{cpu.logical_number="0",cpu.mode="user"} 0.5' in second
    assert 'system.cpu.utilization{cpu.logical_number="0",cpu.mode="system"} 0.25' in second
    assert 'system.cpu.utilization{cpu.logical_number="0",cpu.mode="idle"} 0.25' in second


def test_threads_of_one_core_are_one_physical_processor(tree, collector):
    files = {"proc/stat": STAT}
    for number, siblings in ((0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3")):
        files |= cpu_files(number, "0", "0", siblings)
    cpu = collector("cpu", tree(files))
    assert "system.cpu.physical.count 2" in samples(cpu.telemetry(cpu.read()))
