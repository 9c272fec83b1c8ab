import pytest
from hypothesis import given
from hypothesis import strategies as st

from dl_lib.evaluation.scores.costs import ImageCosts, Spread, median_seconds, summarise_costs


def test_the_published_evaluators_figures():
    """Image k has real 50000 + 7000 k, expected 30000 - 2000 k MFLOPs; the published figures are in GFLOPs."""
    images = [ImageCosts(30000 - 2000 * k, 50000 + 7000 * k, 51000, 1, seconds=0.0) for k in range(3)]
    costs = summarise_costs(images)
    assert costs.real == Spread(average=57.0, maximum=64.0, minimum=50.0)
    assert costs.expected == Spread(average=28.0, maximum=30.0, minimum=26.0)
    assert costs.real_complete == Spread(average=51.0, maximum=51.0, minimum=51.0)
    assert costs.executed == Spread(average=0.001, maximum=0.001, minimum=0.001)


image_costs = st.builds(ImageCosts, *[st.floats(0, 1e6)] * 4, seconds=st.floats(0, 10))


@given(st.lists(image_costs, min_size=1, max_size=20), st.randoms())
def test_the_order_of_the_images_changes_no_digit(images, random):
    costs, seconds = summarise_costs(images), median_seconds(images)
    random.shuffle(images)
    assert summarise_costs(images) == costs
    assert median_seconds(images) == seconds
    assert costs.executed.minimum <= costs.executed.average * (1 + 1e-12)
    assert costs.executed.average <= costs.executed.maximum * (1 + 1e-12)


def test_each_figure_comes_from_its_own_key():
    flops = {"executed_flops": 4, "real_flops": 2.0, "expt_flops": 1.0, "real_flops_complete": 3.0, "more": 9.0}
    assert ImageCosts.from_flops(flops, seconds=0.5) == ImageCosts(1.0, 2.0, 3.0, 4.0, seconds=0.5)


def test_missing_costs_are_named():
    with pytest.raises(KeyError, match=r"executed_flops missing. Received: flops=\['expt_flops', 'real_flops'"):
        ImageCosts.from_flops(dict.fromkeys(["expt_flops", "real_flops", "real_flops_complete"], 1.0), seconds=0.0)


def test_no_image_has_no_average():
    with pytest.raises(ValueError, match=r"Received: images=\[\]$"):
        summarise_costs([])
