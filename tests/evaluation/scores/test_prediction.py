import re

import pytest
import torch

from dl_lib.evaluation.runner.run import inference_on_dataset
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from dl_lib.evaluation.scores.prediction import read_outputs
from tests.helpers.evaluation import IGNORE, NAMES, FakeModel, batches_of, make_samples


def read(samples, outputs, *, num_classes=4, seconds=0.0):
    return read_outputs(samples, outputs, num_classes=num_classes, seconds=seconds)


def outputs_of(samples):
    return [FakeModel().output(sample) for sample in samples]


def test_classes_are_the_argmax_of_the_logits():
    samples = make_samples(2)
    outputs = outputs_of(samples)
    for output in outputs:
        output["sem_seg"] = torch.randn(output["sem_seg"].shape)
    for prediction, output in zip(read(samples, outputs), outputs, strict=True):
        assert prediction.classes.dtype == torch.uint8
        assert (prediction.classes == output["sem_seg"].argmax(dim=0)).all()


@pytest.mark.parametrize(("num_classes", "dtype"), [(256, torch.uint8), (257, torch.int32)])
def test_dtype_depends_on_the_number_of_classes(num_classes, dtype):
    (sample,) = make_samples(1)
    logits = torch.zeros(num_classes, 2, 2)
    logits[-1] = 1
    (output,) = outputs_of([sample])
    (prediction,) = read([sample], [output | {"sem_seg": logits}], num_classes=num_classes)
    assert prediction.classes.dtype == dtype
    assert (prediction.classes == num_classes - 1).all()


def test_confidence_of_every_fourth_row_and_column_if_requested():
    (sample,) = make_samples(1)
    (output,) = outputs_of([sample])
    output["sem_seg"] = torch.randn(4, 9, 11)
    settings = {"num_classes": 4, "seconds": 0.0}
    (plain,) = read_outputs([sample], [output], **settings)
    (prediction,) = read_outputs([sample], [output], **settings, with_confidence=True)
    assert plain.confidence is None and prediction.confidence.shape == (3, 3)
    torch.testing.assert_close(prediction.confidence[2, 1], output["sem_seg"][:, 8, 4].softmax(dim=0).max())


def test_fields_are_taken_from_sample_and_output():
    samples = make_samples(2)
    outputs = outputs_of(samples)
    outputs[1]["input_sizes"] = ((8, 8), (16, 16))
    del outputs[0]["gates"]
    first, second = read(samples, outputs, seconds=3.0)
    assert (first.image_id, first.file_name) == ("image_0", "images/image_0.png")
    assert (first.input_sizes, second.input_sizes) == (((32, 64),), ((8, 8), (16, 16)))
    assert (first.seconds, second.seconds) == (1.5, 1.5)
    assert second.costs.executed == outputs[1]["flops"]["executed_flops"] * 1e6
    assert first.gates is None and second.gates.dtype == torch.float64


def test_invalid_outputs_are_rejected():
    (sample,) = make_samples(1)
    with pytest.raises(ValueError, match=re.escape("Received: len(inputs)=1, len(outputs)=0")):
        read([sample], [])
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    with pytest.raises(ValueError, match=r"has 4 classes.*Received: logits.shape=\(6, 9, 11\)$"):
        inference_on_dataset(FakeModel(num_classes=6), batches_of([sample]), evaluator)
