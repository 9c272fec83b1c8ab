"""Conditional layers in `DynamicNet4Seg`: initialization and temperature."""

import math

import torch

from dl_lib.engine.hooks import recompute_norm_statistics
from dl_lib.engine.training.ema import ModelEMA
from dl_lib.layers import CondConv2d, DynamicConv2d, KernelAttention, SAConv2d
from tests.helpers.tiny_model import model_of, random_image


def test_temperature_anneals_in_training_and_is_in_the_state_dict():
    cell = ["MODEL.BACKBONE.CELL_TYPE", ["dyn_conv_3x3", "dyn_sep_conv_3x3"], "MODEL.TEMP_ANNEAL_RATE", 0.5]
    model = model_of(*cell)
    inputs = [random_image(64, 64, sem_seg=torch.zeros(64, 64, dtype=torch.uint8)) for _ in range(2)]

    def temperatures(model):
        return {value.item() for key, value in model.state_dict().items() if key.endswith("temperature")}

    assert temperatures(model) == {30.0}
    for step_rate, expected in ((0.0, 30.0), (0.25, 15.5), (0.5, 1.0), (1.0, 1.0), (0.25, 15.5)):
        model.train()(inputs, step_rate=step_rate)
        assert temperatures(model) == {expected}
    recompute_norm_statistics(model, batches=[inputs], num_batches=1)
    model.eval()(inputs)
    reloaded = model_of(*cell).eval()
    reloaded.load_state_dict(model.state_dict())
    assert temperatures(model) == temperatures(reloaded) == {15.5}


def test_ema_has_the_current_temperature():
    model = model_of("MODEL.BACKBONE.CELL_TYPE", ["dyn_conv_3x3"], "MODEL.TEMP_ANNEAL_RATE", 0.5)
    inputs = [random_image(64, 64, sem_seg=torch.zeros(64, 64, dtype=torch.uint8)) for _ in range(2)]
    ema = ModelEMA(model, decay=0.9)
    for step_rate in (0.0, 0.25, 1.0):
        model.train()(inputs, step_rate=step_rate)
        ema.update(model)
    assert {m.temperature.item() for m in ema.model.modules() if isinstance(m, KernelAttention)} == {1.0}


def test_conditional_layers_keep_their_initialization():
    model = model_of("MODEL.BACKBONE.CELL_TYPE", ["sac_3x3", "cond_conv_3x3", "dyn_conv_3x3"])
    seen = set()
    for module in model.backbone.modules():
        if isinstance(module, SAConv2d):
            assert module.switch.bias.item() == 1
            for zeros in (module.weight_diff, module.switch.weight, *module.pre_context.parameters()):
                assert not zeros.any()
            assert not any(p.any() for p in module.post_context.parameters())
            torch.testing.assert_close(module.standardized_weight(), module.weight)
        elif isinstance(module, CondConv2d | DynamicConv2d):
            fan_in, slope = math.prod(module.weight.shape[2:]), 5**0.5 if isinstance(module, CondConv2d) else 0
            bound = (6 / ((1 + slope**2) * fan_in)) ** 0.5  # He uniform initialization
            for kernel in module.weight:
                assert 0.8 * bound < kernel.abs().max() <= bound
        else:
            continue
        seen.add(type(module))
    assert seen == {SAConv2d, CondConv2d, DynamicConv2d}
