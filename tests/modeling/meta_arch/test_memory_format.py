"""Memory format of `DynamicNet4Seg` (`MODEL.CHANNELS_LAST`): choices, equal outputs, strides of gradients."""

import pytest
import torch

from dl_lib.config import ConfigError
from dl_lib.modeling.dynamic import conditional_ops
from tests.helpers.tiny_model import model_of, random_image


def test_conditional_operations_run_in_channels_last_format():
    names = [f"{name}_3x3" for name in conditional_ops.__all__]
    plain, model = (
        model_of("MODEL.BACKBONE.CELL_TYPE", names, "MODEL.CHANNELS_LAST", on).double().eval() for on in (False, True)
    )
    assert model.backbone.stem.conv2.pointwise.weight.is_contiguous(memory_format=torch.channels_last)
    inputs = [random_image(64, 64)]
    with torch.no_grad():
        torch.testing.assert_close(model(inputs)[0]["sem_seg"], plain(inputs)[0]["sem_seg"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("choice", "expected"), [("auto", True), (True, True), ("True", True), (False, False)])
def test_memory_format_on_a_cpu(choice, expected):
    weight = model_of("MODEL.CHANNELS_LAST", choice).backbone.stem.conv1.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == expected


def test_unknown_memory_format():
    with pytest.raises(ConfigError, match=r"must be auto, True or False. Received: MODEL.CHANNELS_LAST='nonsense'"):
        model_of("MODEL.CHANNELS_LAST", "nonsense")


def test_channels_last_gradients_have_the_strides_of_their_parameters():
    """DistributedDataParallel warns otherwise, even if strides differ only in dimensions of size 1."""
    model = model_of("MODEL.CHANNELS_LAST", True).train()
    losses, _ = model([random_image(64, 64, sem_seg=torch.zeros(64, 64, dtype=torch.uint8)) for _ in range(2)])
    losses["loss_sem_seg"].backward()
    differing = {name for name, p in model.named_parameters() if p.grad.stride() != p.stride()}
    assert differing == set()
