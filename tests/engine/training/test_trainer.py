"""Training loop compared with explicit gradient descent, resumed runs and errors."""

import math

import numpy as np
import pytest
import torch

from dl_lib.engine.hooks import Hook
from dl_lib.engine.training.train_step import GradientClip
from dl_lib.engine.training.trainer import NonFiniteLossError
from dl_lib.utils.logger import setup_logger
from tests.helpers.training import (
    At,
    LeastSquares,
    make_batch,
    plain_trainer,
    repeat_batch,
    restore_logging,
    resumable_trainer,
)


def as_arrays(batch):
    x = np.stack([sample["x"].numpy() for sample in batch])
    y = np.array([sample["y"].item() for sample in batch])
    return np.concatenate([x, np.ones((len(x), 1))], axis=1), y


def parameters_of(model):
    return np.append(model.weight.detach().numpy(), model.offset.item())


def test_equals_gradient_descent_and_converges_to_least_squares():
    batch = make_batch(0, size=20)
    trainer = plain_trainer(max_iter=400, loader=repeat_batch(batch), lr=0.2)
    x, y = as_arrays(batch)
    expected, losses = np.zeros(4), []
    for _ in range(400):
        losses.append(np.mean((x @ expected - y) ** 2))
        expected -= 0.2 * 2 / len(y) * x.T @ (x @ expected - y)
    trainer.hooks = [At(1, lambda t: np.testing.assert_allclose(t.events.latest("total_loss"), losses[0], rtol=1e-12))]
    trainer.train()
    np.testing.assert_allclose(parameters_of(trainer.model), expected, rtol=1e-10)
    np.testing.assert_allclose(parameters_of(trainer.model), np.linalg.lstsq(x, y, rcond=None)[0], rtol=1e-6)
    assert trainer.events.latest("loss_square") == pytest.approx(losses[-1], rel=1e-10)


@pytest.mark.parametrize("limit", [0.5, 1e6, 0.0])
def test_gradients_are_clipped_by_their_joint_norm(limit):
    batch = make_batch(1)
    x, y = as_arrays(batch)
    gradient = 2 / len(y) * x.T @ (x @ np.zeros(4) - y)
    norm = np.linalg.norm(gradient)
    assert norm > 0.5
    trainer = plain_trainer(max_iter=1, loader=repeat_batch(batch), lr=1.0, clip=GradientClip(limit))
    trainer.train()
    scale = min(1.0, limit / norm) if limit else 1.0
    np.testing.assert_allclose(parameters_of(trainer.model), -scale * gradient, rtol=1e-5)  # torch adds 1e-6 to norms
    assert trainer.events.latest("gradient_norm") == pytest.approx(norm, rel=1e-12)


def test_model_receives_the_step_rate():
    trainer = plain_trainer(max_iter=5)
    trainer.train()
    assert trainer.model.step_rates == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert trainer.events.latest("expt_gflops") == 2.0  # the model returns 2000 MFLOPs


def test_hooks_run_in_order_with_the_number_of_completed_steps():
    calls = []

    class Recorder(Hook):
        def __init__(self, name):
            self.name = name

    for moment in ("before_train", "before_step", "after_step", "after_train", "close", "on_interrupt"):
        setattr(Recorder, moment, lambda self, t, moment=moment: calls.append((self.name, moment, t.iteration)))
    plain_trainer(max_iter=2, hooks=[Recorder("a"), Recorder("b")]).train()
    moments = [("before_train", 0), ("before_step", 0), ("after_step", 1), ("before_step", 1), ("after_step", 2)]
    moments += [("after_train", 2), ("close", 2)]
    assert calls == [(name, *moment) for moment in moments for name in "ab"]


class Diverging(LeastSquares):
    """Least squares with a second loss that is infinite in the fourth step."""

    def forward(self, batched_inputs, step_rate=0.0):
        losses, costs = super().forward(batched_inputs, step_rate)
        factor = math.inf if len(self.step_rates) == 4 else 0.125
        return {**losses, "loss_budget": factor * (1 + self.offset * 0)}, costs


def test_non_finite_loss_stops_before_the_weights_change():
    weights = []
    closed = []

    class Recorder(Hook):
        def after_step(self, trainer):
            weights.append(parameters_of(trainer.model))

        def close(self, trainer):
            closed.append(trainer.iteration)

    trainer = plain_trainer(max_iter=10, model=Diverging(), hooks=[Recorder()])
    with pytest.raises(NonFiniteLossError, match="iteration 3/10") as caught:
        trainer.train()
    message = str(caught.value)
    for term in ("total_loss=inf", "loss_square=", "loss_budget=inf", "gradient_norm=nan", "Received: "):
        assert term in message
    assert f"loss_square={trainer.events.latest('loss_square'):.1f}" != "loss_square=nan"
    np.testing.assert_array_equal(parameters_of(trainer.model), weights[-1])
    assert closed == [3]


