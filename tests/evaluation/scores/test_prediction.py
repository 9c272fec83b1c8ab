"""Outputs of a model as everything else gets them."""

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


def test_the_class_of_a_pixel_is_that_with_the_highest_logit():
    samples = make_samples(2)
    outputs = outputs_of(samples)
    for output in outputs:
        output["sem_seg"] = torch.randn(output["sem_seg"].shape)
    for prediction, output in zip(read(samples, outputs), outputs, strict=True):
        assert prediction.classes.dtype == torch.uint8
        assert (prediction.classes == output["sem_seg"].argmax(dim=0)).all()


@pytest.mark.parametrize(("num_classes", "dtype"), [(256, torch.uint8), (257, torch.int32)])
def test_many_classes_need_more_than_a_byte(num_classes, dtype):
    (sample,) = make_samples(1)
    logits = torch.zeros(num_classes, 2, 2)
    logits[-1] = 1
    (output,) = outputs_of([sample])
    (prediction,) = read([sample], [output | {"sem_seg": logits}], num_classes=num_classes)
    assert prediction.classes.dtype == dtype
    assert (prediction.classes == num_classes - 1).all()


def test_what_is_known_of_the_image_goes_with_it():
    samples = make_samples(2)
    outputs = outputs_of(samples)
    outputs[1]["input_sizes"] = ((8, 8), (16, 16))
    del outputs[0]["gates"]
    first, second = read(samples, outputs, seconds=3.0)
    assert (first.image_id, first.file_name) == ("image_0", "images/image_0.png")
    assert (first.input_sizes, second.input_sizes) == (((32, 64),), ((8, 8), (16, 16)))
    assert (first.costs.seconds, second.costs.seconds) == (1.5, 1.5)
    assert second.costs.executed == outputs[1]["flops"]["executed_flops"]
    assert first.gates is None and second.gates.dtype == torch.float64


def test_outputs_that_do_not_fit():
    (sample,) = make_samples(1)
    with pytest.raises(ValueError, match=re.escape("Received: len(inputs)=1, len(outputs)=0")):
        read([sample], [])
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    with pytest.raises(ValueError, match=r"has 4 classes.*Received: logits.shape=\(6, 9, 11\)$"):
        inference_on_dataset(FakeModel(num_classes=6), batches_of([sample]), evaluator)
