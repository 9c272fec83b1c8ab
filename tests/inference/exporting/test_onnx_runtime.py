"""ONNX files in ONNX Runtime: outputs, and files that fail or differ from their declaration only when they run."""

from dataclasses import replace

import onnx
import pytest
import torch

from dl_lib.checkpoint import CheckpointError
from dl_lib.data.errors import InvalidSampleError
from dl_lib.inference.exporting.metadata import METADATA_KEY
from dl_lib.inference.exporting.onnx_runtime import OnnxModel
from tests.inference.exporting.test_metadata import METADATA

LOGITS = replace(METADATA, channel_order="RGB", pixel_mean=(0.0,) * 3, size=None, dynamic=False, cells_per_layer=())
LABELS = replace(LOGITS, with_preprocessing=True)
IMAGE = torch.arange(3 * 6 * 8, dtype=torch.uint8).view(3, 6, 8)

# The logits of the two classes are the red and green values; labels are the red values.
LOGITS_GRAPH = """(float[batch, 3, height, width] image) => (float[batch, 2, height, width] logits) {
  starts = Constant<value = int64[1] {0}>()
  ends = Constant<value = int64[1] {2}>()
  axes = Constant<value = int64[1] {1}>()
  logits = Slice(image, starts, ends, axes)
}"""
LABELS_GRAPH = """(uint8[batch, height, width, 3] image) => (uint8[batch, height, width] labels) {
  red = Constant<value = int64 {0}>()
  labels = Gather<axis = 3>(image, red)
}"""
CROPPING_GRAPH = LOGITS_GRAPH.replace("[1] {0}", "[2] {0, 0}").replace("[1] {2}", "[2] {2, -1}")
CROPPING_GRAPH = CROPPING_GRAPH.replace("[1] {1}", "[2] {1, 3}")
FAILING_GRAPH = """(float[batch, 3, height, width] image) => (float[batch, 2, height, width] logits) {
  outside = Constant<value = int64[2] {0, 7}>()
  logits = Gather<axis = 1>(image, outside)
}"""


def opened(path, graph, metadata):
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> file {graph}')
    onnx.helper.set_model_props(proto, {METADATA_KEY: metadata.to_json()})
    path.write_bytes(proto.SerializeToString())
    return OnnxModel(path)


def test_outputs(tmp_path):
    (output,) = opened(tmp_path / "a.onnx", LOGITS_GRAPH, LOGITS)([{"image": IMAGE}])
    assert torch.equal(output["sem_seg"], IMAGE[:2].float())
    model = opened(tmp_path / "b.onnx", LABELS_GRAPH, LABELS)
    (output,) = model([{"image": IMAGE % 2}])
    assert torch.equal(output["labels"], IMAGE[0] % 2)
    with pytest.raises(InvalidSampleError, match=r"labels of the size of the image.*of 6x8, output of 12x16"):
        model([{"image": IMAGE % 2, "height": 12, "width": 16}])


@pytest.mark.parametrize(
    ("graph", "metadata", "message"),
    [
        (CROPPING_GRAPH, LOGITS, r"must be those of its metadata.*, logits: float32\[1, 2, 6, 7\]"),
        (LABELS_GRAPH, LABELS, "must be those of its metadata, labels from 0 to 1;.*, 0 to 47"),
        (FAILING_GRAPH, LOGITS, r"must be able to run .*, input of shape \(1, 3, 6, 8\), .*out of data bounds"),
        (LOGITS_GRAPH.replace("height", "5"), LOGITS, r"must be able to run .* index: 2 Got: 6 Expected: 5"),
    ],
)
def test_files_that_fail_when_they_run(graph, metadata, message, tmp_path):
    model = opened(tmp_path / "a.onnx", graph, metadata)
    with pytest.raises(CheckpointError, match=message):
        model([{"image": IMAGE}])
