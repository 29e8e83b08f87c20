"""Side by side with the real node_exporter: on this machine, and over the recorded hosts."""

import os
from pathlib import Path

import pytest
from agent_process import AgentProcess
from exposition import Page, fetch, near, parse

import golden
from novel_agent import registry

pytestmark = pytest.mark.interop

HOSTS = Path(__file__).parent.parent / "fixtures" / "hosts"
THEIR_OWN = ("go_", "promhttp_", "process_", "node_exporter_")
OURS_ALONE = ("novel_agent_", "namedprocess_", "container_", "hw_gpu_")
ONLY_OURS = {"cgroup", "gpu"}
FROM_NODE_EXPORTER = sorted(set(registry.HOST_COLLECTORS) - ONLY_OURS)

# Gauges that move within the milliseconds between two scrapes, and by how much of themselves they may.
RESTLESS = {
    "node_scrape_collector_duration_seconds": 60.0,
    "node_load1": 0.5, "node_load5": 0.5, "node_load15": 0.5, "node_procs_running": 50.0, "node_procs_blocked": 50.0,
    "node_processes_state": 5.0, "node_processes_threads": 1.0, "node_processes_pids": 1.0, "node_filefd_allocated": 0.5,
    "node_entropy_available_bits": 1.0, "node_timex_offset_seconds": 1e6, "node_timex_maxerror_seconds": 1.0,
    "node_timex_estimated_error_seconds": 1.0, "node_timex_frequency_adjustment_ratio": 1e-3,
    "node_sockstat_sockets_used": 0.5, "node_tcp_connection_states": 5.0, "node_cpu_scaling_frequency_hertz": 2.0,
    "node_cgroups_cgroups": 0.5, "node_udp_queues": 1e6, "node_arp_entries": 1.0,
}  # fmt: skip
RESTLESS_PREFIXES = {
    "node_memory_": 0.5, "node_sockstat_": 5.0, "node_filesystem_": 0.05, "node_netstat_Tcp_CurrEstab": 5.0,
    "node_disk_io_now": 50.0, "node_vmstat_": 0.05, "node_network_carrier": 1.0, "node_softnet_": 1.0,
}  # fmt: skip

# A series for each state that some process, or connection, is in at that moment.
COME_AND_GO = {"node_processes_state", "node_processes_threads_state", "node_tcp_connection_states"}


def comparable(page: Page, left_out: tuple[str, ...]) -> Page:
    return Page(
        {name: what for name, what in page.families.items() if not name.startswith(left_out)},
        {
            (name, labels): value
            for (name, labels), value in page.series.items()
            if not name.startswith(left_out) and dict(labels).get("collector") not in ONLY_OURS
        },
    )


def allowance(name: str) -> float:
    if name in RESTLESS:
        return RESTLESS[name]
    return next((share for prefix, share in RESTLESS_PREFIXES.items() if name.startswith(prefix)), 0.0)


def test_equals_node_exporter_on_this_machine(rival, tmp_path):
    textfiles = tmp_path / "textfiles"
    textfiles.mkdir()
    (textfiles / "backup.prom").write_text(
        "# HELP backup_age_seconds Age.\n# TYPE backup_age_seconds gauge\nbackup_age_seconds 42\n"
    )
    flags = [f"--collector.{name}" for name in FROM_NODE_EXPORTER]
    theirs_url = rival(
        "node_exporter",
        "--web.listen-address=127.0.0.1:{port}",
        f"--collector.textfile.directory={textfiles}",
        "--collector.disable-defaults",
        *flags,
    )
    collectors = dict.fromkeys(registry.HOST_COLLECTORS, True)
    collectors["textfile"] = {"directories": [str(textfiles)]}
    with AgentProcess(tmp_path / "agent", {"host": {"collectors": collectors}}) as agent:
        fetch(f"{theirs_url}/metrics"), agent.get("/metrics")  # both have seen everything once
        for _ in range(LOOKS):
            before = comparable(parse(agent.get("/metrics")), OURS_ALONE)
            theirs = comparable(parse(fetch(f"{theirs_url}/metrics")), THEIR_OWN)
            found = differences(before, theirs, fresh(agent, before))
            if not found:
                break
    assert found == []


