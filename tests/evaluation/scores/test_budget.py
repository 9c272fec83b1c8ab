import math
from dataclasses import dataclass

import pytest
from fvcore.common.config import CfgNode

from dl_lib.evaluation.scores.budget import budget_target
from dl_lib.evaluation.scores.result import ImageRecord
from dl_lib.modeling.costs.costs import Costs
from tests.helpers.published import build

DIVISOR = 32
ZERO = Costs(0.0, 0.0, 0.0, 0.0)


@dataclass
class Table:
    expected_all_open: float


class Tables:
    """Cost tables of a network with 1000 multiply-adds per pixel of the padded image."""

    def table(self, height, width):
        padded_height, padded_width = (math.ceil(side / DIVISOR) * DIVISOR for side in (height, width))
        return Table(1000.0 * padded_height * padded_width)


def config(**budget):
    values = {"CONSTRAIN": True, "LOSS_MU": 0.25, "FLOPS_ALL": 0.0, **budget}
    return CfgNode({"MODEL": {"BUDGET": values}, "INPUT": {"CROP_SIZE": [768, 768]}})


def target(cfg, *sizes, costs=None):
    return target_of_passes(cfg, *((size,) for size in sizes), costs=costs)


def target_of_passes(cfg, *passes, costs=None):
    images = [ImageRecord("", "", input_sizes=sizes, costs=ZERO, seconds=0.0, scores=None) for sizes in passes]
    return budget_target(cfg, costs=costs or Tables(), images=images)


def test_without_a_budget_there_is_no_target():
    assert target(config(CONSTRAIN=False), (64, 64)) is None


def test_lattice_is_measured_at_the_padded_size_of_each_image():
    found = target(config(), (64, 96), (33, 100))
    assert found.lattice_madds == (64 * 96 + 64 * 128) / 2 * 1000
    assert found.expected_madds == found.lattice_madds / 4
    assert found.ratio_to_target(2 * found.expected_madds) == 2


def test_configured_lattice_cost_is_scaled_from_the_crop():
    """The published configs' 26,300 MFLOPs at 768x768, evaluated at 1024x2048: 32/9 of the area."""
    found = target(config(FLOPS_ALL=26300.0), (1024, 2048))
    assert found.lattice_madds == pytest.approx(26.3e9 * 32 / 9, rel=1e-12)


@pytest.mark.parametrize("size", [(1024, 2048), (100, 150)])
def test_cost_of_a_real_lattice_is_proportional_to_the_padded_area(size):
    found = target(config(FLOPS_ALL=26300.0), size, costs=build("tiny").costs)
    padded_height, padded_width = (math.ceil(side / DIVISOR) * DIVISOR for side in size)
    assert found.lattice_madds == pytest.approx(26.3e9 * padded_height * padded_width / 768**2, rel=1e-12)


def test_ratio_to_a_target_of_zero_is_none():
    assert target(config(LOSS_MU=0.0), (64, 64)).ratio_to_target(1.0) is None


def test_costs_of_several_passes_are_summed():
    found = target_of_passes(config(), ((64, 96), (32, 32)), ((64, 64),))
    assert found.lattice_madds == (64 * 96 + 32 * 32 + 64 * 64) / 2 * 1000
