"""Exported static networks compute the outputs of the model in ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dl_lib.data.catalog import DatasetMeta
from dl_lib.inference.exporting.api import export
from dl_lib.inference.exporting.description import ModelDescription
from dl_lib.inference.exporting.network import ExportedNetwork
from dl_lib.inference.exporting.onnx_file import to_onnx
from dl_lib.inference.exporting.tracing import trace
from tests.helpers.routes import randomize_norms
from tests.helpers.tiny_model import model_of

SIZE = (61, 80)  # not a multiple of the strides
ROUTED = [
    *("MODEL.BACKBONE.LAYER_NUM", 1, "MODEL.BACKBONE.CELL_NUM_LIST", [2], "MODEL.BACKBONE.MAX_STRIDE", 8),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1"]),
]
PER_IMAGE_KERNELS = ["MODEL.BACKBONE.CELL_TYPE", ["cond_conv_3x3"]]


@pytest.mark.parametrize(
    ("overrides", "batch"),
    [
        pytest.param(ROUTED, "batch", id="routed"),
        pytest.param([*ROUTED, *PER_IMAGE_KERNELS], 1, id="kernels of each image"),
    ],
)
def test_outputs_in_batches_equal_those_of_the_model(overrides, batch):
    model = model_of(*overrides).eval()
    randomize_norms(model)
    network = ExportedNetwork(model)
    exported = to_onnx(trace(network, SIZE), output_names=network.output_names)
    assert not any(node.metadata_props for node in exported.graph.node)  # paths of this machine
    assert batch_of(exported.graph.input[0]) == batch_of(exported.graph.output[0]) == batch
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    for num_images in (1,) if batch == 1 else (1, 3):
        images = torch.randint(0, 256, (num_images, 3, *SIZE), dtype=torch.uint8)
        with torch.no_grad():
            expected = np.stack([output["sem_seg"] for output in model([{"image": image} for image in images])])
        normalized = (images - model.pixel_mean) / model.pixel_std
        (found,) = session.run(None, {"image": normalized.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "precision", "weights", "smallest"),
    [
        ("a.onnx", "fp16", onnx.TensorProto.FLOAT16, 1e-6),
        ("a.onnx", "int8", onnx.TensorProto.INT8, 1e-4),
        ("a.pt2", "fp16", None, 1e-6),
        ("a.xml", "fp16", None, 1e-6),
    ],
)
def test_reduced_precision_is_that_of_the_weights_only(name, precision, weights, smallest, tmp_path):
    model = model_of(*ROUTED).eval()
    randomize_norms(model)
    path, classes = tmp_path / name, model.sem_seg_head.predictor.out_channels
    meta = DatasetMeta(tuple(f"class {i}" for i in range(classes)), tuple((i, i, i) for i in range(classes)))
    images = list(torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8))
    verification = export(
        model,
        path,
        format={".onnx": "onnx", ".pt2": "torch-export", ".xml": "openvino"}[path.suffix],
        description=ModelDescription(meta, "BGR"),
        size=(64, 64),
        precision=precision,
        images=images[:2],
        calibration_images=images if precision == "int8" else (),
    )
    assert smallest < verification.difference < verification.tolerance
    if weights is not None:
        exported = onnx.load(path)
        kernels = {tensor.name: tensor.data_type for tensor in exported.graph.initializer if len(tensor.dims) == 4}
        others = {name for name, data_type in kernels.items() if data_type != weights}
        assert len(others) < len(kernels) / 2 and all("gate.predict" in name for name in others)
        types = {info.type.tensor_type.elem_type for info in (exported.graph.input[0], exported.graph.output[0])}
        assert types == {onnx.TensorProto.FLOAT}


def batch_of(info):
    dim = info.type.tensor_type.shape.dim[0]
    return dim.dim_param or dim.dim_value
