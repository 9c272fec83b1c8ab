"""Exported dynamic networks decide per image like PyTorch, and skip what they close."""

import io
import json
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from dl_lib.inference.exporting.network import ExportedDynamicNetwork
from dl_lib.inference.exporting.onnx_file import to_onnx
from dl_lib.inference.exporting.tracing import trace
from dl_lib.modeling.dynamic.forced_gates import gates_of
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg
from tests.helpers.routes import random_route, randomize_norms
from tests.helpers.tiny_model import model_of

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SMALL = ["MODEL.BACKBONE.LAYER_NUM", 2, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3], "MODEL.BACKBONE.INIT_CHANNEL", 8]
SMALL += ["MODEL.BACKBONE.MAX_STRIDE", 16, "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1", "layer_2"]]
OPEN, CLOSED = 1.5, -5.0  # gate biases


@dataclass
class Exported:
    """Model with its graph and ONNX model, whose gates can be changed together."""

    model: DynamicNet4Seg
    program: Any
    proto: Any

    @classmethod
    def of(cls, *overrides, size, threshold=None, **options):
        model = model_of(*SMALL, *overrides).eval()
        randomize_norms(model)
        for gate in gates_of(model.backbone):
            nn.init.normal_(gate.predict.bias)  # equal constants become one
            gate.threshold = gate.threshold if threshold is None else threshold
        network = ExportedDynamicNetwork(model, size=None)
        program = trace(network, size, **options)
        return cls(model, program, to_onnx(program, output_names=network.output_names))

    @torch.no_grad()
    def set_gates(self, opened):
        """Open the gates of these edges, unless the image is unusual."""
        weights = {initializer.name: initializer for initializer in self.proto.graph.initializer}
        names = {module: name for name, module in self.model.named_modules()}
        for gate, edges in gates_of(self.model.backbone).items():
            gate.predict.bias.copy_(torch.tensor([OPEN if edge in opened else CLOSED for edge in edges]))
            name = f"{names[gate]}.predict.bias"
            weights[name].CopyFrom(onnx.numpy_helper.from_array(gate.predict.bias.detach().numpy(), name))

    def check(self, height, width, *, session=None):
        """Compare with the model on a random image; return its routing."""
        session = session or onnxruntime.InferenceSession(self.proto.SerializeToString())
        image = torch.randn(1, 3, height, width)
        logits, gates, gflops = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            features, routing = self.model.backbone(image)
            expected = self.model.sem_seg_head.to_input_size(self.model.sem_seg_head(features))
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
        torch.testing.assert_close(torch.from_numpy(gates), routing.gates_BE[0], rtol=0, atol=1e-5)
        assert gflops == pytest.approx(self.model.costs.table(height, width).real(routing).item() / 1e9, rel=1e-6)
        return routing


@pytest.fixture(scope="module")
def plain():
    return Exported.of(size=(64, 96), dynamic_size=True)


def routes(model, count):
    """Return sets of open edges: all, none, and random ones."""
    lattice = model.backbone.lattice
    return [{*lattice.edges}, set(), *({*random_route(lattice, random.Random(seed)).gates} for seed in range(count))]


def test_skips_closed_parts(plain, tmp_path):
    counts = set()
    for opened in routes(plain.model, 4):
        plain.set_gates(opened)
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(plain.proto.SerializeToString(), options)
        routing = plain.check(48, 80, session=session)
        with open(session.end_profiling()) as file:
            events = [event for event in json.load(file) if event["name"].endswith("_kernel_time")]
        executed = Counter(event["args"]["op_name"] for event in events)["Conv"]
        assert executed == expected_convolutions(plain.model, routing)
        counts.add(executed)
    assert len(counts) > 3


def expected_convolutions(model: DynamicNet4Seg, routing: Routing) -> int:
    """Count the convolutions of the parts that an image needs, by the definition of the route."""
    network, lattice = model.backbone, model.backbone.lattice
    gates = dict(zip(lattice.edges, routing.gates_BE[0].tolist(), strict=True))
    needed: list[nn.Module] = [network.stem, model.sem_seg_head]
    reached = {lattice.source}
    for node in lattice.nodes:
        if node in reached:
            cell, edges = network.cell(node), lattice.edges_from(node)
            active = [edge for edge in edges if gates[edge] > 0]
            needed += [cell.gate, *(cell.transitions[str(edge.move)] for edge in active)]
            needed += [cell.operation] if active else []
            reached |= {edge.target for edge in active or edges[:1]}  # a closed cell passes its input on along keep
    return sum(isinstance(module, nn.Conv2d) for part in needed for module in part.modules())


@pytest.mark.parametrize("size", [(32, 32), (16, 48), (144, 80)])
def test_any_size(plain, size):
    plain.set_gates(routes(plain.model, 1)[-1])
    plain.check(*size)


def test_graph_loads_from_a_file(plain):
    file = io.BytesIO()
    torch.export.save(plain.program, file)
    file.seek(0)
    image = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        expected = plain.program.module()(image)
        for found, one in zip(torch.export.load(file).module()(image), expected, strict=True):
            assert torch.equal(found, one)


OPERATIONS = {
    "hard": ["cond_conv_3x3", "skip_connect", "avg_pool_3x3", "none"],
    "sigmoid": ["dyn_conv_3x3", "sac_3x3"],  # dynamic convolutions at their initial temperature
    "softmax": ["rex_block_3x3", "max_pool_3x3", "dil_conv_3x3"],
}


@pytest.mark.parametrize(
    ("kind", "policy", "norm", "small", "threshold"),
    [
        ("hard", "published", "GN", False, None),
        ("sigmoid", "run", "SyncBN", True, 0.4),
        ("softmax", "skip", "FrozenBN", False, 0.2),
    ],
)
def test_gates_policies_and_operations(kind, policy, norm, small, threshold):
    settings = ["MODEL.GATE.KIND", kind, "MODEL.GATE.UNREACHED", policy, "MODEL.GATE.SMALL_GATE", small]
    settings += ["MODEL.BACKBONE.NORM", norm, "MODEL.BACKBONE.CELL_TYPE", OPERATIONS[kind]]
    exported = Exported.of(*settings, size=(64, 96), threshold=threshold)
    for opened in routes(exported.model, 2):
        exported.set_gates(opened)
        exported.check(64, 96)


def test_partly_fixed_route():
    entries = ["layer0_stride4.down=gate", "layer1_stride4.keep=0.25", "layer1_stride8.keep=gate"]
    entries += ["layer1_stride8.up=0.25", "layer1_stride8.down", "layer2_stride4.keep=gate"]
    entries += ["layer2_stride8.pass", "layer2_stride16.keep"]
    exported = Exported.of("MODEL.BACKBONE.ROUTE", entries, size=(64, 64))
    for opened in routes(exported.model, 3):
        exported.set_gates(opened)
        exported.check(64, 64)


@pytest.mark.parametrize("size", [(64, 100), (16, 64)])
def test_refuses_sizes_that_a_graph_for_any_size_does_not_take(plain, size):
    with pytest.raises(ValueError, match=rf"multiples of 16.*Received: size={size[0]}x{size[1]}"):
        trace(ExportedDynamicNetwork(plain.model, size=None), size, dynamic_size=True)
