import pytest

from novel_agent.inputs.host.collector import NoOptions
from novel_agent.inputs.host.kernel import Kernel
from novel_agent.inputs.host.processes import Processes, parse
from novel_agent.wire.prometheus import render_text

LIMITS = {"proc/sys/kernel/threads-max": "7801\n", "proc/sys/kernel/pid_max": "32768\n"}


def stat(pid: int, state: str, threads: int, comm: str = "sh") -> str:
    return (
        f"{pid} ({comm}) {state} 1 5 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 11 17 3 18446744073709551615 1\n"
    )


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


@pytest.fixture
def host(tree):
    return tree(
        {
            **LIMITS,
            "proc/uptime": "",
            "proc/1/stat": stat(1, "S", 1),
            "proc/10/stat": stat(10, "S", 3, "a (b) c"),
            "proc/10/task/10/stat": stat(10, "S", 3),
            "proc/10/task/11/stat": stat(11, "R", 3),
            "proc/10/task/12/stat": stat(12, "D", 3),
            "proc/20/stat": stat(20, "Z", 1),
            "proc/30/stat": stat(30, "T", 1),
            "proc/40/status": "it has ended: there is no stat file any more\n",
        }
    )


def test_counts_processes_and_threads_by_state(host, collector):
    processes = collector("processes", host)
    assert samples(processes.families(processes.read())) == [
        "node_processes_threads 6",
        "node_processes_max_threads 7801",
        "node_processes_pids 4",
        "node_processes_max_processes 32768",
        'node_processes_state{state="S"} 2',
        'node_processes_state{state="T"} 1',
        'node_processes_state{state="Z"} 1',
        'node_processes_threads_state{thread_state="D"} 1',
        'node_processes_threads_state{thread_state="R"} 1',
        'node_processes_threads_state{thread_state="S"} 2',
        'node_processes_threads_state{thread_state="T"} 1',
        'node_processes_threads_state{thread_state="Z"} 1',
    ]


def test_telemetry_has_the_states_of_the_conventions(host, collector):
    processes = collector("processes", host)
    (block,) = processes.telemetry(processes.read())
    assert [
        (series.family.name, *[value for _, value in series.labels], value)
        for series, value in zip(block.shape.series, block.values, strict=True)
    ] == [
        ("system.process.count", "running", 0),
        ("system.process.count", "sleeping", 2),
        ("system.process.count", "stopped", 1),
        ("system.process.count", "defunct", 1),
        ("system.process.limit", 7801),
    ]


def test_threads_that_end_meanwhile_are_left_out(tree, collector):
    root = tree({**LIMITS, "proc/10/stat": stat(10, "S", 2)})
    assert collector("processes", root).read().thread_states == {"S": 1}


def test_the_running_system_has_this_process():
    processes = Processes(Kernel(), NoOptions())
    reading = processes.read()
    processes.close()
    assert reading.states.get("R", 0) >= 1
    assert reading.threads >= sum(reading.states.values())


@pytest.mark.parametrize(
    "data", [b"", b"1 (sh", b"1 (sh) S 1 2\n", stat(1, "S", 1).replace(" 1 0 11", " x 0 11").encode()]
)
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        parse(data)


@pytest.mark.parametrize("missing", LIMITS)
def test_limits_are_needed(tree, collector, missing):
    with pytest.raises(FileNotFoundError):
        collector("processes", tree({name: text for name, text in LIMITS.items() if name != missing})).read()
