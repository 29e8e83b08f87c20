"""A /proc written by the test: processes that are born, run, execute, fork, are waited for and whose ids are used again."""

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from novel_agent.config.schema import Match, ProcessGroup
from novel_agent.inputs.process.collector import ProcessGroups
from novel_agent.inputs.process.families import ProcessReading
from novel_agent.inputs.process.groups import GroupReading
from novel_agent.model.metric import Block

BOOT = 1_700_000_000
NOW = BOOT + 10_000.0


@dataclass
class Fake:
    """One process as the kernel would show it. Times in ticks, memory in pages or bytes."""

    directory: Path
    pid: int
    parent: int = 1
    comm: str = "app"
    cmdline: str = "/usr/bin/app --serve"
    exe: str = "/usr/bin/app"
    uid: int = 1000
    cgroup: str = "0::/system.slice/app.service\n"
    state: str = "S"
    flags: int = 0x400000
    start: int = 100_000
    user: int = 0
    system: int = 0
    minor: int = 0
    major: int = 0
    children: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    threads: int = 1
    virtual: int = 8_000_000
    resident: int = 500
    image: tuple[int, int] = (140_000, 150_000)
    swapped_kb: int = 0
    voluntary: int = 0
    involuntary: int = 0
    read: int = 0
    written: int = 0
    files: int = 3
    limit: str = "1024"
    wchan: str = "do_epoll_wait"
    pss_kb: int = 1500
    schedstat: str | None = None

    _written: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        """Bring the files up to date."""
        if not self._written:
            self.directory.mkdir(exist_ok=True)
            self._link()
        contents = self._contents()
        for name, content in contents.items():
            if self._written.get(name) != content:
                (self.directory / name).write_text(content)
        self._written = contents
        self._open_files()

    def _open_files(self) -> None:
        descriptors = self.directory / "fd"
        descriptors.mkdir(exist_ok=True)
        there = len(os.listdir(descriptors))
        for number in range(there, self.files):
            (descriptors / str(number)).touch()
        for number in range(self.files, there):
            (descriptors / str(number)).unlink()

    def _contents(self) -> dict[str, str]:
        contents = {
            "stat": (
                f"{self.pid} ({self.comm}) {self.state} {self.parent} 1 1 0 -1 {self.flags} {self.minor} {self.children[2]}"
                f" {self.major} {self.children[3]} {self.user} {self.system} {self.children[0]} {self.children[1]} 20 0"
                f" {self.threads} 0 {self.start} {self.virtual} {self.resident} 18446744073709551615 1 1 {self.image[0]}"
                f" 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 {self.image[1]} 0 0 0 0\n"
            ),
            "status": (
                f"Name:\t{self.comm}\nUid:\t{self.uid}\t{self.uid}\t{self.uid}\t{self.uid}\nVmSwap:\t{self.swapped_kb} kB\n"
                f"voluntary_ctxt_switches:\t{self.voluntary}\nnonvoluntary_ctxt_switches:\t{self.involuntary}\n"
            ),
            "io": (
                f"rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: {self.read}\nwrite_bytes: {self.written}\n"
                "cancelled_write_bytes: 0\n"
            ),
            "limits": (
                "Limit                     Soft Limit           Hard Limit           Units     \n"
                f"Max open files            {self.limit:<20} 524288               files     \n"
            ),
            "wchan": self.wchan,
            "cmdline": self.cmdline.replace(" ", "\0") + "\0" if self.cmdline else "",
            "cgroup": self.cgroup,
            "statm": f"{self.virtual // 4096} {self.resident} 1 1 0 1 0\n",
            "smaps_rollup": f"0-1 ---p 0 00:00 0 [rollup]\nRss: 9 kB\nPss: {self.pss_kb} kB\nSwapPss: 0 kB\n",
        }
        if self.schedstat is not None:
            contents["schedstat"] = self.schedstat
        return contents

    def _link(self) -> None:
        if self.exe:
            with contextlib.suppress(FileExistsError):
                (self.directory / "exe").symlink_to(self.exe)


class FakeProc:
    """The tree, and what happens in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.proc.mkdir()
        (root / "root" / "etc").mkdir(parents=True)
        (root / "root" / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nnovel:x:1000:1000::/:/bin/sh\n")
        (self.proc / "stat").write_text(f"cpu 1 2 3\nbtime {BOOT}\nprocesses 5\n")
        self.alive: dict[int, Fake] = {}

    def spawn(self, pid: int, **figures: Any) -> Fake:
        fake = Fake(self.proc / str(pid), pid, **figures)
        self.alive[pid] = fake
        fake.write()
        return fake

    def kernel_thread(self, pid: int, comm: str) -> Fake:
        return self.spawn(
            pid, parent=2, comm=comm, cmdline="", exe="", uid=0, cgroup="0::/\n", flags=0x208040, resident=0, virtual=0
        )

    def use(self, pid: int, **growth: int) -> Fake:
        """The process runs: its figures grow by these."""
        fake = self.alive[pid]
        for name, more in growth.items():
            setattr(fake, name, getattr(fake, name) + more)
        fake.write()
        return fake

    def change(self, pid: int, **figures: Any) -> Fake:
        fake = self.alive[pid]
        for name, value in figures.items():
            setattr(fake, name, value)
        fake.write()
        return fake

    def remove(self, pid: int) -> Fake:
        """The process is gone, and nobody waited: open files of it give nothing any more."""
        fake = self.alive.pop(pid)
        for name in fake._contents():
            os.truncate(fake.directory / name, 0)
        shutil.rmtree(fake.directory)
        return fake

    def reap(self, pid: int, by: int | None = None) -> None:
        """The process exits and is waited for: what it used is added to its reaper's, as wait4 does."""
        fake = self.remove(pid)
        for orphan in self.alive.values():
            if orphan.parent == pid:
                self.change(orphan.pid, parent=1)
        reaper = self.alive.get(fake.parent if by is None else by)
        if reaper is not None:
            for position, own in enumerate((fake.user, fake.system, fake.minor, fake.major)):
                reaper.children[position] += own + fake.children[position]
            self.use(reaper.pid, read=fake.read, written=fake.written)


class Clock:
    """Seconds since the epoch, moved by the test."""

    def __init__(self) -> None:
        self.seconds = NOW

    def __call__(self) -> float:
        return self.seconds


class Watched:
    """A collector over the tree, and its last reading by group."""

    def __init__(self, collector: ProcessGroups) -> None:
        self.collector = collector
        self.reading: ProcessReading

    def read(self) -> dict[str, GroupReading]:
        self.reading = self.collector.read()
        return {group.name: group for group in self.reading.groups}

    def missing(self) -> dict[tuple[str, str], int]:
        return {(entry.figure, entry.reason): entry.processes for entry in self.reading.missing}


def group(name: str, **options: Any) -> ProcessGroup:
    """A group; what is not an option of the group itself is a criterion."""
    own = {key: options.pop(key) for key in ("children", "top", "smaps", "threads") if key in options}
    return ProcessGroup(name=name, match=Match(**options), **own)


def samples(blocks: list[Block]) -> dict[tuple[str, ...], float]:
    """Values by name and label values."""
    return {
        (series.family.name, *(value for _, value in series.labels)): value
        for block in blocks
        for series, value in zip(block.shape.series, block.values, strict=True)
    }
