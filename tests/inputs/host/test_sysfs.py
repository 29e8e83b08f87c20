from collections.abc import Iterable, Sequence

import msgspec
import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host.hardware import TEMPERATURE, labelled
from novel_agent.inputs.host.kernel import Kernel, KernelFile
from novel_agent.inputs.host.sysfs import Attribute, DeviceCollector, Fact, number, read_once, text
from novel_agent.model.metric import Family
from novel_agent.wire.prometheus import render_text

LEVEL = Family("demo_level", "Level.", "gauge", ("device",))
STATE = Family("demo_state", "State.", "gauge", ("device", "state"))


class Demo(DeviceCollector):
    directory = "class/demo"
    discoveries = 0
    described = 0

    def discover(self, names: Sequence[str]) -> Iterable[Attribute]:
        self.discoveries += 1
        for name in names:
            if "level" in self.kernel.sys_entries(f"{self.directory}/{name}"):
                yield Attribute(f"{self.directory}/{name}/level", LEVEL.series(name), 1000)

    def texts(self, names: Sequence[str]) -> Iterable[str]:
        return (f"{self.directory}/{name}/state" for name in names)

    def facts(self, names: Sequence[str], texts: dict[str, bytes | None]) -> Iterable[Fact]:
        self.described += 1
        return ((STATE.series(name, text(texts[f"{self.directory}/{name}/state"])), 1) for name in names)


@pytest.fixture
def demo(tmp_path):
    instance = Demo(Kernel(str(tmp_path / "proc"), str(tmp_path / "sys")), msgspec.Struct())
    yield instance
    instance.close()


def shown(demo: Demo) -> list[str]:
    text = render_text(demo.families(demo.read())).decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_there_is_no_data_without_the_directory(demo):
    with pytest.raises(NoData, match="class/demo"):
        demo.read()


def test_an_empty_directory_is_no_failure(demo, tmp_path):
    (tmp_path / "sys/class/demo").mkdir(parents=True)
    assert shown(demo) == []


def test_devices_are_explored_once_and_read_every_time(demo, tree):
    tree({"sys/class/demo/a/level": "1500\n", "sys/class/demo/a/state": "up\n"})
    assert shown(demo) == ['demo_level{device="a"} 1.5', 'demo_state{device="a",state="up"} 1']
    tree({"sys/class/demo/a/level": "2500\n"})
    assert shown(demo) == ['demo_level{device="a"} 2.5', 'demo_state{device="a",state="up"} 1']
    assert (demo.discoveries, demo.described) == (1, 1)


def test_a_new_device_is_found(demo, tree):
    tree({"sys/class/demo/a/level": "1000\n", "sys/class/demo/a/state": "up\n"})
    shown(demo)
    tree({"sys/class/demo/b/level": "2000\n", "sys/class/demo/b/state": "up\n"})
    assert 'demo_level{device="b"} 2.0' in shown(demo)


def test_a_text_that_changes_makes_another_series(demo, tree):
    tree({"sys/class/demo/a/level": "1000\n", "sys/class/demo/a/state": "up\n"})
    shown(demo)
    tree({"sys/class/demo/a/state": "down\n"})
    assert 'demo_state{device="a",state="down"} 1' in shown(demo)


@pytest.mark.parametrize("content", ["", "N/A\n", "12 V\n", "\xff", "9" * 400])
def test_what_is_not_a_number_costs_its_own_series_only(demo, tree, content):
    tree({f"sys/class/demo/{name}/state": "up\n" for name in "ab"})
    tree({"sys/class/demo/a/level": content, "sys/class/demo/b/level": "1000\n"})
    lines = shown(demo)
    assert [line for line in lines if "level" in line] == ['demo_level{device="b"} 1.0']
    tree({"sys/class/demo/a/level": "3000\n"})
    assert 'demo_level{device="a"} 3.0' in shown(demo)


def test_a_device_that_answers_otherwise_than_before_is_explored_again(demo, tree, tmp_path):
    tree({"sys/class/demo/a/level": "1000\n", "sys/class/demo/a/state": "up\n"})
    shown(demo)
    demo.kernel.close()
    (tmp_path / "sys/class/demo/a/level").unlink()
    assert shown(demo) == ['demo_state{device="a",state="up"} 1']
    shown(demo)
    shown(demo)
    assert demo.discoveries == 2


def test_what_may_not_be_opened_is_not_tried_again(demo, tree, tmp_path, monkeypatch):
    tree({"sys/class/demo/a/state": "up\n"})
    (tmp_path / "sys/class/demo/a/level").symlink_to("nowhere")
    shown(demo)
    tried: list[str] = []
    original = KernelFile.read
    monkeypatch.setattr(KernelFile, "read", lambda file: (tried.append(file.path), original(file))[1])
    assert shown(demo) == ['demo_state{device="a",state="up"} 1']
    assert [path.rpartition("/")[2] for path in tried] == ["state"]


def test_numbers_are_integers_or_floats():
    assert number(b"-273150") == -273150
    assert number(b"0.5") == 0.5
    assert number(b"0x10") is None
    assert number(None) is None


def test_bytes_that_are_no_text_become_one_replacement_a_run():
    assert text(b"ACME \xff\xfe\xfd 9000") == "ACME \ufffd 9000"
    assert text("Grüße".encode()) == "Grüße"
    assert text(None) == ""


def test_what_is_read_once_keeps_no_handle(tree):
    root = tree({"sys/class/demo/a/type": " x \n"})
    kernel = Kernel("/proc", str(root / "sys"))
    assert read_once(kernel, "class/demo/a/type") == b"x"
    assert read_once(kernel, "class/demo/a/type", b"\n") == b" x "
    assert read_once(kernel, "class/demo/a/none") is None
    assert kernel._attributes == {}


def test_labels_that_are_not_known_are_left_out():
    series = labelled(TEMPERATURE, hw_id="a/temp1", hw_name="", hw_parent="a")
    assert series.labels == (("hw.id", "a/temp1"), ("hw.parent", "a"))
