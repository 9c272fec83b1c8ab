import pytest
from hypothesis import given
from hypothesis import strategies as st

from dl_lib.evaluation.scores.result import summarize_costs
from dl_lib.modeling.costs.costs import Costs


def test_statistics_equal_the_published_evaluator():
    """Image k has a real cost of 50000 + 7000 k and an expected cost of 30000 - 2000 k million multiply-adds."""
    images = [Costs(30000e6 - 2000e6 * k, 50000e6 + 7000e6 * k, 51000e6, 1e6) for k in range(3)]
    costs = summarize_costs(images)
    assert costs.average == Costs(expected=28e9, real=57e9, real_complete=51e9, executed=1e6)
    assert costs.maximum == Costs(expected=30e9, real=64e9, real_complete=51e9, executed=1e6)
    assert costs.minimum == Costs(expected=26e9, real=50e9, real_complete=51e9, executed=1e6)


@given(st.lists(st.builds(Costs, *[st.floats(0, 1e12)] * 4), min_size=1, max_size=20), st.randoms())
def test_statistics_do_not_depend_on_the_order_of_images(images, random):
    costs = summarize_costs(images)
    random.shuffle(images)
    assert summarize_costs(images) == costs
    assert costs.minimum.executed <= costs.average.executed * (1 + 1e-12)
    assert costs.average.executed <= costs.maximum.executed * (1 + 1e-12)


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match=r"Received: images=\[\]$"):
        summarize_costs([])
