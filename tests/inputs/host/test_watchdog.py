import pytest

from novel_agent.errors import NoData
from novel_agent.wire.prometheus import render_text

WATCHDOG0 = {
    f"sys/class/watchdog/watchdog0/{name}": f"{content}\n"
    for name, content in {
        "access_cs0": "0",
        "bootstatus": "1",
        "fw_version": "2",
        "identity": "Software Watchdog",
        "nowayout": "0",
        "options": "0x8380",
        "pretimeout": "120",
        "pretimeout_governor": "noop",
        "state": "active",
        "status": "0x8000",
        "timeleft": "300",
        "timeout": "60",
    }.items()
}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_every_attribute(tree, collector):
    watchdog = collector("watchdog", tree(WATCHDOG0))
    assert samples(watchdog.families(watchdog.read())) == [
        'node_watchdog_access_cs0{name="watchdog0"} 0',
        'node_watchdog_bootstatus{name="watchdog0"} 1',
        'node_watchdog_fw_version{name="watchdog0"} 2',
        'node_watchdog_nowayout{name="watchdog0"} 0',
        'node_watchdog_pretimeout_seconds{name="watchdog0"} 120',
        'node_watchdog_timeleft_seconds{name="watchdog0"} 300',
        'node_watchdog_timeout_seconds{name="watchdog0"} 60',
        'node_watchdog_info{name="watchdog0",options="0x8380",identity="Software Watchdog",state="active",'
        'status="0x8000",pretimeout_governor="noop"} 1',
    ]


def test_help_names_the_attribute(tree, collector):
    watchdog = collector("watchdog", tree(WATCHDOG0))
    text = render_text(watchdog.families(watchdog.read())).decode()
    assert "# HELP node_watchdog_timeleft_seconds Value of /sys/class/watchdog/<watchdog>/timeleft\n" in text
    assert "# HELP node_watchdog_info Info of /sys/class/watchdog/<watchdog>\n" in text


def test_a_driver_that_tells_little_has_empty_labels(tree, collector):
    watchdog = collector("watchdog", tree({"sys/class/watchdog/watchdog1/timeout": "30\n"}))
    assert samples(watchdog.families(watchdog.read())) == [
        'node_watchdog_timeout_seconds{name="watchdog1"} 30',
        'node_watchdog_info{name="watchdog1",options="",identity="",state="",status="",pretimeout_governor=""} 1',
    ]


def test_the_state_follows_the_watchdog(tree, collector):
    watchdog = collector("watchdog", tree(WATCHDOG0))
    watchdog.read()
    tree({"sys/class/watchdog/watchdog0/state": "inactive\n"})
    assert 'state="inactive"' in samples(watchdog.families(watchdog.read()))[-1]


def test_there_is_no_data_without_watchdogs(collector):
    with pytest.raises(NoData):
        collector("watchdog").read()
