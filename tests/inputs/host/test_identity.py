"""Which kernel and which operating system."""

import os

import pytest

from novel_agent.errors import InputError, NoData
from novel_agent.inputs.host.os_release import parse, parse_variables
from novel_agent.wire.prometheus import render_text

DEBIAN = """\
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian

# a comment
HOME_URL='https://www.debian.org/'
SUPPORT_END=2028-06-30
"""


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_names_the_running_kernel(tree, collector):
    uname = collector("uname", tree({"proc/sys/kernel/domainname": "example.org\n"}))
    system = os.uname()
    assert samples(uname.families(uname.read())) == [
        f'node_uname_info{{sysname="Linux",release="{system.release}",version="{system.version}",'
        f'machine="{system.machine}",nodename="{system.nodename}",domainname="example.org"}} 1'
    ]


def test_a_service_that_sees_no_settings_of_the_kernel_has_no_domain(collector):
    assert collector("uname").read()[5] == "(none)"


def test_names_the_operating_system(tree, collector):
    system = collector("os", tree({"root/etc/os-release": DEBIAN}))
    assert samples(system.families(system.read())) == [
        'node_os_info{build_id="",id="debian",id_like="",image_id="",image_version="",name="Debian GNU/Linux",'
        'pretty_name="Debian GNU/Linux 12 (bookworm)",variant="",variant_id="",version="12 (bookworm)",'
        'version_codename="bookworm",version_id="12"} 1',
        'node_os_version{id="debian",id_like="",name="Debian GNU/Linux"} 12.0',
        "node_os_support_end_timestamp_seconds 1845936000",  # date -d 2028-06-30T00:00Z +%s
    ]


def test_takes_the_vendors_file_where_there_is_no_other(tree, collector):
    system = collector("os", tree({"root/usr/lib/os-release": "ID=arch\nBUILD_ID=rolling\n"}))
    (line,) = samples(system.families(system.read()))
    assert line.startswith('node_os_info{build_id="rolling",id="arch",')


def test_notices_an_upgrade(tree, collector):
    root = tree({"root/etc/os-release": 'VERSION_ID="20.04"\n', "new": 'VERSION_ID="22.04.1"\n'})
    system = collector("os", root)
    assert system.read().version == 20.04
    (root / "new").rename(root / "root/etc/os-release")
    assert system.read().version == 22.04


def test_reads_the_file_once_while_it_stays_as_it_is(tree, collector):
    system = collector("os", tree({"root/etc/os-release": DEBIAN}))
    assert system.read() is system.read()


def test_no_file_is_no_data(collector):
    with pytest.raises(NoData):
        collector("os").read()


def test_something_else_in_its_place_is_an_error(tree, collector):
    (tree({}) / "root/etc/os-release").mkdir(parents=True)
    with pytest.raises(InputError, match="not a regular file"):
        collector("os").read()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=plain", "plain"),
        ("  A = two words  ", "two words"),
        ("A=word # comment", "word"),
        ("A=no#comment", "no#comment"),
        ("A=''", ""),
        ("A=", ""),
        ('A="with \\"quotes\\" and \\\\ and \\$"', 'with "quotes" and \\ and $'),
        ("A='as it \\ is'", "as it \\ is"),
        ("export A=exported", "exported"),
        ("A=joined' up'\" here\"", "joined up here"),
        ("A=é", "é"),
    ],
)
def test_values_are_unquoted_as_a_shell_does(text, value):
    assert parse_variables(text.encode()) == {"A": value}


@pytest.mark.parametrize(
    "data",
    [b"no assignment\n", b"A=1\n=2\n", b'A="open\n', b"A='open\n", b"\xff\xff=1", b"SUPPORT_END=soon\n", b"\x00"],
)
def test_refuses_what_is_no_os_release(data):
    with pytest.raises(ValueError):  # noqa: PT011
        parse(data)


def test_says_in_which_line_the_mistake_is():
    with pytest.raises(ValueError, match="line 3 "):
        parse(b"ID=a\n\nnonsense\n")
