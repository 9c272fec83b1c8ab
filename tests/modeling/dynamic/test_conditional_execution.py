"""Conditional execution equals sparse execution, for learned and partly fixed routes, and runs the same parts."""

import random

import pytest
import torch

from dl_lib.modeling.costs.counters import MaddsObserver
from dl_lib.modeling.dynamic import conditional_execution
from dl_lib.modeling.dynamic.conditional_execution import run_conditional
from dl_lib.modeling.dynamic.gate import GATE_KINDS
from dl_lib.modeling.dynamic.lattice import Move
from dl_lib.modeling.dynamic.sparse_execution import run_sparse
from tests.helpers.routes import force, random_route, randomize_norms
from tests.helpers.tiny_model import model_of

SMALL = ["MODEL.BACKBONE.LAYER_NUM", 3, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3, 3], "MODEL.BACKBONE.INIT_CHANNEL", 8]
SMALL += ["MODEL.BACKBONE.MAX_STRIDE", 16, "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1", "layer_2"]]


@torch.no_grad()
def check_equals_sparse_execution(model, *, height=64, width=96):
    """Compare on a random image; return the routing."""
    randomize_norms(model)
    network = model.double().eval().backbone
    x = network.stem(torch.randn(1, 3, height, width, dtype=torch.float64))
    expected, routing = run_sparse(network, x.clone())
    with MaddsObserver(1) as observer:
        features, found = run_conditional(network, x)
    for y, y_expected in zip(features, expected, strict=True):
        torch.testing.assert_close(y, y_expected)
    torch.testing.assert_close(found.gates_BE, routing.gates_BE, check_dtype=False)
    assert torch.equal(found.reached_BN, routing.reached_BN)
    table = model.costs.table(height, width)
    active = routing.active_BE[0].tolist()
    shared = sum(  # transitions along keep, whose ReLU is that of the operation
        table.transitions[edge]
        for edge, is_active in zip(network.lattice.edges, active, strict=True)
        if is_active and edge.move is Move.KEEP
    )
    assert observer.madds[0] == table.real_complete(routing).item() - table.unconditional - shared
    return routing


@pytest.mark.parametrize("policy", ["skip", "run", "published"])
def test_forced_routes(policy):
    model = model_of(*SMALL, "MODEL.GATE.UNREACHED", policy)
    edges = model.backbone.lattice.edges
    for seed in range(8):
        route = random_route(model.backbone.lattice, random.Random(seed), values=(0.25, 1.0))
        force(model, route)
        routing = check_equals_sparse_execution(model)
        opened = {edge for edge, gate in zip(edges, routing.gates_BE[0], strict=True) if gate > 0}
        assert opened == {*route.gates} if policy != "run" else opened >= {*route.gates}


@pytest.mark.parametrize("policy", ["skip", "run", "published"])
@pytest.mark.parametrize("kind", GATE_KINDS)
def test_partly_fixed_routes_of_every_gate_kind(kind, policy):
    settings = [*SMALL, "MODEL.GATE.KIND", kind, "MODEL.GATE.UNREACHED", policy, "MODEL.GATE.GATE_INIT_BIAS", 0.0]
    lattice = model_of(*settings).backbone.lattice
    for seed in range(6):
        route = random_route(lattice, random.Random(seed), values=(0.25, 1.0), learned=0.6)
        if not route.is_fixed:
            check_equals_sparse_execution(model_of(*settings, "MODEL.BACKBONE.ROUTE", route.entries()))


def test_fixed_parts_have_no_condition(monkeypatch):
    lattice = model_of(*SMALL).backbone.lattice
    entries = [f"{edge}=gate" if edge.source.layer == 3 else str(edge) for edge in lattice.edges]
    model = model_of(*SMALL, "MODEL.BACKBONE.ROUTE", entries)
    conditions = []
    run_if = conditional_execution.run_if

    def record(condition, *arguments, **modules):
        conditions.append(condition)
        return run_if(condition, *arguments, **modules)

    monkeypatch.setattr(conditional_execution, "run_if", record)
    check_equals_sparse_execution(model)
    last_layer = len(lattice.layers[-1])
    assert sum(condition is not True for condition in conditions) == last_layer  # one for each operation
