from itertools import groupby

from fake_proc import BOOT, NOW, group, samples

from novel_agent.inputs.process.collector import ProcessGroups
from novel_agent.inputs.process.families import PAGE_BYTES
from novel_agent.wire.prometheus import render_text

# process-exporter 0.7.10, as its page has them
EXPORTER = {
    "namedprocess_namegroup_context_switches_total": ("counter", "Context switches"),
    "namedprocess_namegroup_cpu_seconds_total": ("counter", "Cpu user usage in seconds"),
    "namedprocess_namegroup_major_page_faults_total": ("counter", "Major page faults"),
    "namedprocess_namegroup_memory_bytes": ("gauge", "number of bytes of memory in use"),
    "namedprocess_namegroup_minor_page_faults_total": ("counter", "Minor page faults"),
    "namedprocess_namegroup_num_procs": ("gauge", "number of processes in this group"),
    "namedprocess_namegroup_num_threads": ("gauge", "Number of threads"),
    "namedprocess_namegroup_oldest_start_time_seconds": (
        "gauge",
        "start time in seconds since 1970/01/01 of oldest process in group",
    ),
    "namedprocess_namegroup_open_filedesc": ("gauge", "number of open file descriptors for this group"),
    "namedprocess_namegroup_read_bytes_total": ("counter", "number of bytes read by this group"),
    "namedprocess_namegroup_states": (
        "gauge",
        "Number of processes in states Running, Sleeping, Waiting, Zombie, or Other",
    ),
    "namedprocess_namegroup_thread_context_switches_total": ("counter", "Context switches for these threads"),
    "namedprocess_namegroup_thread_count": ("gauge", "Number of threads in this group with same threadname"),
    "namedprocess_namegroup_thread_cpu_seconds_total": ("counter", "Cpu user/system usage in seconds"),
    "namedprocess_namegroup_thread_io_bytes_total": ("counter", "number of bytes read/written by these threads"),
    "namedprocess_namegroup_thread_major_page_faults_total": ("counter", "Major page faults for these threads"),
    "namedprocess_namegroup_thread_minor_page_faults_total": ("counter", "Minor page faults for these threads"),
    "namedprocess_namegroup_threads_wchan": ("gauge", "Number of threads in this group waiting on each wchan"),
    "namedprocess_namegroup_worst_fd_ratio": (
        "gauge",
        "the worst (closest to 1) ratio between open fds and max fds among all procs in this group",
    ),
    "namedprocess_namegroup_write_bytes_total": ("counter", "number of bytes written by this group"),
    "namedprocess_scrape_errors": ("counter", "general scrape errors: no proc metrics collected during a cycle"),
    "namedprocess_scrape_partial_errors": (
        "counter",
        "incremented each time a tracked proc's metrics collection fails partially, e.g. unreadable I/O stats",
    ),
    "namedprocess_scrape_procread_errors": (
        "counter",
        "incremented each time a proc's metrics collection fails",
    ),
}


def busy(fake, watch):
    """A group with every figure, one without a process, after two readings."""
    fake.spawn(40, start=200_050, swapped_kb=1, files=2, limit="4", threads=2)
    (fake.proc / "40" / "task").mkdir()
    for tid, name in ((40, "main"), (41, "pool")):
        type(fake.alive[40])(fake.proc / "40" / "task" / str(tid), tid, comm=name).write()
    watched = watch(group("app", comm="app", threads=True), group("empty", comm="absent"))
    watched.read()
    fake.use(40, user=150, system=25, minor=7, major=3, read=10, written=20, voluntary=5, involuntary=6)
    type(fake.alive[40])(fake.proc / "40" / "task" / "41", 41, comm="pool", user=150, involuntary=1).write()
    watched.read()
    return watched


def test_names_types_and_help_are_process_exporters():
    declared = {
        family.name: (family.kind, family.help)
        for family in ProcessGroups.prometheus
        if family.name.startswith("namedprocess_")
    }
    assert declared == EXPORTER


def test_values_under_process_exporters_names(fake, watch):
    watched = busy(fake, watch)
    values = samples(watched.collector.families(watched.reading))
    prefix = "namedprocess_namegroup_"
    assert {key: value for key, value in values.items() if key[1:2] == ("app",)} == {
        (prefix + "num_procs", "app"): 1,
        (prefix + "cpu_seconds_total", "app", "user"): 1.5,
        (prefix + "cpu_seconds_total", "app", "system"): 0.25,
        (prefix + "read_bytes_total", "app"): 10,
        (prefix + "write_bytes_total", "app"): 20,
        (prefix + "major_page_faults_total", "app"): 3,
        (prefix + "minor_page_faults_total", "app"): 7,
        (prefix + "context_switches_total", "app", "voluntary"): 5,
        (prefix + "context_switches_total", "app", "nonvoluntary"): 7,
        (prefix + "memory_bytes", "app", "resident"): 500 * PAGE_BYTES,
        (prefix + "memory_bytes", "app", "virtual"): 8_000_000,
        (prefix + "memory_bytes", "app", "swapped"): 1024,
        (prefix + "memory_bytes", "app", "proportionalResident"): 1_536_000,
        (prefix + "memory_bytes", "app", "proportionalSwapped"): 0,
        (prefix + "open_filedesc", "app"): 2,
        (prefix + "worst_fd_ratio", "app"): 0.5,
        (prefix + "oldest_start_time_seconds", "app"): BOOT + 2000,
        (prefix + "num_threads", "app"): 2,
        (prefix + "states", "app", "Running"): 0,
        (prefix + "states", "app", "Sleeping"): 3,
        (prefix + "states", "app", "Waiting"): 0,
        (prefix + "states", "app", "Zombie"): 0,
        (prefix + "states", "app", "Other"): 0,
        (prefix + "threads_wchan", "app", "do_epoll_wait"): 3,
        **{
            (prefix + name, "app", thread, *label): value
            for thread, user, switches in (("main", 0.0, 0), ("pool", 1.5, 1))
            for name, label, value in (
                ("thread_count", (), 1),
                ("thread_cpu_seconds_total", ("user",), user),
                ("thread_cpu_seconds_total", ("system",), 0.0),
                ("thread_io_bytes_total", ("read",), 0),
                ("thread_io_bytes_total", ("write",), 0),
                ("thread_major_page_faults_total", (), 0),
                ("thread_minor_page_faults_total", (), 0),
                ("thread_context_switches_total", ("voluntary",), 0),
                ("thread_context_switches_total", ("nonvoluntary",), switches),
            )
        },
    }
    assert values["namedprocess_scrape_errors",] == 0
    assert values["novel_agent_process_groups_overflowed_total",] == 0


