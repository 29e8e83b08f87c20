"""Interrupts of both kinds: hardware and software."""

import pytest

from novel_agent.inputs.host import interrupts, softirqs
from novel_agent.wire.prometheus import render_text

HARDWARE = """\
           CPU0       CPU1       
   0:         18          0   IO-APIC    2-edge      timer
  16:          0        212   IO-APIC   16-fasteoi   ehci_hcd:usb1, i801_smbus
  77:          5          6  ITS-MSI
 LOC:  174326351  135776678   Local timer interrupts
 ERR:          0
IPI0:11 22       Rescheduling interrupts
"""  # noqa: W291 - as the kernel writes it
SOFTWARE = """\
                    CPU0       CPU1       
          HI:          3          0
       TIMER:      30477      37967
     UNKNOWN:          1          1
      NET_TX:          6          1
"""  # noqa: W291


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_every_line_by_cpu(tree, collector):
    hardware = collector("interrupts", tree({"proc/interrupts": HARDWARE}))
    assert samples(hardware.families(hardware.read())) == [
        'node_interrupts_total{cpu="0",type="0",info="IO-APIC",devices="2-edge timer"} 18',
        'node_interrupts_total{cpu="1",type="0",info="IO-APIC",devices="2-edge timer"} 0',
        'node_interrupts_total{cpu="0",type="16",info="IO-APIC",devices="16-fasteoi ehci_hcd:usb1, i801_smbus"} 0',
        'node_interrupts_total{cpu="1",type="16",info="IO-APIC",devices="16-fasteoi ehci_hcd:usb1, i801_smbus"} 212',
        'node_interrupts_total{cpu="0",type="77",info="ITS-MSI",devices=""} 5',
        'node_interrupts_total{cpu="1",type="77",info="ITS-MSI",devices=""} 6',
        'node_interrupts_total{cpu="0",type="LOC",info="Local timer interrupts",devices=""} 174326351',
        'node_interrupts_total{cpu="1",type="LOC",info="Local timer interrupts",devices=""} 135776678',
        'node_interrupts_total{cpu="0",type="IPI0",info="Rescheduling interrupts",devices=""} 11',
        'node_interrupts_total{cpu="1",type="IPI0",info="Rescheduling interrupts",devices=""} 22',
    ]


def test_shows_what_is_included_and_not_excluded(tree, collector):
    hardware = collector(
        "interrupts", tree({"proc/interrupts": HARDWARE}), include_names="IO-APIC", exclude_names="^16;"
    )
    assert samples(hardware.families(hardware.read())) == [
        'node_interrupts_total{cpu="0",type="0",info="IO-APIC",devices="2-edge timer"} 18',
        'node_interrupts_total{cpu="1",type="0",info="IO-APIC",devices="2-edge timer"} 0',
    ]


def test_leaves_out_zeros_until_there_is_a_first(tree, collector):
    hardware = collector(
        "interrupts", tree({"proc/interrupts": HARDWARE}), include_names="^(0|16);", include_zeros=False
    )
    assert [line.rpartition(" ")[2] for line in samples(hardware.families(hardware.read()))] == ["18", "212"]
    tree({"proc/interrupts": HARDWARE.replace("18          0", "18          1")})
    assert [line.rpartition(" ")[2] for line in samples(hardware.families(hardware.read()))] == ["18", "1", "212"]


def test_software_interrupts_by_cpu_and_type(tree, collector):
    software = collector("softirqs", tree({"proc/softirqs": SOFTWARE}))
    assert samples(software.families(software.read())) == [
        'node_softirqs_functions_total{cpu="0",type="HI"} 3',
        'node_softirqs_functions_total{cpu="1",type="HI"} 0',
        'node_softirqs_functions_total{cpu="0",type="TIMER"} 30477',
        'node_softirqs_functions_total{cpu="1",type="TIMER"} 37967',
        'node_softirqs_functions_total{cpu="0",type="NET_TX"} 6',
        'node_softirqs_functions_total{cpu="1",type="NET_TX"} 1',
    ]


@pytest.mark.parametrize("data", [b"", b"\n", b"CPU0\n 1: x IO-APIC timer\n"])
def test_refuses_a_table_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        interrupts.parse(data)


@pytest.mark.parametrize("data", [b"", b"CPU0\n", b"CPU0\nHI: x\n", b"CPU0\n\n"])
def test_refuses_softirqs_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        softirqs.parse(data)
