"""What node_exporter shows of the recorded hosts, kept as pages under tests/golden so that no node_exporter is needed."""

from pathlib import Path

from exposition import Page, parse

from novel_agent import registry

GOLDEN = Path(__file__).parent.parent / "golden" / "hosts"
HOSTS = Path(__file__).parent.parent / "fixtures" / "hosts"

# Stands for the recorded host's directory, which some labels hold.
PLACE = "@HOST@"

# These ask the running kernel by system calls, sockets or the bus, whatever the roots are; or are ours alone.
LIVE = {
    "time", "timex", "uname", "systemd", "tcpstat", "filesystem", "textfile", "udp_queues", "selinux", "cgroup", "gpu",
}  # fmt: skip
OVER_TREES = [name for name in sorted(registry.HOST_COLLECTORS) if name not in LIVE]

# It comes over netlink, which node_exporter cannot turn to a recorded host; ours finds it in sysfs there.
NOT_OVER_TREES = {"node_network_receive_nohandler_total"}


def comparable(page: Page) -> Page:
    """Without how long it took."""
    return Page(
        {name: what for name, what in page.families.items() if "scrape_collector_duration" not in name},
        {key: value for key, value in page.series.items() if "scrape_collector_duration" not in key[0]},
    )


def read(name: str) -> Page:
    return parse((GOLDEN / f"{name}.prom").read_text().replace(PLACE, str(HOSTS / name)))


def write(name: str, page: Page) -> None:
    """Families and series in order, as a page."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    page = comparable(page)
    lines = []
    for family, (kind, help_text) in sorted(page.families.items()):
        shown = (
            family + "_total"
            if kind == "counter" and any(key[0] == family + "_total" for key in page.series)
            else family
        )
        lines.append(f"# HELP {shown} {help_text.replace(chr(92), chr(92) * 2).replace(chr(10), chr(92) + 'n')}")
        lines.append(f"# TYPE {shown} {'untyped' if kind == 'unknown' else kind}")
        members = [(key, value) for key, value in page.series.items() if key[0] in {family, shown}]
        lines.extend(_sample(*key, value) for key, value in sorted(members, key=lambda member: sorted(member[0][1])))
    (GOLDEN / f"{name}.prom").write_text("\n".join(lines).replace(str(HOSTS / name), PLACE) + "\n")


def _sample(name: str, labels: frozenset[tuple[str, str]], value: float) -> str:
    inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in sorted(labels))
    return f"{name}{{{inner}}} {value!r}" if inner else f"{name} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
