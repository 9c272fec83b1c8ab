"""Gradient accumulation, clipping, skipped steps and mixed precision compared with explicit computations."""

import pytest
import torch
from torch import nn

from dl_lib.engine.training.non_finite import NonFiniteLossError, NonFinitePolicy
from dl_lib.engine.training.precision import Precision
from dl_lib.engine.training.train_step import GradientClip, TrainStep
from dl_lib.engine.training.trainer import Trainer
from tests.helpers.training import LeastSquares, make_batch, plain_trainer, repeat_batch

CPU = torch.device("cpu")


def test_micro_batches_equal_the_whole_batch():
    whole = make_batch(0, size=12)
    micro_batches = [whole[:4], whole[4:8], whole[8:]]
    models = [LeastSquares(), LeastSquares()]
    means = []
    for model, batches in zip(models, ([whole], micro_batches), strict=True):
        step = TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.1))
        means.append(step.backward(batches, step_rate=0.0))
        step.apply()
    assert means[1].keys() == means[0].keys()
    for name, value in means[0].items():
        torch.testing.assert_close(means[1][name], value, rtol=1e-12, atol=0)
    torch.testing.assert_close(models[1].weight, models[0].weight, rtol=1e-12, atol=0)


def test_trainer_accumulates_batches():
    trainer = plain_trainer(max_iter=3, accumulation_steps=2)
    trainer.train()
    expected = LeastSquares()
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    for number in range(3):
        optimizer.zero_grad()
        expected(make_batch(2 * number) + make_batch(2 * number + 1))[0]["loss_square"].backward()
        optimizer.step()
    torch.testing.assert_close(trainer.model.weight, expected.weight, rtol=1e-12, atol=0)


def test_clipping_by_value():
    free, clipped = LeastSquares(), LeastSquares()
    TrainStep(free, torch.optim.SGD(free.parameters())).backward([make_batch(0)], step_rate=0.0)
    clip = GradientClip(0.5, "value")
    scalars = TrainStep(clipped, torch.optim.SGD(clipped.parameters()), clip=clip).backward(
        [make_batch(0)], step_rate=0.0
    )
    assert (free.weight.grad.abs() > 0.5).any()
    assert torch.equal(clipped.weight.grad, free.weight.grad.clamp(-0.5, 0.5))
    norm = torch.cat([free.weight.grad, free.offset.grad[None]]).norm()
    torch.testing.assert_close(scalars["gradient_norm"], norm)  # before clipping


class NormCubed(nn.Module):
    """Cubed output of a norm; NaN inputs give a NaN loss and NaN running statistics."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, batched_inputs, step_rate=0.0):
        x = torch.stack([sample["x"] for sample in batched_inputs])
        return {"loss": (self.norm(x) ** 3).mean()}, {}


def nan_batches(bad):
    for number in range(100):
        generator = torch.Generator().manual_seed(number)
        x = torch.rand(4, 2, generator=generator)
        yield [{"x": row * (float("nan") if number in bad else 1)} for row in x]


def nan_trainer(*, bad, max_iter, max_skipped, precision=None):
    model = NormCubed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    policy = NonFinitePolicy(max_skipped)
    batches = nan_batches(bad)
    return Trainer(model, batches, optimizer, max_iter=max_iter, precision=precision, non_finite=policy)


@pytest.mark.parametrize(("precision_name", "final_scale"), [("float32", 1), ("fp16", 2**16 / 4)])
def test_skipped_step_only_lowers_the_loss_scale(precision_name, final_scale):
    precision = Precision(precision_name, device=CPU)
    with_bad = nan_trainer(bad={1, 3}, max_iter=5, max_skipped=2, precision=precision)
    with_bad.train()
    model = NormCubed()
    good = [batch for number, batch in enumerate(nan_batches(set())) if number in (0, 2, 4)]
    Trainer(model, iter(good), torch.optim.SGD(model.parameters(), lr=0.1), max_iter=3).train()
    for name, value in model.state_dict().items():
        assert torch.equal(with_bad.model.state_dict()[name], value), name
    assert with_bad.state_dict()["skipped_steps"] == 2
    assert precision.scaler.get_scale() == final_scale


def test_skipped_steps_are_limited():
    with pytest.raises(NonFiniteLossError, match=r"in iteration 3/9 .*, after 2 skipped steps"):
        nan_trainer(bad={1, 2, 3}, max_iter=9, max_skipped=2).train()


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_forward_pass_uses_the_precision(name, dtype):
    linear = nn.Linear(4, 4)
    with Precision(name, device=CPU).autocast():
        assert linear(torch.ones(1, 4)).dtype == dtype
    assert linear.weight.dtype == torch.float32


class LossInFloat32(nn.Module):
    """Linear map under autocast with a float32 loss, as in the networks."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))

    def forward(self, batched_inputs, step_rate=0.0):
        x = torch.stack([sample["x"] for sample in batched_inputs])
        return {"loss": (x @ self.weight[:, None]).float().square().mean()}, {}


SINGLE = [{"x": sample["x"].float()} for sample in make_batch(0)]


def test_float16_scales_losses_and_unscales_gradients():
    model, precision = LossInFloat32(), Precision("fp16", device=CPU)
    precision.load_state_dict({**precision.state_dict(), "scale": 256.0})
    step = TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.1), precision=precision)
    step.backward([SINGLE], step_rate=0.0)
    found = model.weight.grad.clone()
    model.zero_grad()
    model(SINGLE)[0]["loss"].backward()
    torch.testing.assert_close(found, model.weight.grad, rtol=5e-3, atol=1e-3)
    assert not torch.equal(found, model.weight.grad)


def test_float16_overflow_skips_the_step_and_halves_the_scale():
    model, precision = LossInFloat32(), Precision("fp16", device=CPU)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, scale = model.weight.detach().clone(), precision.scaler.get_scale()
    Trainer(model, repeat_batch(SINGLE), optimizer, max_iter=1, precision=precision).train()
    assert torch.equal(model.weight, before)
    assert precision.scaler.get_scale() == scale / 2
    restored = Precision("fp16", device=CPU)
    restored.load_state_dict(precision.state_dict())
    assert restored.scaler.get_scale() == scale / 2