def test_a_group_without_a_process_has_no_start_and_no_bytes(fake, watch):
    watched = busy(fake, watch)
    names = {key[0] for key in samples(watched.collector.families(watched.reading)) if key[1:2] == ("empty",)}
    assert "namedprocess_namegroup_num_procs" in names
    assert not names & {
        "namedprocess_namegroup_oldest_start_time_seconds",
        "namedprocess_namegroup_read_bytes_total",
        "namedprocess_namegroup_worst_fd_ratio",
    }


def test_values_under_opentelemetrys_names(fake, watch):
    watched = busy(fake, watch)
    values = samples(watched.collector.telemetry(watched.reading))
    assert {key: value for key, value in values.items() if key[1] == "app"} == {
        ("process.cpu.time", "app", "user"): 1.5,
        ("process.cpu.time", "app", "system"): 0.25,
        ("process.memory.usage", "app"): 500 * PAGE_BYTES,
        ("process.memory.virtual", "app"): 8_000_000,
        ("process.disk.io", "app", "read"): 10,
        ("process.disk.io", "app", "write"): 20,
        ("process.thread.count", "app"): 2,
        ("process.unix.file_descriptor.count", "app"): 2,
        ("process.context_switches", "app", "voluntary"): 5,
        ("process.context_switches", "app", "involuntary"): 7,
        ("process.paging.faults", "app", "major"): 3,
        ("process.paging.faults", "app", "minor"): 7,
        ("process.uptime", "app"): NOW - BOOT - 2000.5,
    }
    assert ("process.uptime", "empty") not in values


def test_attributes_and_units_are_those_of_the_conventions():
    assert {family.name: (family.kind, family.unit, family.labels) for family in ProcessGroups.otel} == {
        "process.cpu.time": ("counter", "s", ("process.group.name", "cpu.mode")),
        "process.memory.usage": ("updowncounter", "By", ("process.group.name",)),
        "process.memory.virtual": ("updowncounter", "By", ("process.group.name",)),
        "process.disk.io": ("counter", "By", ("process.group.name", "disk.io.direction")),
        "process.thread.count": ("updowncounter", "{thread}", ("process.group.name",)),
        "process.unix.file_descriptor.count": ("updowncounter", "{file_descriptor}", ("process.group.name",)),
        "process.context_switches": (
            "counter",
            "{context_switch}",
            ("process.group.name", "process.context_switch.type"),
        ),
        "process.paging.faults": ("counter", "{fault}", ("process.group.name", "system.paging.fault.type")),
        "process.uptime": ("gauge", "s", ("process.group.name",)),
    }


def test_emitted_is_declared_and_declared_is_emitted(fake, watch):
    watched = busy(fake, watch)
    (fake.proc / "40" / "io").write_text("garbage")
    watched.read()
    for blocks, declared in (
        (watched.collector.families(watched.reading), ProcessGroups.prometheus),
        (watched.collector.telemetry(watched.reading), ProcessGroups.otel),
    ):
        series = [each for block in blocks for each in block.shape.series]
        assert {each.family.name for each in series} == {family.name for family in declared}
        assert len(set(series)) == len(series)
        runs = [name for name, _ in groupby(each.family.name for each in series)]
        assert len(set(runs)) == len(runs), "the series of a family stand together"
        assert all(len(block.values) == len(block.shape) for block in blocks)


def test_shapes_are_built_only_when_the_series_change(fake, watch):
    watched = busy(fake, watch)
    first = watched.collector.families(watched.reading)
    watched.read()
    second = watched.collector.families(watched.reading)
    assert all(before.shape is after.shape for before, after in zip(first, second, strict=True))


def test_any_name_makes_a_valid_page(fake, watch):
    fake.spawn(40, comm='a"b\\c%s\n', exe="/x")
    watched = watch(group("{comm}", comm='a"b\\c%s\n'), group("100% {unit}"))
    watched.read()
    page = render_text(watched.collector.families(watched.reading)).decode()
    assert 'namedprocess_namegroup_num_procs{groupname="a\\"b\\\\c%s\\n"} 1' in page
