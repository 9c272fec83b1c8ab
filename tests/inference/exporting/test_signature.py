"""Inputs and outputs of exported files: those of the metadata are accepted, others refused."""

from dataclasses import replace

import numpy as np
import pytest

from dl_lib.checkpoint import CheckpointError
from dl_lib.inference.exporting.signature import TensorType, check_declared, check_outputs, input_type, output_types
from tests.inference.exporting.test_metadata import METADATA

LABELS = replace(METADATA, with_preprocessing=True, size=None)
MANY_CLASSES = replace(LABELS, class_names=tuple(map(str, range(257))), class_colors=((0, 0, 0),) * 257)
GATES = {"gates": np.zeros(len(METADATA.edges), np.float32), "real_gflops": np.array(1, np.float32)}


def logits(*shape, dtype=np.float32):
    return {"logits": np.zeros(shape, dtype), **GATES}


def labels(value, *, dtype=np.uint8):
    return {"labels": np.full((1, 5, 7), value, dtype), **GATES}


def test_types_of_inputs_and_outputs():
    assert str(input_type(METADATA)) == "float32[any, 3, 96, 64]"
    assert str(input_type(LABELS)) == "uint8[any, any, any, 3]"
    types = output_types(LABELS, size=(None, None))
    assert {name: str(found) for name, found in types.items()} == {
        "labels": "uint8[any, any, any]",
        "gates": f"float32[{len(METADATA.edges)}]",
        "real_gflops": "float32[]",
    }


def test_outputs_of_the_metadata_are_accepted():
    check_outputs(METADATA, logits(1, 2, 96, 64), size=(96, 64), path="a.onnx")
    check_outputs(LABELS, labels(1), size=(5, 7), path="a.onnx")
    check_outputs(MANY_CLASSES, labels(256, dtype=np.int32), size=(5, 7), path="a.onnx")


@pytest.mark.parametrize(
    ("metadata", "outputs", "size"),
    [
        (METADATA, logits(1, 3, 96, 64), (96, 64)),
        (METADATA, logits(1, 2, 48, 32), (96, 64)),
        (METADATA, logits(1, 2, 96, 64, dtype=np.float64), (96, 64)),
        (METADATA, logits(2, 96, 64), (96, 64)),
        (METADATA, logits(2, 2, 96, 64), (96, 64)),
        (METADATA, {"logits": logits(1, 2, 96, 64)["logits"]}, (96, 64)),
        (METADATA, {**logits(1, 2, 96, 64), "gates": GATES["gates"][1:]}, (96, 64)),
        (LABELS, labels(2), (5, 7)),
        (LABELS, labels(1), (7, 5)),
        (LABELS, labels(1, dtype=np.int32), (5, 7)),
        (MANY_CLASSES, labels(-1, dtype=np.int32), (5, 7)),
    ],
)
def test_other_outputs_are_refused(metadata, outputs, size):
    with pytest.raises(CheckpointError, match=r"outputs of an exported file must be those of its metadata"):
        check_outputs(metadata, outputs, size=size, path="a.onnx")


def test_declarations_may_leave_lengths_open_but_not_differ():
    image, outputs = {"image": input_type(METADATA)}, output_types(METADATA, size=(96, 64))
    check_declared(METADATA, inputs=image, outputs=outputs, path="a.onnx")

    def logits_of(*shape):
        return {**outputs, "logits": TensorType(np.dtype(np.float32), shape)}

    check_declared(METADATA, inputs=image, outputs=logits_of(1, 2, None, None), path="a.onnx")
    for other in (logits_of(1, 3, None, None), logits_of(1, 2, 96), dict(reversed(outputs.items()))):
        with pytest.raises(CheckpointError, match=r"inputs and outputs of an exported file must be those of its"):
            check_declared(METADATA, inputs=image, outputs=other, path="a.onnx")
