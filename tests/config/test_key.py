"""Declarations: every key is complete, and range, choices, length and order are checked."""

import math

import pytest

from dl_lib.config.declarations import KEYS
from dl_lib.config.key import Interval, Reference, key


@pytest.mark.parametrize(
    ("notation", "inside", "outside", "text"),
    [
        ("[0, 1]", [0, 0.5, 1], [-1e-9, 1.1], "in [0, 1]"),
        ("[0, 1)", [0, 0.999], [1], "in [0, 1)"),
        ("(0, 1)", [0.001], [0, 1], "in (0, 1)"),
        ("(0, inf)", [1e-9, 1e9], [0], "> 0"),
        ("[-1, inf)", [-1, 5], [-2], ">= -1"),
    ],
)
def test_intervals(notation, inside, outside, text):
    interval = Interval.parse(notation)
    assert all(value in interval for value in inside)
    assert not any(value in interval for value in outside)
    assert str(interval) == text


@pytest.mark.parametrize("text", ["0, 1", "[0,1]", "[0, 1", "[a, 1]", ">= 0"])
def test_other_notations_are_refused(text):
    with pytest.raises(ValueError, match="an interval must have the form"):
        Interval.parse(text)


@pytest.mark.parametrize("declared", KEYS.values(), ids=lambda declared: declared.name)
def test_every_key_is_complete(declared):
    assert declared.problem(declared.default) is None
    assert declared.doc.endswith(".")
    assert isinstance(declared.default, list) == (declared.items is not None)
    if isinstance(declared.choices, Reference):
        assert declared.resolve_choices() or not declared.default  # a registry that net.py fills may be empty
    if declared.interval is not None:
        numbers = [number for value in declared.special for number in (value if isinstance(value, tuple) else [value])]
        assert not any(value in declared.interval for value in numbers), "special values are outside the range"


SIZES = key("A.SIZES", [1, 2], "Sizes.", range="[1, inf)", special={(): "keep"}, length=2, order="ascending")
CROP = key("A.CROP", [0, 0], "Crop.", range="[1, inf)", special={(0, 0): "`measured`"}, length=2)
PERIOD = key("A.PERIOD", 0, "Period.", range="[1, inf)", special={0: "off"})
NAMES = key("A.NAMES", ["red"], "Names.", choices=("red", "green"), min_length=1, order="unique")


@pytest.mark.parametrize(
    ("declared", "value", "problem"),
    [
        (SIZES, [3, 3], None),
        (SIZES, [], None),
        (SIZES, [1], "A.SIZES must have 2 elements, or [] (keep). Received: A.SIZES=[1]"),
        (SIZES, [0, 1], "A.SIZES must contain only values >= 1, or [] (keep). Received: A.SIZES=[0, 1]"),
        (SIZES, [2, 1], "A.SIZES must be in ascending order, or [] (keep). Received: A.SIZES=[2, 1]"),
        (CROP, [0, 0], None),
        (CROP, [0, 1], "A.CROP must contain only values >= 1, or [0, 0] (measured). Received: A.CROP=[0, 1]"),
        (NAMES, ["green", "red"], None),
        (NAMES, [], "A.NAMES must have at least 1 element. Received: A.NAMES=[]"),
        (NAMES, ["red", "red"], "A.NAMES must not contain a value twice. Received: A.NAMES=['red', 'red']"),
        (
            NAMES,
            ["gren"],
            "A.NAMES must contain only values from red, green (nearest to 'gren': green). Received: A.NAMES=['gren']",
        ),
        (key("A.X", 0.5, "X."), math.inf, "A.X must be finite. Received: A.X=inf"),
        (key("A.X", 0.5, "X.", range="(0, 1]"), 0.0, "A.X must be in (0, 1]. Received: A.X=0.0"),
        (
            PERIOD,
            -1,
            "A.PERIOD must be >= 1, or 0 (off). Received: A.PERIOD=-1",
        ),
        (PERIOD, 0, None),
        (
            key("A.S", [1], "S.", order="strictly ascending"),
            [1, 1],
            "A.S must be in strictly ascending order. Received",
        ),
    ],
)
def test_problems_of_a_value(declared, value, problem):
    found = declared.problem(value)
    assert found is None if problem is None else found.startswith(problem)


def test_choices_are_read_from_where_they_are_implemented():
    assert Reference("dl_lib.modeling.dynamic.routing:Unreached").resolve() == ("skip", "run", "published")
    assert Reference("dl_lib.modeling.backbones.base:OUTPUT_STRIDES").resolve() == (8, 16, 32)
    assert "GN" in Reference("dl_lib.layers:NORMS").resolve()
    assert "skip_connect" in Reference("dl_lib.modeling.dynamic.ops:CELL_OPERATIONS").resolve()
