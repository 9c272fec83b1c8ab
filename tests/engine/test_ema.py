"""The average of the weights against the sum that it is by definition."""

import torch
from torch import nn

from dl_lib.engine.ema import ModelEma


def test_average_is_the_weighted_sum_of_what_it_has_seen():
    model = nn.BatchNorm1d(2).double()
    ema = ModelEma(model, decay=0.8)
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


def test_a_restored_average_goes_on_as_the_one_that_was_saved():
    model = nn.Linear(2, 2)
    ema = ModelEma(model, decay=0.5)
    ema.update(model)
    restored = ModelEma(nn.Linear(2, 2), decay=0.5)
    restored.load_state_dict(ema.state_dict())
    nn.init.ones_(model.weight)
    for average in (ema, restored):
        average.update(model)
    assert torch.equal(restored.model.weight, ema.model.weight)
    assert not torch.equal(restored.model.weight, model.weight)
