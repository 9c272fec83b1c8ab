import math
from dataclasses import dataclass

import pytest
from fvcore.common.config import CfgNode

from dl_lib.evaluation.scores.budget import budget_target
from dl_lib.evaluation.scores.costs import ImageCosts
from dl_lib.evaluation.scores.result import ImageRecord
from tests.helpers.published import build

DIVISOR = 32
NOTHING = ImageCosts(0, 0, 0, 0, seconds=0)


@dataclass
class Table:
    expected_all_open: float


class Tables:
    """A network that costs 1000 multiply-adds per pixel of the padded image."""

    def table(self, height, width):
        padded_height, padded_width = (math.ceil(side / DIVISOR) * DIVISOR for side in (height, width))
        return Table(1000.0 * padded_height * padded_width)


def config(**budget):
    values = {"CONSTRAIN": True, "LOSS_MU": 0.25, "FLOPS_ALL": 0.0, **budget}
    return CfgNode({"MODEL": {"BUDGET": values}, "INPUT": {"CROP_SIZE": [768, 768]}})


def target(cfg, *sizes, costs=None):
    return target_of_passes(cfg, *((size,) for size in sizes), costs=costs)


def target_of_passes(cfg, *passes, costs=None):
    images = [ImageRecord("", "", input_sizes=sizes, costs=NOTHING, scores=None) for sizes in passes]
    return budget_target(cfg, costs=costs or Tables(), images=images)


def test_no_budget_no_target():
    assert target(config(CONSTRAIN=False), (64, 64)) is None


def test_a_measured_lattice_is_measured_at_the_padded_size_of_each_image():
    found = target(config(), (64, 96), (33, 100))
    assert found.lattice_gflops == (64 * 96 + 64 * 128) / 2 * 1000 / 1e9
    assert found.expected_gflops == found.lattice_gflops / 4
    assert found.overrun(2 * found.expected_gflops) == 2


def test_a_given_lattice_cost_is_that_of_the_crop_and_grows_with_the_area():
    """The published configs' 26,300 MFLOPs at 768x768, evaluated at 1024x2048: 32/9 of the area."""
    found = target(config(FLOPS_ALL=26300.0), (1024, 2048))
    assert found.lattice_gflops == pytest.approx(26.3 * 32 / 9, rel=1e-12)


@pytest.mark.parametrize("size", [(1024, 2048), (100, 150)])
def test_the_cost_of_a_real_lattice_grows_with_the_padded_area(size):
    found = target(config(FLOPS_ALL=26300.0), size, costs=build("tiny").costs)
    padded_height, padded_width = (math.ceil(side / DIVISOR) * DIVISOR for side in size)
    assert found.lattice_gflops == pytest.approx(26.3 * padded_height * padded_width / 768**2, rel=1e-12)


def test_a_target_of_nothing_is_not_divided_by():
    assert target(config(LOSS_MU=0.0), (64, 64)).overrun(1.0) is None


def test_several_passes_over_an_image_have_the_costs_of_all_of_them():
    found = target_of_passes(config(), ((64, 96), (32, 32)), ((64, 64),))
    assert found.lattice_gflops == (64 * 96 + 32 * 32 + 64 * 64) / 2 * 1000 / 1e9
