"""A table of 1,000 processes: ours, psutil's and process-exporter's.

Goal: what the processes of a host cost at each sampling. Limits: the processes are all alike, with one thread and little
memory, so PSS is cheap for everyone.

Ours reads all its figures (time, memory, PSS at its pace, bytes, files, switches, faults, states, functions waited in), one
group a command, and renders the page. psutil reads times, memory, threads and open files of each through process_iter,
which keeps its objects. process-exporter serves its page, threads off. Each is a process of its own and they take turns.
Two cases: nobody ran between two readings; every process was woken before each.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.measure import REPOSITORY, Row, cpu_seconds, free_port, running, scrape

PROCESSES = 1000
ROUNDS = 15
WARM_UP = 3
_BUDGETS = {
    "psutil": "process_table_psutil",
    "process-exporter": "process_table_exporter",
    "processes_woken psutil": "process_table_psutil_woken",
}


def ours() -> Callable[[], object]:
    """One reading and its page, as in the agent's steady state: no process in its first minute."""
    from novel_agent.config.schema import Match, ProcessGroup
    from novel_agent.inputs.host.kernel import Kernel
    from novel_agent.inputs.process.collector import ProcessGroups
    from novel_agent.wire.prometheus import render_text

    kernel = Kernel(now=lambda: time.time() + 120)
    collector = ProcessGroups(kernel, [ProcessGroup(name="{comm}", match=Match(cmdline="."))])
    return lambda: render_text(collector.families(collector.read()))


def psutils() -> Callable[[], object]:
    """The same table with psutil."""
    import psutil

    def table() -> list[object]:
        rows: list[object] = []
        for process in psutil.process_iter():
            try:
                with process.oneshot():
                    row = (process.cpu_times(), process.memory_info(), process.num_threads(), process.num_fds())
            except psutil.Error:
                continue
            rows.append(row)
        return rows

    return table


def serve(read: Callable[[], object]) -> None:
    """One reading a line of input, and a line when it is done."""
    for _ in sys.stdin:
        read()
        print(flush=True)


@contextmanager
def sleepers() -> Iterator[list[int]]:
    """Processes that sleep; gives their ids, and ends them."""
    sleep = shutil.which("sleep") or "/bin/sleep"
    pids: list[int] = []
    try:
        for _ in range(PROCESSES):
            pids.append(os.posix_spawn(sleep, ["sleep", "600"], os.environ))
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


@contextmanager
def reader(name: str) -> Iterator[Callable[[], float]]:
    """A process of this file that reads the table when asked; gives what one reading costs, in milliseconds."""
    command = [sys.executable, "-m", "benchmarks.micro.process_table", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        questions, answers = process.stdin, process.stdout

        def read() -> None:
            questions.write(b"\n")
            questions.flush()
            answers.readline()

        yield lambda: _cost(process.pid, read)
        questions.close()
        process.wait(30)


@contextmanager
def process_exporter(program: str) -> Iterator[Callable[[], float]]:
    """The same for a page of process-exporter."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "config.yml"
        config.write_text("process_names:\n  - name: '{{.Comm}}'\n    cmdline: ['.+']\n")
        command = [program, "-config.path", str(config), "-web.listen-address", f"127.0.0.1:{port}", "-threads=false"]
        with running(command, f"{url}/") as pid:
            yield lambda: _cost(pid, lambda: scrape(f"{url}/metrics"))


def _cost(pid: int, work: Callable[[], object]) -> float:
    before = cpu_seconds(pid)
    work()
    return 1000 * (cpu_seconds(pid) - before)


def measure() -> dict[tuple[str, str], tuple[float, float]]:
    """By case and rival: our median and the rival's, in milliseconds; process-exporter's where it is installed."""
    program = shutil.which("prometheus-process-exporter") or shutil.which("process-exporter")
    medians: dict[tuple[str, str], tuple[float, float]] = {}
    with ExitStack() as stack:
        pids = stack.enter_context(sleepers())
        sides = {name: stack.enter_context(reader(name)) for name in ("ours", "psutil")}
        if program is not None:
            sides["process-exporter"] = stack.enter_context(process_exporter(program))
        for case, woken in (("processes_idle", []), ("processes_woken", pids)):
            costs = {name: statistics.median(each) for name, each in _in_turn(sides, woken).items()}
            medians |= {(case, name): (costs["ours"], cost) for name, cost in costs.items() if name != "ours"}
    return medians


def run() -> list[Row]:
    """Every case against every rival.

    Of a process that has run ours also reads status, io and wchan, which psutil's table lacks, so that row has a budget of its
    own, which is over the quarter that the idle table keeps.
    """
    return [
        Row(case, "ms CPU", ours, rival, name, _BUDGETS.get(f"{case} {name}", _BUDGETS[name]))
        for (case, name), (ours, rival) in measure().items()
    ]


def _in_turn(sides: dict[str, Callable[[], float]], woken: list[int]) -> dict[str, list[float]]:
    costs: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(WARM_UP + ROUNDS):
        for name, cost in sides.items():
            for number in (signal.SIGSTOP, signal.SIGCONT):  # a SIGCONT alone would not make it run
                for pid in woken:
                    os.kill(pid, number)
                time.sleep(0.1)
            milliseconds = cost()
            if turn >= WARM_UP:
                costs[name].append(milliseconds)
    return costs


def main() -> list[tuple[str, float, float, float]]:
    """Name, our CPU and the rival's in milliseconds, ratio."""
    return [(f"{case}/{name}", ours, rival, ours / rival) for (case, name), (ours, rival) in measure().items()]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve({"ours": ours, "psutil": psutils}[sys.argv[1]]())
    else:
        for label, our_ms, rival_ms, ratio in main():
            print(f"{label:36} {our_ms:8.2f} {rival_ms:8.2f} {ratio:6.3f}")
