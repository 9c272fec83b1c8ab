"""Metadata of exported files: round trip, and refusal of anything else."""

import json
from dataclasses import replace

import pytest
import torch

from dl_lib.checkpoint import CheckpointError
from dl_lib.inference.exporting.metadata import EvaluationResize, ExportMetadata
from dl_lib.modeling.dynamic.route import Route
from dl_lib.modeling.dynamic.routing import Routing, Unreached

METADATA = ExportMetadata(
    class_names=("road", "straße"),
    class_colors=((0, 0, 0), (255, 1, 2)),
    channel_order="BGR",
    pixel_mean=(103.53, 116.28, 123.675),
    pixel_std=(1.0, 1.0, 1.0),
    test_resize=EvaluationResize(512, 1024, "cv2"),
    size=(96, 64),
    size_divisor=1,
    with_preprocessing=False,
    dynamic=True,
    precision="float32",
    cells_per_layer=(2, 3),
    unreached="published",
    config_digest="ab",
    versions={"torch": "2.14"},
)


def test_round_trip():
    text = METADATA.to_json()
    assert ExportMetadata.from_json(text, path="a.onnx") == METADATA
    values = json.loads(text)
    assert (values["format_version"], values["inputs"]) == (1, ["image"])
    assert values["edges"][:2] == ["layer0_stride4.keep", "layer0_stride4.down"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format_version", 2),
        ("format_version", True),
        ("class_names", ["road"]),
        ("class_names", ["road", "road"]),
        ("class_colors", [[0, 0, 256], [0, 0, 0]]),
        ("channel_order", "GBR"),
        ("pixel_mean", [1.0, 2.0]),
        ("pixel_mean", [10**400, 1.0, 1.0]),
        ("pixel_std", [1.0, 0.0, 1.0]),
        ("pixel_std", [1.0, float("nan"), 1.0]),
        ("test_resize", {"short_edge_px": 0, "max_size_px": 1, "backend": "cv2"}),
        ("test_resize", {"short_edge_px": 1}),
        ("size", [10**9, 1]),
        ("size_divisor", True),
        ("outputs", ["labels"]),
        ("outputs", ["logits", "gates", "real_gflops", "other"]),
        ("cells_per_layer", []),
        ("dynamic", False),
        ("cells_per_layer", [16] * 3),
        ("unreached", "ask"),
        ("route", "layer0_stride4.keep=gate"),
        ("route", ["layer0_stride4.keep=gate"]),
        ("route", ["layer9_stride4.keep"]),
        ("versions", ["2.14"]),
    ],
)
def test_invalid_values_are_refused(name, value):
    values = json.loads(METADATA.to_json()) | {name: value}
    with pytest.raises(CheckpointError, match=r"export the run again .* Received: path='a.onnx'"):
        ExportMetadata.from_json(json.dumps(values), path="a.onnx")


@pytest.mark.parametrize("text", ["", "[]", "{}", "1", "[" * 10**5, " " * 2**23, b"\xff"])
def test_other_texts_are_refused(text):
    with pytest.raises(CheckpointError, match="must be those that dl_lib export writes"):
        ExportMetadata.from_json(text, path="a.onnx")


def test_routing_is_that_of_a_partly_fixed_route():
    lattice = METADATA.lattice
    entries = ["layer0_stride4.keep=gate", "layer0_stride4.down", "layer1_stride4.keep=gate", "layer1_stride8.keep"]
    entries += ["layer2_stride4.keep=gate", "layer2_stride8.keep"]
    route = Route.parse(lattice, entries)
    metadata = replace(METADATA, route=tuple(route.entries()))
    gates = torch.tensor([[float(edge in route.gates and route.gates[edge] is not None) for edge in lattice.edges]])
    expected = Routing.of_gates(route, gates, unreached=Unreached.PUBLISHED)
    found = ExportMetadata.from_json(metadata.to_json(), path="a.onnx").routing(gates)
    assert torch.equal(found.reached_BN, expected.reached_BN)
    assert not torch.equal(found.reached_BN, METADATA.routing(gates).reached_BN)


def test_files_without_a_route_have_learned_gates_everywhere():
    values = json.loads(METADATA.to_json())
    del values["route"]
    assert ExportMetadata.from_json(json.dumps(values), path="a.onnx") == METADATA
