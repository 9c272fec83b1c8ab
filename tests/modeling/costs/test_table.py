"""Cost tables against the paper's figures, closed forms and torch's `FlopCounterMode`."""

import gzip
import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dl_lib.config import get_cfg
from dl_lib.modeling import build_model
from dl_lib.modeling.costs.counters import MaddsObserver, count_madds
from dl_lib.modeling.dynamic.lattice import Move, Node
from dl_lib.modeling.dynamic.ops import CELL_OPERATIONS, MBCONV_EXPANSION, CellOperation
from dl_lib.modeling.dynamic.routing import Routing
from tests.helpers.published import REFERENCE, SETTINGS


def model_of(*overrides):
    cfg = get_cfg()
    cfg.merge_from_list([*overrides, "MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        return build_model(cfg).eval()


L16 = model_of()
L16_SMALL_GATE = model_of("MODEL.GATE.SMALL_GATE", True)
L33 = model_of(*SETTINGS["Seg.Layer33.ImageNet"])


def all_open(model, height, width):
    table = model.costs.table(height, width)
    routing = Routing.all_open(table.lattice)
    return table.real(routing).item() / 1e6, table.real_complete(routing).item() / 1e6


@pytest.mark.parametrize(
    ("model", "size", "published", "complete"),
    [
        (L16, (1024, 2048), 119_491.5, 121_059.1),
        (L16_SMALL_GATE, (1024, 2048), 103_676.4, 104_976.6),
        (L16, (768, 768), 33_607.0, 34_047.9),
    ],
)
def test_costs_of_the_paper(model, size, published, complete):
    # The published code summed float32 values, hence a tolerance of 0.1 MFLOPs.
    assert all_open(model, *size) == (pytest.approx(published, abs=0.1), pytest.approx(complete, abs=0.1))


@pytest.mark.parametrize(("model", "expected"), [(L16, 26_891.69), (L16_SMALL_GATE, 26_891.69), (L33, 57_195.79)])
def test_expected_cost_with_all_gates_open(model, expected):
    assert model.costs.table(768, 768).expected_all_open / 1e6 == pytest.approx(expected, rel=2e-6)


def test_real_costs_with_all_gates_open():
    table = L16.costs.table(64, 128)
    routing = Routing.all_open(table.lattice)
    assert table.real(routing).item() - table.unrouted == table.expected_all_open
    assert table.real_complete(routing).item() == table.dense


@pytest.mark.parametrize("runs_unreached", [False, True])
def test_real_costs_with_all_gates_closed(runs_unreached):
    """Closed gates pass the input along the finest scale, whose gates are computed."""
    table = L16.costs.table(64, 128)
    reached = torch.tensor([[runs_unreached or node.scale == 0 for node in table.lattice.nodes]])
    routing = Routing(table.lattice, torch.zeros(1, len(table.lattice.edges)), reached)
    assert table.real(routing).item() == table.unrouted
    assert table.real_complete(routing).item() == table.all_closed(L16.backbone.route, runs_unreached=runs_unreached)


def test_measuring_costs_does_not_call_hooks_of_the_network():
    """Precise batch norm counts the calls of each norm by hooks, also in the first pass of an EMA."""
    model = model_of(*SETTINGS["tiny"])
    calls = []
    for module in model.modules():
        module.register_forward_pre_hook(lambda *_: calls.append("before"))
        module.register_forward_hook(lambda *_: calls.append("after"))
    model.costs.table(64, 64)
    assert calls == []


def test_costs_of_every_part_match_the_published_code():
    published = json.loads((REFERENCE / "costs_Seg.Layer16.json").read_text())
    for size, figures in published.items():
        height, width = map(int, size.split("x"))
        table = L16.costs.table(height, width)
        square_head = L16.costs.table(
            height, height
        ).head  # the published code used the height as the width of the head
        assert (table.stem / 1e6, square_head / 1e6) == pytest.approx((figures["stem"], figures["head"]), rel=1e-12)
        for layer, cells in enumerate([[figures["init_layer"]], *figures["cells"]]):
            for scale, cell in enumerate(cells):
                check_cell(table, Node(layer, scale), cell)


def check_cell(table, node, expected):
    assert table.operations[node] / 1e6 == pytest.approx(expected["cell"], rel=1e-12)
    assert table.gates[node] / 1e6 == pytest.approx(expected["gate"], rel=1e-12)
    moves = {Move[name.upper()]: expected[name] for name in ("keep", "up", "down")}
    for edge in table.lattice.edges_from(node):
        assert table.transitions[edge] / 1e6 == pytest.approx(moves[edge.move], rel=1e-12)


def observed(module, *shape):
    with MaddsObserver(1) as observer:
        module(torch.empty(shape, device="meta"))
    return observer.madds[0]


@pytest.mark.parametrize(
    "row", json.loads((REFERENCE / "candidate_operations.json").read_text()), ids=lambda r: r["op"]
)
def test_costs_of_cell_operations_match_the_published_code(row):
    with torch.device("meta"):
        operation = CELL_OPERATIONS.get(row["op"])(row["C_in"], norm="BN").eval()
    madds = observed(operation, 1, row["C_in"], *row["input_hw"])
    parameters = sum(p.numel() for p in operation.parameters())
    if row["error"]:  # the published MBConv cannot be built: closed form of an inverted residual's three convolutions
        c, inner, window = row["C_in"], MBCONV_EXPANSION * row["C_in"], int(row["op"][-1]) ** 2
        weights = c * inner + window * inner + inner * c
        assert parameters == weights + 2 * (inner + inner + c)
        assert madds == row["input_hw"][0] * row["input_hw"][1] * (weights + 3 * inner + 3 * inner + 2 * c)
    else:
        assert madds / 1e6 == pytest.approx(row["mflops"], rel=1e-12)
        assert parameters == row["params"]


def test_registry_contains_the_published_names():
    rows = json.loads((REFERENCE / "candidate_operations.json").read_text())
    assert {row["op"] for row in rows} <= set(dict(CELL_OPERATIONS))


def published_rows():
    with gzip.open(REFERENCE / "op_counts.json.gz", "rt") as file:
        return json.load(file)


def test_counters_agree_with_the_published_counting_functions():
    checked = 0
    for row in published_rows():
        kind, (height, width, *args), options = row["fn"], row["args"], row["kwargs"]
        if options.get("is_bias") or options.get("is_affine") is False or kind == "count_Linear_flop":
            continue  # biases are free, norms are affine, and the network has no linear layer
        if kind in ("count_Conv_flop", "count_ConvBNReLU_flop"):
            c_in, c_out, kernel_size = args
            stride = options.get("stride", 1)
            groups, padding = options.get("groups", 1), [k // 2 for k in kernel_size]
            if c_in % groups or any(side % stride for side in (height, width)):
                continue  # the formula rounds sizes down, or the arguments are invalid
            parts = [nn.Conv2d(c_in, c_out, kernel_size, stride, padding, groups=groups, bias=False)]
            if kind == "count_ConvBNReLU_flop":
                parts += [nn.BatchNorm2d(c_out), nn.ReLU()]
            module = nn.Sequential(*parts).to("meta")
        elif kind == "count_ReLU_flop":
            c_in, module = args[0], nn.ReLU()
        elif kind == "count_BN_flop":
            c_in, affine = args
            if not affine:
                continue
            module = nn.BatchNorm2d(c_in, device="meta")
        else:
            c_in, (k, _), stride = args
            if height % stride or width % stride:
                continue
            module = nn.MaxPool2d(k, stride=stride, padding=k // 2)
        assert observed(module.eval(), 1, c_in, height, width) / 1e6 == pytest.approx(row["mflops"], rel=1e-12), row
        checked += 1
    assert checked > 80


def test_convolutions_against_flop_counter_mode():
    """FlopCounterMode counts 2 per multiply-add of convolutions, and nothing else in this network."""
    size = (1, 3, 256, 512)
    convolutions = 0

    def count(module, x, y):
        nonlocal convolutions
        convolutions += count_madds(module, x[0], y)

    for module in L16.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    L16.backbone.sparse = False
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features, _ = L16.backbone(torch.empty(size, device="meta"))
        L16.sem_seg_head(features)
    assert convolutions == counter.get_total_flops() / 2


def test_stem_is_counted_on_the_full_grid():
    """The paper also counts the row and column that the unpadded first convolution omits."""
    stem, height, width = L16.backbone.stem, 256, 512
    inside = 0

    def count(module, x, y):
        nonlocal inside
        inside += count_madds(module, x[0], y)

    handles = [m.register_forward_hook(count) for m in stem.modules() if not list(m.children())]
    counted = observed(stem, 1, 3, height, width)
    for handle in handles:
        handle.remove()
    per_position = (3 * 9 + 9 + 64) * 64 + 2 * (2 + 1) * 64
    assert counted - inside == (height // 2 + width // 2 - 1) * per_position


def test_costs_are_those_of_the_padded_size():
    assert L16.costs.table(1000, 1500) is L16.costs.table(1024, 1504)


def test_expected_cost_by_hand():
    """Σ strongest gate × operation + Σ gate × transition, without the source's operation and the last transitions."""
    table = L16.costs.table(64, 64)
    lattice = table.lattice
    generator = torch.Generator().manual_seed(0)
    gates_BE = torch.rand(2, len(lattice.edges), generator=generator, dtype=torch.float64)
    routing = Routing(lattice, gates_BE, torch.ones(2, len(lattice.nodes), dtype=torch.bool))
    for image in range(2):
        gate = dict(zip(lattice.edges, gates_BE[image].tolist(), strict=True))
        expected = sum(
            max(gate[edge] for edge in lattice.edges_from(node)) * table.operations[node] for node in lattice.nodes[1:]
        )
        expected += sum(gate[e] * table.transitions[e] for e in lattice.edges if e.source.layer < lattice.num_layers)
        assert table.expected(routing)[image].item() == pytest.approx(expected, rel=1e-12)


def test_unknown_module_types_are_rejected():
    with pytest.raises(TypeError, match=r"Received: module=torch\.nn\.modules\.pooling\.LPPool2d"):
        observed(nn.LPPool2d(2, 2), 1, 3, 8, 8)


def test_repeated_operations_count_twice():
    operation = (
        CellOperation(8, cell_types=["sep_conv_3x3", "skip_connect", "sep_conv_3x3"], norm="BN").to("meta").eval()
    )
    assert list(operation) == ["sep_conv_3x3", "skip_connect", "sep_conv_3x3_2"]
    assert observed(operation, 1, 8, 4, 4) == 2 * observed(operation["sep_conv_3x3"], 1, 8, 4, 4)
