"""The formula of the real cost equals the cost table at every size."""

import pytest
import torch

from dl_lib.modeling.costs.any_size import RealCost
from dl_lib.modeling.costs.counters import count_madds
from dl_lib.modeling.dynamic.ops import CELL_OPERATIONS, Zero
from dl_lib.modeling.dynamic.routing import Routing
from tests.helpers.tiny_model import model_of

SMALL = ["MODEL.BACKBONE.LAYER_NUM", 2, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3], "MODEL.BACKBONE.MAX_STRIDE", 16]
SMALL += ["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1", "layer_2"]]


def routings(lattice, count=3):
    generator = torch.Generator().manual_seed(0)
    gates = torch.rand(count, len(lattice.edges), generator=generator).round()
    return Routing(lattice, gates, torch.ones(count, len(lattice.nodes), dtype=torch.bool))


@pytest.mark.parametrize("small", [False, True])
def test_equals_the_table(small):
    operations = [name for name, _ in CELL_OPERATIONS]
    model = model_of(*SMALL, "MODEL.GATE.SMALL_GATE", small, "MODEL.BACKBONE.CELL_TYPE", operations)
    cost, routing = RealCost(model.backbone, model.costs), routings(model.backbone.lattice)
    for height, width in ((64, 64), (80, 144), (112, 208)):
        expected = model.costs.table(height, width).real(routing)
        assert torch.equal(cost(routing, height=height, width=width), expected)


def test_refuses_costs_that_are_no_multiple_of_the_pixels(monkeypatch):
    class Rows(Zero):
        pass

    count_madds.register(Rows, lambda module, x, y: x.shape[2])
    monkeypatch.setitem(CELL_OPERATIONS._obj_map, "rows", lambda channels, *, norm: Rows())
    model = model_of(*SMALL, "MODEL.BACKBONE.CELL_TYPE", ["rows"])
    with pytest.raises(ValueError, match=r"multiple of the number of pixels.*Received: madds="):
        RealCost(model.backbone, model.costs)
