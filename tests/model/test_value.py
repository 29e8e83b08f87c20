import math

import pytest

from novel_agent.model.value import as_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('a"b', 'a"b'),
        (None, ""),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (0.5, "0.5"),
        (1.0, "1.0"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (b"\x00\xff", "AP8="),
        (["a", 1, None], '["a",1,null]'),
        ({"a": [True]}, '{"a":[true]}'),
        ([], "[]"),
    ],
)
def test_a_value_as_text(value, text):
    assert as_text(value) == text
