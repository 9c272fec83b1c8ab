"""Static networks under compilation, activation checkpointing and optimization for inference."""

import functools

import pytest
import torch

from dl_lib.evaluation.runner.peak_memory import LiveMemory
from dl_lib.inference import optimize
from dl_lib.validation import validate_config
from tests.modeling.meta_arch.test_semantic_segmentor import config_of, model_of, random_image
from tests.modeling.test_activation_checkpointing import batch_of, two_steps

CHECKPOINTING, COMPILE = ("MODEL.ACTIVATION_CHECKPOINTING", True), ("MODEL.COMPILE", True)
BACKBONES = {
    "rexnet": ["MODEL.BACKBONE.DROP_PROB", 0.3],
    "resnet18": ["MODEL.BACKBONE.WIDTH_FACTOR", 1.0],
    "mobilenet_v3_small": ["MODEL.BACKBONE.WIDTH_FACTOR", 1.0],
}


def network(backbone, *overrides):
    """Build the first stages, which contain every kind of block."""
    features = ["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c2", "c3"], "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 19]
    return model_of("MODEL.BACKBONE.NAME", backbone, *BACKBONES[backbone], *features, *overrides).double()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("switch", [CHECKPOINTING, COMPILE], ids=["checkpointing", "compiled"])
def test_training_is_unchanged(backbone, switch, monkeypatch):
    validate_config(config_of(*switch))
    expected = two_steps(network(backbone).train())
    # Test for graph breaks only; inductor is tested by torch.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True))
    torch.testing.assert_close(two_steps(network(backbone, *switch).train()), expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_activation_checkpointing_saves_memory(backbone):
    def peak(*overrides):
        model = network(backbone, *overrides).train()
        with LiveMemory() as memory:
            losses, _ = model(batch_of(0, side=128))
            sum(losses.values()).backward()
        return memory.peak_bytes

    assert peak(*CHECKPOINTING) < 0.8 * peak()


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_optimization_preserves_outputs_and_costs(backbone, norm):
    model = network(backbone, "MODEL.BACKBONE.NORM", norm).eval()
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 1.5)
    image = random_image(64, 64)
    with torch.inference_mode():
        (expected,) = model([image])
        optimized = optimize(model)
        (output,) = optimized([image])
    assert not any(hasattr(module, "running_var") for module in optimized.modules())
    torch.testing.assert_close(output["sem_seg"], expected["sem_seg"], rtol=1e-9, atol=1e-9)
    assert output["flops"] == expected["flops"]
    assert optimized.costs.madds(64, 64) / 1e6 == output["flops"]["executed_flops"]
