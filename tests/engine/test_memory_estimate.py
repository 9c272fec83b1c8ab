"""Peak memory predicted on fake tensors: that of real executions, and independent of the size of the tensors."""

import pytest
import torch

from dl_lib.config import get_cfg
from dl_lib.engine.memory_estimate import estimate_inference, estimate_training
from dl_lib.experiment.experiment import load_experiment
from dl_lib.modeling import DynamicNet4Seg, build_model
from dl_lib.modeling.dynamic.forced_gates import force_gates
from tests.helpers.memory import measured_peak_bytes, random_batch
from tests.helpers.tiny_model import TINY

TOLERANCE = 0.15


def network_of(name, *overrides):
    if name == "tiny":
        cfg = get_cfg()
        cfg.merge_from_list([*TINY, *overrides])
    else:
        cfg = load_experiment(name, ["MODEL.DEVICE=cpu"], purpose="evaluation").cfg
    cfg = cfg.with_values({"MODEL.BUDGET.CONSTRAIN": False})
    torch.manual_seed(0)
    model = build_model(cfg)
    if isinstance(model, DynamicNet4Seg):
        force_gates(model.backbone, lambda edge: True)
    return cfg, model


@pytest.mark.parametrize(
    ("name", "size", "num_images"),
    [("Quickstart", (96, 96), 4), ("Zoo/Digits.CondConv", (64, 96), 2), ("Zoo/Digits.ReXNet", (96, 96), 8)],
)
@pytest.mark.parametrize("training", [True, False])
def test_predicted_memory_is_the_allocated_one(name, size, num_images, training):
    cfg, model = network_of(name)
    estimate = (estimate_training if training else estimate_inference)(cfg, model, size=size, num_images=num_images)
    measured = measured_peak_bytes(cfg, model, random_batch(size, num_images=num_images), training=training)
    assert estimate.peak_bytes == pytest.approx(measured, rel=TOLERANCE)


def test_options_that_save_memory():
    size = (128, 128)
    plain = estimate_training(*network_of("tiny"), size=size, num_images=2)
    checkpointed = estimate_training(
        *network_of("tiny", "MODEL.ACTIVATION_CHECKPOINTING", True), size=size, num_images=2
    )
    ema = estimate_training(*network_of("tiny", "SOLVER.EMA.DECAY", 0.9), size=size, num_images=2)
    assert checkpointed.activation_bytes < 0.9 * plain.activation_bytes
    assert ema.optimizer_bytes >= plain.optimizer_bytes + 0.9 * plain.weight_bytes
    assert plain.peak_bytes == plain.weight_bytes + plain.optimizer_bytes + plain.activation_bytes


def test_the_model_is_not_changed_and_nothing_large_is_allocated():
    cfg, model = network_of("tiny")
    model.eval()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    estimate = estimate_training(cfg, model, size=(16384, 16384), num_images=64)
    assert estimate.peak_bytes > 2**40, "more than this machine has"
    assert not model.training and all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_batches_that_cannot_be_trained():
    cfg, model = network_of("tiny")
    with pytest.raises(ValueError, match="too small"):
        estimate_training(cfg, model, size=(8, 8), num_images=1)
