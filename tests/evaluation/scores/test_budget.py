import math
from dataclasses import dataclass

import pytest
from fvcore.common.config import CfgNode

from dl_lib.evaluation.scores.budget import summarize_budget
from dl_lib.evaluation.scores.result import ImageRecord
from dl_lib.modeling.costs.costs import Costs
from tests.helpers.published import build

DIVISOR = 32
ZERO = Costs(0.0, 0.0, 0.0, 0.0)


@dataclass
class Table:
    pixels: int

    @property
    def expected_all_open(self):
        return 1000.0 * self.pixels

    @property
    def dense(self):
        return 1500 * self.pixels

    @property
    def unrouted(self):
        return 100 * self.pixels


class Tables:
    """Cost tables of a network with 1000 multiply-adds per pixel of the padded image in its lattice, 1500 in total."""

    def table(self, height, width):
        padded_height, padded_width = (math.ceil(side / DIVISOR) * DIVISOR for side in (height, width))
        return Table(padded_height * padded_width)


def config(**budget):
    values = {"CONSTRAIN": True, "CONTROL": "penalty", "LOSS_MU": 0.25, "FLOPS_ALL": 0.0, **budget}
    return CfgNode({"MODEL": {"BUDGET": values}, "INPUT": {"CROP_SIZE": [768, 768]}})


def target(cfg, *sizes, costs=None):
    return target_of_passes(cfg, *((size,) for size in sizes), costs=costs)


def target_of_passes(cfg, *passes, costs=None, spent=ZERO):
    images = [ImageRecord("", "", input_sizes=sizes, costs=spent, seconds=0.0, scores=None) for sizes in passes]
    return summarize_budget(cfg, costs=costs or Tables(), images=images)


def test_without_a_budget_there_is_no_target():
    assert target(config(CONSTRAIN=False), (64, 64)) is None


def test_lattice_is_measured_at_the_padded_size_of_each_image():
    found = target(config(), (64, 96), (33, 100))
    assert found.full_madds == (64 * 96 + 64 * 128) / 2 * 1000
    assert found.target_madds == found.full_madds / 4


def test_configured_lattice_cost_is_scaled_from_the_crop():
    """The published configs' 26,300 MFLOPs at 768x768, evaluated at 1024x2048: 32/9 of the area."""
    found = target(config(FLOPS_ALL=26300.0), (1024, 2048))
    assert found.full_madds == pytest.approx(26.3e9 * 32 / 9, rel=1e-12)


@pytest.mark.parametrize("size", [(1024, 2048), (100, 150)])
def test_cost_of_a_real_lattice_is_proportional_to_the_padded_area(size):
    found = target(config(FLOPS_ALL=26300.0), size, costs=build("tiny").costs)
    padded_height, padded_width = (math.ceil(side / DIVISOR) * DIVISOR for side in size)
    assert found.full_madds == pytest.approx(26.3e9 * padded_height * padded_width / 768**2, rel=1e-12)


def test_ratio_to_a_target_of_zero_is_none():
    assert target(config(LOSS_MU=0.0), (64, 64)).ratio_to_target is None


def test_costs_of_several_passes_are_summed():
    found = target_of_passes(config(), ((64, 96), (32, 32)), ((64, 64),))
    assert found.full_madds == (64 * 96 + 32 * 32 + 64 * 64) / 2 * 1000


@pytest.mark.parametrize(
    ("budget", "cost", "madds", "target", "full"),
    [
        ({}, "expected", 300.0, 250.0, 1000.0),
        ({"CONTROL": "target", "TARGET": 0.5, "TARGET_UNIT": "ratio"}, "real, cells and transitions", 500, 500, 1000),
        # 0.6 GFLOPs per image of 768x768 are 1017.25 per pixel.
        (
            {"CONTROL": "target", "TARGET": 0.6, "TARGET_UNIT": "gflops"},
            *("real complete", 700.0, 0.6e9 / 768**2, 1500.0),
        ),
    ],
)
def test_constrained_cost_and_target(budget, cost, madds, target, full):
    """Costs per pixel of an image with two passes."""
    pixels = 64 * 96 + 32 * 32
    spent = Costs(*(value * pixels for value in (300.0, 600.0, 700.0, 800.0)))
    found = target_of_passes(config(**budget), ((64, 96), (32, 32)), spent=spent)
    values = [value / pixels for value in (found.madds, found.target_madds, found.full_madds)]
    assert found.cost == cost and values == pytest.approx([madds, target, full])
    assert found.ratio_to_target == pytest.approx(madds / target)
