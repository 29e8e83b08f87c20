from novel_agent.inputs.host.samples import Samples, table
from novel_agent.model.metric import Family, ShapeMemo
from novel_agent.wire.prometheus import render_text

SIZE = Family("size_bytes", "Size.", "gauge", ("device", "uuid"))
ERRORS = Family("errors_total", "Errors.", "counter", ("device",))


def test_the_series_of_a_family_stand_together_in_the_order_of_coming():
    samples = Samples()
    samples.add(SIZE, 10, "sda", "1f")
    samples.add(ERRORS, 1, "sda")
    samples.add(SIZE, 20, "sdb")
    (block,) = samples.blocks(ShapeMemo(), "slot")
    assert [line for line in render_text([block]).decode().splitlines() if line[0] != "#"] == [
        'size_bytes{device="sda",uuid="1f"} 10',
        'size_bytes{device="sdb"} 20',
        'errors_total{device="sda"} 1',
    ]


def test_nothing_added_makes_no_block():
    assert Samples().blocks(ShapeMemo(), "slot") == []


def test_the_shape_is_kept_while_the_series_stay_the_same():
    shapes = ShapeMemo()

    def block(device: str, number: int):
        samples = Samples()
        samples.add(ERRORS, number, device)
        return samples.blocks(shapes, "slot")[0]

    assert block("sda", 1).shape is block("sda", 2).shape
    assert block("sda", 1).shape is not block("sdb", 1).shape


def test_a_table_has_one_series_a_family_and_row_with_shared_labels():
    other = Family("other_bytes", "Other.", "gauge", ("device", "uuid"))
    series = table((SIZE, other), [("sda", "1f"), ("sdb", "2e")])
    assert [(each.family.name, dict(each.labels)["device"]) for each in series] == [
        ("size_bytes", "sda"),
        ("size_bytes", "sdb"),
        ("other_bytes", "sda"),
        ("other_bytes", "sdb"),
    ]
    assert series[0].labels is series[2].labels
