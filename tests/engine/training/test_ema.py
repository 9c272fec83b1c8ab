"""EMA of the weights compared with its definition and with torch."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dl_lib.engine.training.ema import ModelEMA


def test_ema_is_the_weighted_sum_of_the_weights():
    model = nn.BatchNorm1d(2).double()
    ema = ModelEMA(model, decay=0.8)
    seen = []
    for value in (1.0, 5.0, -2.0):
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_mean.fill_(10 * value)
        ema.update(model)
        seen.append(value)
    expected = 0.8**2 * seen[0] + 0.8 * 0.2 * seen[1] + 0.2 * seen[2]
    torch.testing.assert_close(ema.model.weight, torch.full((2,), expected, dtype=torch.float64))
    torch.testing.assert_close(ema.model.running_mean, torch.full((2,), 10 * expected, dtype=torch.float64))


def test_integer_buffers_are_averaged_as_in_torch():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    model.register_buffer("seen", torch.tensor([[3, 70], [-5, 0]]))
    ema = ModelEMA(model, decay=0.9)
    reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for step in range(1, 20):
        model[0].num_batches_tracked += step
        model[1].num_batches_tracked += 1
        model.seen += step
        ema.update(model)
        reference.update_parameters(model)
        for mine, expected in zip(ema.model.buffers(), reference.module.buffers(), strict=True):
            torch.testing.assert_close(mine, expected, rtol=0, atol=0)


def test_restored_ema_continues_like_the_saved_one():
    model = nn.Linear(2, 2)
    ema = ModelEMA(model, decay=0.5)
    ema.update(model)
    restored = ModelEMA(nn.Linear(2, 2), decay=0.5)
    restored.load_state_dict(ema.state_dict())
    nn.init.ones_(model.weight)
    for average in (ema, restored):
        average.update(model)
    assert torch.equal(restored.model.weight, ema.model.weight)
    assert not torch.equal(restored.model.weight, model.weight)