# A machine at work may start a process, drop a packet or free memory between two scrapes; a real difference stays.
LOOKS = 5


def differences(before: Page, theirs: Page, ours: Page) -> list[str]:
    """Everything in which their page is not ours."""
    come_and_go = {key for page in (before, theirs, ours) for key in page.series if key[0] in COME_AND_GO}
    return [
        *(
            f"{name}: {what}, ours {ours.families.get(name)}"
            for name, what in theirs.families.items()
            if ours.families.get(name) != what
        ),
        *(f"missing: {key}" for key in theirs.series.keys() - ours.series.keys() - come_and_go),
        *(f"more: {key}" for key in ours.series.keys() - theirs.series.keys() - come_and_go),
        *outside(before, theirs, ours),
    ]


def fresh(agent: AgentProcess, before: Page) -> Page:
    """A page from a later sample than `before`: samples are shared for a second."""
    clock = ("node_time_seconds", frozenset())
    while True:
        page = comparable(parse(agent.get("/metrics")), OURS_ALONE)
        if page.series[clock] != before.series[clock]:
            return page


def outside(before: Page, theirs: Page, after: Page) -> list[str]:
    """Their values that do not lie between ours before and after, within what the family may move."""
    found = []
    for (name, labels), value in theirs.series.items():
        if name in COME_AND_GO or (name, labels) not in after.series:
            continue
        low, high = sorted((before.series.get((name, labels), after.series[name, labels]), after.series[name, labels]))
        slack = allowance(name) * max(abs(low), abs(high), 1.0) + 1e-6 * max(abs(low), abs(high))
        if not (low - slack <= value <= high + slack or near(value, low)):
            found.append(f"{name}{dict(labels)}: theirs {value}, ours {low} to {high}")
    return found


def node_exporter_over(host: Path, rival) -> Page:
    url = rival(
        "node_exporter",
        "--web.listen-address=127.0.0.1:{port}",
        f"--path.procfs={host}/proc",
        f"--path.sysfs={host}/sys",
        f"--path.rootfs={host}/root",
        f"--path.udev.data={host}/root/run/udev/data",
        "--no-collector.netdev.netlink",
        "--no-collector.arp.netlink",
        "--collector.disable-defaults",
        *(f"--collector.{name}" for name in golden.OVER_TREES),
    )
    return comparable(parse(fetch(f"{url}/metrics")), THEIR_OWN)


@pytest.mark.parametrize("name", sorted(path.name for path in HOSTS.iterdir()))
def test_equals_node_exporter_over_a_recorded_host(name, rival, tmp_path):
    host = HOSTS / name
    theirs = node_exporter_over(host, rival)
    if "WRITE_GOLDEN" in os.environ:
        golden.write(name, theirs)
    assert golden.read(name) == golden.comparable(theirs), "tests/golden is older than the fixture: WRITE_GOLDEN=1"
    settings = {collector: collector in golden.OVER_TREES for collector in registry.HOST_COLLECTORS}
    paths = {"proc": f"{host}/proc", "sys": f"{host}/sys", "root": f"{host}/root"}
    with AgentProcess(tmp_path / "agent", {"host": {"collectors": settings, "paths": paths}}) as agent:
        ours = comparable(parse(agent.get("/metrics")), OURS_ALONE)
    assert {family: ours.families.get(family) for family in theirs.families} == theirs.families
    assert sorted(map(str, theirs.series.keys() - ours.series.keys())) == []
    more = {key for key in ours.series.keys() - theirs.series.keys() if key[0] not in golden.NOT_OVER_TREES}
    assert sorted(map(str, more)) == []
    assert [
        f"{key}: theirs {value}, ours {ours.series[key]}"
        for key, value in theirs.series.items()
        if not near(value, ours.series[key]) and key[0] != "node_scrape_collector_duration_seconds"
    ] == []
