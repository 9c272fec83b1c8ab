"""Recognition and translation of published classifiers."""

import json

import pytest
import torch

from dl_lib.checkpoint.conversion.classifiers import ClassifierConverter, translate_classifier
from dl_lib.modeling.backbones.rexnet_classifier import ReXNetClassifier
from tests.helpers.layer_references import OPS
from tests.helpers.published import hollow_weights

SHAPES = json.loads((OPS / "rexnet" / "state_dict_w1.0.json").read_text())


def hollow(shapes):
    return {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}


@pytest.mark.parametrize("kind", ["v1", "lite"])
def test_every_published_key_is_translated(kind):
    with torch.device("meta"):
        model = ReXNetClassifier(lite=kind == "lite")
    translation = translate_classifier(hollow(SHAPES[kind]))
    assert not translation.untranslated
    shapes = {key: value.shape for key, value in translation.weights.items()}
    assert shapes == {key: value.shape for key, value in model.state_dict().items()}


def test_other_files_are_not_recognised():
    with torch.device("meta"):
        own = ReXNetClassifier().state_dict()
    for weights in (own, hollow_weights("tiny"), {}):
        assert not ClassifierConverter().recognises(weights, model=torch.nn.Identity())


def test_keys_without_a_counterpart_are_listed():
    weights = hollow({**SHAPES["v1"], "features.5.out.9.weight": [1], "features.2.weight": [1], "ema": []})
    translation = translate_classifier(weights)
    assert set(translation.untranslated) >= {"features.2.weight", "ema"}
