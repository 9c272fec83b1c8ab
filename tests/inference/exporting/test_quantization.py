"""Quantization of exported networks to 8-bit integers."""

import numpy as np
import onnx
import onnxruntime
import torch

from dl_lib.inference.exporting.network import ExportedNetwork
from dl_lib.inference.exporting.onnx_file import to_onnx
from dl_lib.inference.exporting.quantization import quantize
from dl_lib.inference.exporting.tracing import trace
from tests.helpers.tiny_model import model_of

SIZE = (64, 64)
SMALL = [
    *("MODEL.BACKBONE.LAYER_NUM", 2, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3], "MODEL.BACKBONE.MAX_STRIDE", 16),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1", "layer_2"]),
]


def test_outputs_are_close_and_convolutions_are_of_integers(tmp_path):
    network = ExportedNetwork(model_of(*SMALL).eval())
    model = to_onnx(trace(network, SIZE), output_names=network.output_names)
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(1, 3, *SIZE, generator=generator).numpy() for _ in range(8)]
    quantized = quantize(model, images)
    assert weight_bytes(quantized) < 0.5 * weight_bytes(model)

    (expected,), (found,) = (run(proto, images[0]) for proto in (model, quantized))
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    assert np.mean(found.argmax(1) == expected.argmax(1)) > 0.9

    # ONNX Runtime fuses the quantization of inputs and outputs into each convolution.
    operators = {node.op_type for node in optimized(quantized, tmp_path / "optimized.onnx").graph.node}
    assert "QLinearConv" in operators and not {"Conv", "FusedConv"} & operators


def test_a_shared_bias_keeps_its_name_from_feature_maps():
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[1, 1, 4, 4] image) => (float[1, 1, 4, 4] logits)
    <float[1, 1, 1, 1] kernel = {2.0}, float[1] bias = {0.5}> {
      first = Conv(image, kernel, bias)
      bias0 = Relu(first)
      second = Conv(bias0, kernel, bias)
      logits = Mul(second, bias0)
    }"""
    model = onnx.parser.parse_model(text)
    image = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    (expected,), (found,) = (run(proto, image) for proto in (model, quantize(model, [image])))
    np.testing.assert_allclose(found, expected, atol=0.02 * expected.max())


def weight_bytes(proto):
    return sum(tensor.ByteSize() for tensor in proto.graph.initializer)


def run(proto, image):
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"image": image})


def optimized(proto, path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3  # it warns that the file is for this machine only
    onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return onnx.load(path)
