"""Sparse execution equals dense execution for any routing, at the cost that the routing predicts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dl_lib.config import get_cfg
from dl_lib.modeling import build_model
from dl_lib.modeling.costs.counters import MaddsObserver
from dl_lib.modeling.dynamic import conditional_ops, sparse_execution
from dl_lib.modeling.dynamic.lattice import Move
from dl_lib.modeling.dynamic.routing import Routing, Unreached
from dl_lib.modeling.dynamic.sparse_execution import run_sparse

CELLS = [2, 3, 3]


def make_model(*, overrides=()):
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.BACKBONE.LAYER_NUM", 3, "MODEL.BACKBONE.CELL_NUM_LIST", CELLS, "MODEL.DEVICE", "cpu"])
    cfg.merge_from_list(["MODEL.BACKBONE.INIT_CHANNEL", 8, "MODEL.BACKBONE.MAX_STRIDE", 16])
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1", "layer_2"], *overrides])
    model = build_model(cfg).double().eval()
    for module in model.modules():  # running statistics and biases that map zeros to nonzero values
        if isinstance(module, nn.modules.batchnorm._NormBase):
            nn.init.normal_(module.bias, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, std=0.3)
    return model


CONDITIONAL = [f"{name}_3x3" for name in conditional_ops.__all__]
MODEL = make_model()
CONDITIONAL_MODEL = make_model(overrides=["MODEL.BACKBONE.CELL_TYPE", ["skip_connect", *CONDITIONAL]])
LATTICE = MODEL.backbone.lattice


def run(model, images, gates_BE, *, sparse):
    """Run the backbone with given gate values; return features, routing and observed multiply-adds."""
    model.backbone.sparse = sparse
    columns = torch.tensor(gates_BE, dtype=torch.float64).split(
        [len(LATTICE.edges_from(n)) for n in LATTICE.nodes], dim=1
    )
    handles = [
        model.backbone.cell(node).gate.register_forward_hook(
            lambda gate, x, y, given=given: given[list(observer._images)]
        )
        for node, given in zip(LATTICE.nodes, columns, strict=True)
    ]
    with torch.no_grad(), MaddsObserver(len(images)) as observer:
        features, routing = model.backbone(images, observer=observer)
        model.sem_seg_head(features)
    for handle in handles:
        handle.remove()
    return list(features.values()), routing, observer.madds


gate_values = st.sampled_from([0.0, 0.0, 0.5, 1.0, 3e-5])
routes = st.lists(
    st.lists(gate_values, min_size=len(LATTICE.edges), max_size=len(LATTICE.edges)), min_size=1, max_size=3
)


@pytest.mark.parametrize(("model", "examples"), [(MODEL, 40), (CONDITIONAL_MODEL, 4)], ids=["plain", "conditional"])
def test_sparse_equals_dense_at_the_predicted_cost(model, examples):
    check = given(gates_BE=routes, policy=st.sampled_from(["skip", "run", "published"]))(check_sparse_equals_dense)
    settings(max_examples=examples, deadline=None)(check)(model=model)


def check_sparse_equals_dense(model, gates_BE, policy):
    model.backbone.unreached = Unreached(policy)
    images = torch.randn(len(gates_BE), 3, 32, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sparse_features, sparse_routing, sparse_madds = run(model, images, gates_BE, sparse=True)
    dense_features, dense_routing, dense_madds = run(model, images, gates_BE, sparse=False)
    for sparse, dense in zip(sparse_features, dense_features, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-12, atol=1e-12)
    assert torch.equal(sparse_routing.gates_BE, dense_routing.gates_BE)
    assert torch.equal(sparse_routing.reached_BN, dense_routing.reached_BN)
    table = model.costs.table(32, 48)
    assert sparse_madds == table.real_complete(sparse_routing).tolist()
    assert set(dense_madds) == set(table.real_complete(Routing.all_open(LATTICE)).tolist())


@settings(max_examples=20, deadline=None)
@given(gates_BE=routes)
def test_batch_equals_single_images(gates_BE):
    images = torch.randn(len(gates_BE), 3, 32, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    together, routing, madds = run(MODEL, images, gates_BE, sparse=True)
    for i, gates_E in enumerate(gates_BE):
        alone, routing_alone, madds_alone = run(MODEL, images[i : i + 1], [gates_E], sparse=True)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[i : i + 1], b, rtol=1e-12, atol=1e-12)
        assert torch.equal(routing.gates_BE[i], routing_alone.gates_BE[0])
        assert madds[i] == madds_alone[0]


@given(gates_E=st.lists(gate_values, min_size=len(LATTICE.edges), max_size=len(LATTICE.edges)))
@settings(max_examples=30, deadline=None)
def test_reached_cells(gates_E):
    """Compare with a traversal of the lattice that follows the definition."""
    MODEL.backbone.unreached = Unreached("skip")
    _, routing, _ = run(MODEL, torch.zeros(1, 3, 32, 32, dtype=torch.float64), [gates_E], sparse=True)
    gate = dict(zip(LATTICE.edges, gates_E, strict=True))
    reached = {LATTICE.source}
    for node in LATTICE.nodes:
        if node in reached:
            is_open = sum(gate[edge] for edge in LATTICE.edges_from(node)) >= 1e-4
            for edge in LATTICE.edges_from(node):
                if (is_open and gate[edge] > 0) or (not is_open and edge.move is Move.KEEP):
                    reached.add(edge.target)
    assert routing.reached_BN[0].tolist() == [node in reached for node in LATTICE.nodes]


def test_closed_source_passes_its_input_on():
    gates = [[0.0] * len(LATTICE.edges)]
    MODEL.backbone.unreached = Unreached("skip")
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    features, _, madds = run(MODEL, images, gates, sparse=True)
    with torch.no_grad():
        torch.testing.assert_close(features[0], MODEL.backbone.stem(images))
    assert not any(feature.any() for feature in features[1:])
    table = MODEL.costs.table(32, 32)
    gates_on_the_way = sum(table.gates[node] for node in LATTICE.nodes if node.scale == 0)
    assert madds == [table.stem + table.head + gates_on_the_way]


def test_fixed_routing_runs_everything_without_gates():
    model = make_model(overrides=["MODEL.GATE.GATE_ON", False])
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        features, routing = model.backbone(images)
    assert routing.gates_BE.eq(1).all()
    with_gates = make_model()
    with_gates.load_state_dict(model.state_dict(), strict=False)
    expected, _, _ = run(with_gates, images, torch.ones(2, len(LATTICE.edges)).tolist(), sparse=False)
    torch.testing.assert_close(list(features.values()), expected)
    assert not any(model.costs.table(32, 32).gates.values())


def test_unreached_cells_receive_no_gradient_with_skip():
    """Unreached cells receive gradients with `published` only."""
    for policy, moves in (("skip", False), ("published", True)):
        model = make_model(overrides=["MODEL.GATE.UNREACHED", policy]).train()
        gate = model.backbone.cell(LATTICE.source).gate
        nn.init.zeros_(gate.predict.weight)
        with torch.no_grad():
            gate.predict.bias.copy_(torch.tensor([1.0, -1.0]))  # the source delivers along keep only
        features, routing = model.backbone(torch.randn(2, 3, 64, 64, dtype=torch.float64))
        sum(feature.sum() for feature in features.values()).backward()
        cell = model.backbone.cell(LATTICE.layers[1][1])
        gradient = cell.operation["sep_conv_3x3"][1].norm.bias.grad
        assert bool(gradient.any()) is moves, policy
        assert bool(routing.reached_BN[:, 2].any()) is moves


def test_sparse_execution_requires_evaluation_mode():
    model = make_model().train()
    with pytest.raises(ValueError, match="Received: training=True"):
        run_sparse(model.backbone, torch.zeros(1, 8, 8, 8).double(), observer=MaddsObserver(1))


def test_one_device_synchronization_per_layer(monkeypatch):
    waits = []
    to_cpu = sparse_execution._to_cpu
    monkeypatch.setattr(sparse_execution, "_to_cpu", lambda values: waits.append(len(values)) or to_cpu(values))
    MODEL.backbone.sparse = True
    with torch.no_grad():
        MODEL.backbone(torch.randn(2, 3, 32, 32, dtype=torch.float64))
    assert len(waits) == len(LATTICE.layers)
