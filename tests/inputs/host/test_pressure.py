import os
from errno import EIO, EOPNOTSUPP

import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.kernel import KernelFile
from novel_agent.inputs.host.pressure import Stalls, parse
from novel_agent.wire.prometheus import render_text

FILES = {
    "proc/pressure/cpu": (
        "some avg10=1.52 avg60=1.17 avg300=0.94 total=14036781\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
    ),
    "proc/pressure/io": (
        "some avg10=0.21 avg60=0.35 avg300=0.40 total=159229614\nfull avg10=0.18 avg60=0.29 avg300=0.33 total=159229000\n"
    ),
    "proc/pressure/memory": (
        "some avg10=0.00 avg60=0.02 avg300=0.01 total=7712045\nfull avg10=0.00 avg60=0.01 avg300=0.01 total=6089302\n"
    ),
    "proc/pressure/irq": "full avg10=0.03 avg60=0.04 avg300=0.04 total=1204551\n",
}


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_seconds_lost_by_resource(tree, collector):
    pressure = collector("pressure", tree(FILES))
    assert samples(pressure.families(pressure.read())) == [
        "node_pressure_cpu_waiting_seconds_total 14.036781",
        "node_pressure_io_waiting_seconds_total 159.229614",
        "node_pressure_io_stalled_seconds_total 159.229",
        "node_pressure_memory_waiting_seconds_total 7.712045",
        "node_pressure_memory_stalled_seconds_total 6.089302",
        "node_pressure_irq_stalled_seconds_total 1.204551",
    ]


def test_a_kernel_without_interrupt_pressure_shows_the_rest_and_is_not_asked_again(tree, collector):
    root = tree({name: content for name, content in FILES.items() if not name.endswith("irq")})
    pressure = collector("pressure", root)
    assert list(pressure.read()) == ["cpu", "io", "memory"]
    tree(FILES)
    assert list(pressure.read()) == ["cpu", "io", "memory"]


def test_a_kernel_without_any_has_no_data(collector):
    pressure = collector("pressure")
    for _ in range(2):
        with pytest.raises(NoData, match="CONFIG_PSI"):
            pressure.read()


def test_pressure_that_is_switched_off_is_no_data(tree, collector, monkeypatch):
    pressure = collector("pressure", tree(FILES))
    monkeypatch.setattr(KernelFile, "read", lambda self: _raise(OSError(EOPNOTSUPP, os.strerror(EOPNOTSUPP))))
    with pytest.raises(NoData, match="psi=1"):
        pressure.read()


def test_another_failure_is_not_hidden(tree, collector, monkeypatch):
    pressure = collector("pressure", tree(FILES))
    monkeypatch.setattr(KernelFile, "read", lambda self: _raise(OSError(EIO, os.strerror(EIO))))
    with pytest.raises(OSError, match="Input/output error"):
        pressure.read()


def _raise(error: OSError) -> bytes:
    raise error


def test_a_resource_without_its_lines_is_no_data(tree, collector):
    with pytest.raises(NoData, match="io pressure"):
        collector("pressure", tree({**FILES, "proc/pressure/io": FILES["proc/pressure/irq"]})).read()


def test_lines_of_other_kinds_are_ignored():
    assert parse(b"some avg10=0.00 total=5\nmost avg10=0.00 total=6\n") == Stalls(5, None)


@pytest.mark.parametrize("data", [b"some avg10=0.00", b"some total=x\n", b"\x00\x00", b"some avg10=0.00 total=\n"])
def test_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        parse(data)
