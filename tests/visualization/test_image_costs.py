"""Figure of the cost and the properties of images."""

import numpy as np
import pytest

from dl_lib.visualization.image_costs import draw_image_costs
from tests.helpers.figures import assert_text_fits


def values_of(axes):
    return np.asarray(axes.lines[0].get_ydata(), float)


@pytest.mark.parametrize("images", [1, 25])
def test_panels_show_the_images_sorted_by_cost(images):
    rng = np.random.default_rng(0)
    costs = rng.permutation(np.arange(images)) + 1.0
    scales = [None if cost % 2 else 100 * cost for cost in costs]
    properties = {"number of objects": list(-costs), "scale": scales, "never": [None] * images}
    correlations = {"number of objects": -1.0, "scale": None, "never": None}
    title = "Real cost and properties of the images of a_data_set_with_a_long_name 道路 $x$ " * 3
    figure = draw_image_costs(costs, properties=properties, correlations=correlations, title=title)
    assert_text_fits(figure)
    cost, objects, *others = figure.axes
    np.testing.assert_allclose(values_of(cost), 100 * np.arange(1, images + 1) / images)
    np.testing.assert_array_equal(values_of(objects), -np.arange(1, images + 1))
    assert objects.get_title(loc="left") == "number of objects: rank correlation with the cost -1.00"
    assert len(others) == (images > 1), "properties without values have no panel"
    for axes in others:
        expected = [np.nan if number % 2 else 100 * number for number in range(1, images + 1)]
        np.testing.assert_array_equal(values_of(axes), expected)
        assert axes.get_title(loc="left") == "scale"


def test_medians_of_tenths():
    values = np.random.default_rng(1).normal(size=100)
    figure = draw_image_costs(range(1, 101), properties={"a": values}, correlations={"a": 0.1})
    (medians,) = figure.axes[1].collections
    segments = np.array(medians.get_segments())
    np.testing.assert_allclose(segments[:, 0, 1], np.median(values.reshape(10, 10), axis=1))
    np.testing.assert_allclose(segments[:, :, 0], [[10 * i - 0.5, 10 * i + 9.5] for i in range(10)])
