"""Confusion matrix figures: ratios, numbers, absent classes, labels that do not overlap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgba

from dl_lib.visualization.confusion_matrix import draw_confusion_matrix
from dl_lib.visualization.figure import FAINT_COLOR, RAMP
from tests.helpers.figures import assert_text_fits

NAMES = ["x" * 30, "W" * 30, "道路", "طريق معبد", "дорога", "🚗 car", "$a_b$ & % \\", "line\nbreak", "naïve"]


def names(number):
    return [*NAMES, *(f"class {index} {'with a long name'[: index % 17]}" for index in range(number))][:number]


matrices = st.integers(2, 6).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 99), min_size=n, max_size=n), min_size=n, max_size=n)
)


@settings(max_examples=10, deadline=None)
@given(matrices)
def test_cells_hold_the_ratios_of_their_row(counts):
    (image,) = draw_confusion_matrix(counts, class_names=names(len(counts))).axes[0].images
    ratios = image.get_array()
    for row, numbers in enumerate(counts):
        if sum(numbers):
            np.testing.assert_allclose(ratios[row], np.array(numbers) / sum(numbers))
        else:
            assert ratios.mask[row].all()


def test_numbers_are_rounded_percentages_readable_on_their_cell():
    """96, 4, 0.4 and 0 percent: the last two round to 0 and are not written."""
    counts = [[960, 40, 0], [996, 0, 4], [0, 0, 5]]
    axes = draw_confusion_matrix(counts, class_names="abc").axes[0]
    numbers = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert {position: text for position, (text, _) in numbers.items()} == {
        **{(0, 0): "96", (1, 0): "4", (0, 1): "100", (2, 2): "100"}
    }
    assert numbers[0, 0][1] == "white" != numbers[1, 0][1]


def test_small_ratios_are_white_and_absent_classes_are_gray():
    axes = draw_confusion_matrix([[996, 4], [0, 0]], class_names=["road", "train"]).axes[0]
    (image,) = axes.images
    colors = image.to_rgba(image.get_array())
    assert tuple(colors[0, 0]) == pytest.approx(RAMP(0.996), abs=0.01)
    assert tuple(colors[0, 1]) == (1, 1, 1, 1)
    assert tuple(colors[1, 0]) == tuple(colors[1, 1]) == pytest.approx(to_rgba("#d9d9d9"))
    road, train = axes.get_yticklabels()
    assert to_rgba(train.get_color()) == to_rgba(FAINT_COLOR) != to_rgba(road.get_color())
    assert any("absent" in text.get_text() for text in axes.figure.texts)


def test_names_without_glyphs_are_escaped_after_their_index(monkeypatch):
    monkeypatch.setattr("dl_lib.visualization.figure._glyphs", lambda: frozenset(range(32, 127)))
    axes = draw_confusion_matrix(np.eye(3), class_names=["road", "道路", "a" * 50]).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:2] == ["road", r"1 \u9053\u8def"]
    assert len(labels[2]) == 36
    assert labels == [label.get_text() for label in axes.get_xticklabels()]


@pytest.mark.parametrize("number", [1, 2, 11, 19, 45, 150, 300])
def test_text_does_not_overlap(number):
    counts = np.eye(number, dtype=np.int64) * 3
    counts[: number // 3, 0] = 1
    counts[number // 2 + 1 :] = 0
    figure = draw_confusion_matrix(counts, class_names=names(number), title="Confusion matrix on 道路 $x$ " * 6)
    assert_text_fits(figure)
    has_names = [not label.get_text().isdecimal() for label in figure.axes[0].get_yticklabels()]
    assert all(has_names) == (number <= 150)
    assert bool(figure.axes[0].texts) == (number <= 45)


def test_19_classes_are_legible_at_the_width_of_a_readme():
    figure = draw_confusion_matrix(np.eye(19), class_names=[f"class {index}" for index in range(19)])
    assert figure.get_figwidth() < 9
