"""Axes: what they hold, and the numbers that stand beside them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dl_lib.plots.axis import Axis, axis_over, log_axis_over, short_number

NUMBERS = st.floats(1e-9, 1e9)


@given(st.lists(NUMBERS, min_size=1, max_size=6), st.booleans())
def test_an_axis_holds_its_values_in_their_order_and_has_ticks_inside(values, is_log):
    axis = log_axis_over(values) if is_log else axis_over(values)
    places = [axis.place(value) for value in sorted(values)]
    assert all(0 <= place <= 1 for place in places)
    assert places == sorted(places)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 10
    assert ticks == sorted(set(ticks))
    assert all(-1e-6 <= axis.place(tick) <= 1 + 1e-6 for tick in ticks)


def test_places_in_even_steps_and_in_even_ratios():
    assert [Axis(2, 6).place(value) for value in (2, 3, 6)] == [0, 0.25, 1]
    places = [Axis(1e-3, 10, is_log=True).place(value) for value in (1e-3, 1e-2, 1, 10)]
    assert places == pytest.approx([0, 0.25, 0.75, 1])


def test_round_numbers():
    assert Axis(0, 1).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert Axis(0, 190_000).ticks() == [0, 50_000, 100_000, 150_000]
    assert Axis(3e-4, 0.2, is_log=True).ticks() == pytest.approx([1e-3, 1e-2, 1e-1])
    assert Axis(1.5, 12, is_log=True).ticks() == pytest.approx([2, 5, 10])


def test_from_zero_where_that_costs_little_room():
    assert axis_over([0.4, 1.0]).low == 0
    assert axis_over([0.8, 1.0]).low > 0.75
    assert axis_over([-1.0, 1.0]).low < -1


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.05, "0.05"),
        (12, "12"),
        (1000, "1k"),
        (1234, "1234"),
        (190_000, "190k"),
        (2e6, "2M"),
        (1e-5, "1e-5"),
        (0, "0"),
    ],
)
def test_short_numbers(number, text):
    assert short_number(number) == text
    assert math.isclose(float(text.replace("k", "e3").replace("M", "e6")), number, rel_tol=1e-3)