def test_non_finite_gradient_stops():
    class Root(LeastSquares):
        def forward(self, batched_inputs, step_rate=0.0):
            return {"loss_root": self.weight.square().sum().sqrt()}, {}  # 0 with a gradient of 0 / 0

    trainer = plain_trainer(max_iter=3, model=Root())
    with pytest.raises(NonFiniteLossError, match="loss_root=0, gradient_norm=nan"):
        trainer.train()
    assert torch.equal(trainer.model.weight.detach(), torch.zeros(3, dtype=torch.float64))


def test_finite_loader_is_rejected():
    trainer = plain_trainer(max_iter=3, loader=[make_batch(0)])
    with pytest.raises(ValueError, match=r"infinite.*Received: loader=list, iteration=1, max_iter=3"):
        trainer.train()


def test_resumed_run_equals_an_uninterrupted_one(tmp_path):
    uninterrupted = resumable_trainer(tmp_path / "whole", max_iter=12)
    uninterrupted.train()

    def stop(trainer):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        resumable_trainer(tmp_path / "parts", max_iter=12, hooks=[At(5, stop)]).train()
    assert caught.value.code == 130
    resumed = resumable_trainer(tmp_path / "parts", max_iter=12)
    assert (resumed.start_iteration, resumed.iteration) == (5, 5)
    resumed.train()
    assert resumed.iteration == 12
    assert resumed.model.step_rates == [i / 12 for i in range(5, 12)]
    for mine, theirs in zip(resumed.model.parameters(), uninterrupted.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert resumed.events.latest("learning_rate") == uninterrupted.events.latest("learning_rate")
    assert resumed.events.latest("total_loss") == uninterrupted.events.latest("total_loss")


class Stateful(Hook):
    steps = 0

    def after_step(self, trainer):
        self.steps += 1

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def test_a_hook_is_only_given_a_state_of_its_own():
    with_hook, without = plain_trainer(max_iter=2, hooks=[Stateful()]), plain_trainer(max_iter=2)
    for trainer in (with_hook, without):
        trainer.train()
        trainer.gather_state()
    again = plain_trainer(max_iter=2, hooks=[Hook(), Stateful()])
    again.load_state_dict(without.state_dict())  # of a run without the hook
    assert again.hooks[1].steps == 0
    again.load_state_dict(with_hook.state_dict())
    assert again.hooks[1].steps == 2
    without.load_state_dict(with_hook.state_dict())  # the state of an absent hook is ignored


def test_resumed_finished_run_makes_no_step(tmp_path):
    resumable_trainer(tmp_path, max_iter=3).train()
    again = resumable_trainer(tmp_path, max_iter=3)
    before = parameters_of(again.model)
    again.train()
    assert again.model.step_rates == []
    np.testing.assert_array_equal(parameters_of(again.model), before)


class Closing(Hook):
    def __init__(self, closed, *, fails):
        self.closed = closed
        self.fails = fails

    def close(self, trainer):
        self.closed.append(self.fails)
        if self.fails:
            raise OSError("cannot be closed")


def test_failing_close_does_not_prevent_other_closes():
    closed = []
    trainer = plain_trainer(max_iter=1, hooks=[Closing(closed, fails=True), Closing(closed, fails=False)])
    with pytest.raises(OSError, match="cannot be closed"):
        trainer.train()
    assert closed == [True, False]


def test_failing_close_does_not_hide_the_error():
    closed = []
    hooks = [Closing(closed, fails=True), Closing(closed, fails=True)]
    with pytest.raises(NonFiniteLossError):
        plain_trainer(max_iter=9, model=Diverging(), hooks=hooks).train()
    assert closed == [True, True]


def test_error_is_logged_with_its_iteration_to_the_file_only(tmp_path, capsys):
    def fail(trainer):
        raise RuntimeError("my own hook")

    with restore_logging():
        setup_logger(tmp_path)
        with pytest.raises(RuntimeError, match="my own hook"):
            plain_trainer(max_iter=5, hooks=[At(3, fail)]).train()
    log = (tmp_path / "log.txt").read_text()
    assert "Stopped by an error at iteration 3/5" in log
    assert "Traceback" in log
    assert "RuntimeError: my own hook" in log
    assert "my own hook" not in capsys.readouterr().out  # Python prints the uncaught error
