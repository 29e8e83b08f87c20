import os
from pathlib import Path

import pytest

from novel_agent.errors import InputError
from novel_agent.inputs.host.kernel import KernelFile
from novel_agent.wire.prometheus import render_text

CPUS = "sys/devices/system/cpu"


def policy(path: str, **files: str) -> dict[str, str]:
    return {f"{CPUS}/{path}/{name}": f"{content}\n" for name, content in files.items()}


FULL = {
    "cpuinfo_cur_freq": "1600000",
    "cpuinfo_avg_freq": "1599999",
    "cpuinfo_min_freq": "800000",
    "cpuinfo_max_freq": "2400000",
    "scaling_cur_freq": "1219917",
    "scaling_min_freq": "900000",
    "scaling_max_freq": "2300000",
    "scaling_governor": "powersave",
    "scaling_available_governors": "performance powersave ",
}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_frequencies_in_hertz_and_the_governor(tree, collector):
    cpufreq = collector("cpufreq", tree({f"{CPUS}/offline": "\n"} | policy("cpu0/cpufreq", **FULL)))
    assert samples(cpufreq.families(cpufreq.read())) == [
        'node_cpu_frequency_avg_hertz{cpu="0"} 1599999000.0',
        'node_cpu_frequency_hertz{cpu="0"} 1600000000.0',
        'node_cpu_frequency_max_hertz{cpu="0"} 2400000000.0',
        'node_cpu_frequency_min_hertz{cpu="0"} 800000000.0',
        'node_cpu_scaling_frequency_hertz{cpu="0"} 1219917000.0',
        'node_cpu_scaling_frequency_max_hertz{cpu="0"} 2300000000.0',
        'node_cpu_scaling_frequency_min_hertz{cpu="0"} 900000000.0',
        'node_cpu_scaling_governor{cpu="0",governor="performance"} 0',
        'node_cpu_scaling_governor{cpu="0",governor="powersave"} 1',
    ]


def test_kilohertz_become_hertz_exactly(tree, collector):
    files = {f"{CPUS}/offline": "\n"}
    kilohertz = [799, 1199791, 2200031, 3612447, 3799984, 5700001, 6199999]
    for number, frequency in enumerate(kilohertz):
        files |= policy(f"cpu{number}/cpufreq", scaling_cur_freq=str(frequency))
    cpufreq = collector("cpufreq", tree(files))
    (block,) = cpufreq.families(cpufreq.read())
    assert block.values == [799000, 1199791000, 2200031000, 3612447000, 3799984000, 5700001000, 6199999000]


def test_a_cpu_that_is_offline_has_no_series(tree, collector):
    files = {f"{CPUS}/offline": "1,3-7\n"}
    for number in range(4):
        files |= policy(f"cpu{number}/cpufreq", scaling_cur_freq="1000")
    cpufreq = collector("cpufreq", tree(files))
    assert samples(cpufreq.families(cpufreq.read())) == [
        'node_cpu_scaling_frequency_hertz{cpu="0"} 1000000.0',
        'node_cpu_scaling_frequency_hertz{cpu="2"} 1000000.0',
    ]
    tree({f"{CPUS}/offline": "0-1,3-7\n"})
    assert samples(cpufreq.families(cpufreq.read())) == ['node_cpu_scaling_frequency_hertz{cpu="2"} 1000000.0']


def test_cpus_that_share_a_policy_share_its_reading(tree, collector, monkeypatch):
    root: Path = tree({f"{CPUS}/offline": "\n"} | policy("cpufreq/policy0", scaling_cur_freq="1000000"))
    for number in range(2):
        (root / CPUS / f"cpu{number}").mkdir()
        os.symlink("../cpufreq/policy0", root / CPUS / f"cpu{number}/cpufreq")
    cpufreq = collector("cpufreq", root)
    cpufreq.read()
    read: list[str] = []
    original = KernelFile.read
    monkeypatch.setattr(KernelFile, "read", lambda file: (read.append(file.path), original(file))[1])
    assert samples(cpufreq.families(cpufreq.read())) == [
        'node_cpu_scaling_frequency_hertz{cpu="0"} 1000000000.0',
        'node_cpu_scaling_frequency_hertz{cpu="1"} 1000000000.0',
    ]
    assert [path.rpartition("/")[2] for path in read].count("scaling_cur_freq") == 1


def test_a_frequency_that_the_driver_does_not_know_is_left_out(tree, collector):
    files = policy("cpu0/cpufreq", cpuinfo_cur_freq="<unknown>", scaling_cur_freq="1000")
    cpufreq = collector("cpufreq", tree({f"{CPUS}/offline": "\n"} | files))
    assert samples(cpufreq.families(cpufreq.read())) == ['node_cpu_scaling_frequency_hertz{cpu="0"} 1000000.0']


def test_a_host_without_frequency_scaling_shows_nothing(tree, collector):
    cpufreq = collector("cpufreq", tree({f"{CPUS}/offline": "\n", f"{CPUS}/cpu0/uevent": ""}))
    assert samples(cpufreq.families(cpufreq.read())) == []


def test_sysfs_without_cpus_cannot_be_read(tree, collector):
    with pytest.raises(InputError, match="offline"):
        collector("cpufreq").read()
    with pytest.raises(InputError, match="no CPU"):
        collector("cpufreq", tree({f"{CPUS}/offline": "\n"})).read()


def test_telemetry_has_one_frequency_a_cpu(tree, collector):
    files = policy("cpu0/cpufreq", **FULL) | policy("cpu1/cpufreq", cpuinfo_cur_freq="2000000")
    cpufreq = collector("cpufreq", tree({f"{CPUS}/offline": "\n"} | files))
    assert samples(cpufreq.telemetry(cpufreq.read())) == [
        'system.cpu.frequency{cpu.logical_number="0"} 1219917000.0',
        'system.cpu.frequency{cpu.logical_number="1"} 2000000000.0',
    ]
