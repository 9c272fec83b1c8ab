"""A network of a route equals the routed network whose gates are forced to the route."""

import random

import pytest
import torch

from dl_lib.inference import optimize
from dl_lib.inference.freezing import route_state_dict
from dl_lib.modeling.dynamic.ops import CELL_OPERATIONS
from dl_lib.modeling.dynamic.route import Route
from tests.helpers.routes import VALUES, force, random_route, randomize_norms
from tests.helpers.tiny_model import model_of, random_image

GATE_VALUES = {"soft": VALUES, "hard": (1.0,)}
COSTS = ("expt_flops", "real_flops_complete", "executed_flops")


def pair(route_of, *overrides, kind="soft", seed=0):
    """Return the forced model, the model of the route with the same weights, and the route."""
    whole = model_of("MODEL.GATE.KIND", kind, *overrides)
    randomize_norms(whole)
    route = route_of(whole.backbone.lattice, random.Random(seed))
    restricted = model_of("MODEL.GATE.KIND", kind, *overrides, "MODEL.BACKBONE.ROUTE", route.entries())
    restricted.load_state_dict(route_state_dict(whole, route))
    force(whole.double(), route)
    return whole, restricted.double(), route


def fixed(kind):
    return lambda lattice, rng: random_route(lattice, rng, values=GATE_VALUES[kind])


def labelled(count=2):
    torch.manual_seed(3)
    return [random_image(64, 96, sem_seg=torch.randint(0, 5, (64, 96))) for _ in range(count)]


def costs_of(output, *, without_gates_of=None):
    costs = {name: output["flops"][name] for name in COSTS}
    if without_gates_of is not None:
        table, routing = without_gates_of
        gates = sum(table.gates[node] for node in routing.reached if node in table.gates) / 1e6
        costs |= {name: costs[name] - gates for name in COSTS[1:]}
    return costs


def check_equal(whole, restricted, route):
    batch = labelled()
    whole.eval(), restricted.eval()
    with torch.no_grad():
        expected, outputs = whole(batch), restricted(batch)
    table = whole.costs.table(64, 96)
    for one, other in zip(expected, outputs, strict=True):
        torch.testing.assert_close(one["sem_seg"], other["sem_seg"], rtol=1e-9, atol=1e-9)
        assert costs_of(other) == pytest.approx(costs_of(one, without_gates_of=(table, route)), rel=1e-12)
        assert "gates" not in other


@pytest.mark.parametrize("kind", GATE_VALUES)
@pytest.mark.parametrize("seed", range(6))
def test_outputs_costs_and_executed_parts_are_those_of_the_forced_network(seed, kind):
    check_equal(*pair(fixed(kind), kind=kind, seed=seed))


@pytest.mark.parametrize("operation", sorted(name for name, _ in CELL_OPERATIONS if name != "none"))
def test_every_cell_operation(operation):
    check_equal(*pair(fixed("soft"), "MODEL.BACKBONE.CELL_TYPE", [operation, "skip_connect"], seed=1))


@pytest.mark.parametrize("kind", GATE_VALUES)
@pytest.mark.parametrize("seed", range(3))
def test_losses_and_gradients_are_those_of_the_forced_network(seed, kind):
    whole, restricted, _ = pair(fixed(kind), kind=kind, seed=seed)
    batch = labelled()
    for model in (whole, restricted):
        losses, _ = model.train()(batch, step_rate=0.0)
        sum(losses.values()).backward()
    expected = dict(whole.named_parameters())
    for name, parameter in restricted.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-7, atol=1e-9)
    assert sum(p.numel() for p in restricted.parameters()) < sum(p.numel() for p in whole.parameters())


@torch.no_grad()
def vary_learned_gates(restricted, whole):
    """Give the learned gates of both models weights with which they differ between images."""
    for node in restricted.backbone.route.cells:
        if (gate := restricted.backbone.cell(node).gate) is None:
            continue
        torch.nn.init.normal_(gate.predict.weight, std=3.0)
        torch.nn.init.normal_(gate.predict.bias, std=1.0)
        edges, gates = whole.backbone.lattice.edges_from(node), restricted.backbone.route.gates
        rows = [row for row, edge in enumerate(edges) if edge in gates and gates[edge] is None]
        whole.backbone.cell(node).gate.predict.weight[rows] = gate.predict.weight
        whole.backbone.cell(node).gate.predict.bias[rows] = gate.predict.bias


@pytest.mark.parametrize("unreached", ["skip", "run", "published"])
@pytest.mark.parametrize("seed", range(4))
def test_partly_learned_route(seed, unreached):
    """Sparse and dense execution are equal, and, except for edges that the published policy counts, to the whole."""

    def route_of(lattice, rng):
        return random_route(lattice, rng, values=VALUES, learned=0.6)

    whole, restricted, route = pair(route_of, "MODEL.GATE.UNREACHED", unreached, seed=seed)
    vary_learned_gates(restricted, whole)
    batch = labelled(3)
    results = []
    for model, sparse in ((restricted, True), (restricted, False), (whole, True))[
        : 2 if unreached == "published" else 3
    ]:
        model.eval().backbone.sparse = sparse
        with torch.no_grad():
            results.append(model(batch))
    for own, *others in zip(*results, strict=True):
        assert own["flops"]["executed_flops"] == own["flops"]["real_flops_complete"]
        for other in others:
            torch.testing.assert_close(own["sem_seg"], other["sem_seg"], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(own["gates"], other["gates"], rtol=1e-9, atol=1e-9)
        opened = {edge for edge, gate in zip(route.lattice.edges, own["gates"].tolist(), strict=True) if gate}
        assert opened <= {*route.gates}


def test_whole_lattice_as_a_route_is_the_network_without_gates():
    by_name = model_of("MODEL.BACKBONE.ROUTE", "all_open")
    without_gates = model_of("MODEL.GATE.GATE_ON", False)
    assert [*by_name.state_dict()] == [*without_gates.state_dict()]
    assert by_name.backbone.route == without_gates.backbone.route == Route.whole(by_name.backbone.lattice, gated=False)


def test_activation_checkpointing_and_optimization_keep_the_results():
    _, plain, route = pair(fixed("soft"), seed=2)
    recomputed = model_of("MODEL.BACKBONE.ROUTE", route.entries(), "MODEL.ACTIVATION_CHECKPOINTING", True).double()
    recomputed.load_state_dict(plain.state_dict())
    gradients = []
    for model in (plain, recomputed):
        losses, _ = model.train()(labelled(), step_rate=0.0)
        sum(losses.values()).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
    model = plain.float().eval()
    with torch.no_grad():
        expected, output = model(labelled(1))[0], optimize(model)(labelled(1))[0]
    torch.testing.assert_close(output["sem_seg"], expected["sem_seg"], rtol=1e-4, atol=1e-4)
    assert output["flops"] == expected["flops"]
