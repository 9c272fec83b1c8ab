"""Hooks in runs of the least-squares model."""

import errno
import os
import re
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dl_lib.checkpoint import NoSpaceError
from dl_lib.engine.hooks import (
    EvalHook,
    Hook,
    IterationTimer,
    MetricLogger,
    PeriodicCheckpointer,
    PreciseBN,
    ProgressBar,
    recompute_norm_statistics,
)
from dl_lib.utils.events import EventStorage
from tests.helpers.training import At, LeastSquares, batches_from, captured_log, plain_trainer, resumable_trainer


def test_checkpoints_every_period_and_at_the_end(tmp_path):
    resumable_trainer(tmp_path, max_iter=7, period=3).train()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == [
        "model_0000003.pth",
        "model_0000006.pth",
        "model_final.pth",
    ]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    final = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert final["trainer"]["iteration"] == 7
    assert final["scheduler"]["last_epoch"] == 7
    assert set(final) == {"model", "config", "trainer", "optimizer", "scheduler", "iteration"}


def checkpoints_in(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def test_old_checkpoints_are_deleted_except_at_multiples(tmp_path):
    def train(max_iter):
        trainer = resumable_trainer(tmp_path, max_iter=max_iter)
        checkpointer = PeriodicCheckpointer(trainer.hooks[1]._checkpointer, period=1, keep_last=2, keep_every=4)
        trainer.hooks[1] = checkpointer
        trainer.train()

    train(7)
    assert checkpoints_in(tmp_path) == [
        *("model_0000004.pth", "model_0000005.pth", "model_0000006.pth"),
        "model_final.pth",
    ]
    train(10)  # extended
    assert checkpoints_in(tmp_path) == [
        *("model_0000004.pth", "model_0000008.pth", "model_0000009.pth"),
        "model_final.pth",
    ]
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 10


def test_failed_save_ends_training(tmp_path, monkeypatch):
    trainer = resumable_trainer(tmp_path, max_iter=9, period=3)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    trainer.hooks += [At(5, lambda trainer: monkeypatch.setattr(os, "fsync", full))]
    with pytest.raises(NoSpaceError):
        trainer.train()
    assert trainer.iteration == 6
    assert checkpoints_in(tmp_path) == ["model_0000003.pth"]


def test_recorded_learning_rate_is_that_of_the_step(tmp_path):
    rates = []

    class Recorder(Hook):
        def before_step(self, trainer):
            rates.append(trainer.optimizer.param_groups[0]["lr"])

        def after_step(self, trainer):
            assert trainer.events.latest("learning_rate") == rates[-1]

    resumable_trainer(tmp_path, max_iter=6, hooks=[Recorder()]).train()
    assert rates == pytest.approx([0.1 * min(1, 0.1 + 0.9 * i / 4) * (1 - i / 6) ** 0.9 for i in range(6)])


@pytest.mark.parametrize(("period", "expected"), [(0, [6]), (2, [2, 4, 6]), (4, [4, 6]), (6, [6])])
def test_evaluation_every_period_and_at_the_end(period, expected):
    at = []
    trainer = plain_trainer(max_iter=6)

    def evaluate():
        at.append(trainer.iteration)
        return {"val/mIoU": trainer.iteration / 10, "val/IoU-absent": float("nan")}

    trainer.hooks = [EvalHook(evaluate, period=period)]
    trainer.train()
    assert at == expected
    assert trainer.events.latest("val/mIoU") == 0.6
    assert "val/IoU-absent" not in trainer.events.current_eval_metrics()


class Normalized(LeastSquares):
    """Least squares with a norm in use, an unused norm and a norm in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3, dtype=torch.float64)
        self.unused = nn.BatchNorm1d(3, dtype=torch.float64)
        self.frozen = nn.BatchNorm1d(3, dtype=torch.float64)

    def forward(self, batched_inputs, step_rate=0.0):
        assert not self.training or step_rate == 0.0 or torch.is_grad_enabled()
        x = self.norm(torch.stack([sample["x"] for sample in batched_inputs]))
        samples = [{"x": row, "y": sample["y"]} for row, sample in zip(x, batched_inputs, strict=True)]
        return super().forward(samples, step_rate)


def test_precise_bn_computes_the_statistics_of_all_batches():
    model = Normalized()
    model.unused.running_mean.fill_(7.0)
    model.frozen.eval()
    buffers = dict(model.named_buffers())
    recompute_norm_statistics(model, batches=batches_from(10), num_batches=5)
    seen = torch.stack([sample["x"] for _, batch in zip(range(5), batches_from(10), strict=False) for sample in batch])
    torch.testing.assert_close(model.norm.running_mean, seen.mean(0))
    torch.testing.assert_close(model.norm.running_var, seen.var(0, unbiased=False))
    assert model.unused.running_mean.tolist() == [7.0] * 3
    assert model.norm.momentum == model.unused.momentum == 0.1
    assert all(buffers[name] is buffer for name, buffer in model.named_buffers())  # buffers keep their identity
    assert [model.norm.training, model.frozen.training] == [True, False]


def test_failed_precise_bn_changes_nothing():
    model = Normalized()
    before = {name: buffer.clone() for name, buffer in model.norm.named_buffers()}

    def batches():
        yield next(batches_from(0))
        raise OSError("read error")

    with pytest.raises(OSError, match="read error"):
        recompute_norm_statistics(model, batches=batches(), num_batches=5)
    assert torch.equal(model.norm.running_mean, before["running_mean"])
    assert torch.equal(model.norm.running_var, before["running_var"])
    assert model.norm.momentum == 0.1


def test_precise_bn_does_not_affect_the_weights():
    def train(hooks):
        trainer = plain_trainer(max_iter=6, model=Normalized(), hooks=hooks)
        trainer.train()
        return trainer.model

    with_precise_bn = train([PreciseBN(lambda: batches_from(0), num_batches=3, period=2)])
    for mine, other in zip(with_precise_bn.parameters(), train([]).parameters(), strict=True):
        assert torch.equal(mine, other)


def test_timer_excludes_hooks_from_the_step():
    class SlowModel(LeastSquares):
        def forward(self, batched_inputs, step_rate=0.0):
            time.sleep(0.02)
            return super().forward(batched_inputs, step_rate)

    class SlowHook(Hook):
        def after_step(self, trainer):
            time.sleep(0.2)

    trainer = plain_trainer(max_iter=3, model=SlowModel(), hooks=[IterationTimer(), SlowHook()])
    with captured_log("hooks.timer") as messages:
        trainer.train()
    assert 0.02 <= trainer.events.summary(after=0)["iteration_seconds"] < 0.2
    (message,) = messages
    assert re.fullmatch(r"Trained 3 iterations in 0:00:00 \(0\.\d{4} s/iteration\); hooks took 0:00:01", message)


class OnGpu(LeastSquares):
    """Model that reports the third GPU as its device."""

    def parameters(self, recurse=True):
        yield SimpleNamespace(device=torch.device("cuda:2"))


def test_timer_reads_the_memory_of_the_models_device(monkeypatch):
    def memory_of(model):
        trainer, timer = SimpleNamespace(model=model, events=EventStorage(iteration=1)), IterationTimer()
        timer.after_step(trainer)
        return trainer.events.latest("memory_mib")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)  # CUDA may be initialized for a CPU model
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda gpu=None: 2**20 * gpu.index if gpu else 0)
    assert memory_of(OnGpu()) == 2
    assert memory_of(LeastSquares()) > 2


def test_log_lines_have_units_and_medians(tmp_path):
    trainer = resumable_trainer(tmp_path, max_iter=8, hooks=[IterationTimer(), MetricLogger(period=4)])
    with captured_log("hooks.metric_logger") as messages:
        trainer.train()
    definition, first, last = messages
    assert definition.endswith("are medians over the iterations since the previous multiple of LOG_PERIOD=4")
    assert re.fullmatch(
        r"Iteration 4/8, ETA 0:00:0\d, total_loss \S+, loss_square \S+, lr \S+, expected 2 GFLOPs/image, "
        r"\d\.\d{3} s/iteration \(data \d\.\d{3} s\)(, peak memory \d+ MiB)?",
        first,
    )
    assert last.startswith("Iteration 8/8, ETA 0:00:00")
    shown = float(re.search(r"total_loss (\S+),", last).group(1))
    losses = torch.tensor([value for value, _ in trainer.events._history("total_loss").values()])
    assert shown == pytest.approx(losses[4:].quantile(0.5).item(), rel=1e-3)


class FakeTerminal:
    def __init__(self, *, is_terminal):
        self.is_terminal = is_terminal
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return self.is_terminal


def test_progress_bar_shows_time_loss_rate_and_cost(monkeypatch, tmp_path):
    terminal = FakeTerminal(is_terminal=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    resumable_trainer(tmp_path, max_iter=4, hooks=[ProgressBar(period=2)]).train()
    last = terminal.text.split("\r")[-1]
    for part in ("training 100%", "4/4, ", "iteration/s", "ETA 00:00", "loss ", "lr ", "expected 2 GFLOPs/image"):
        assert part in last


def test_no_progress_bar_without_a_terminal(monkeypatch, tmp_path):
    pipe = FakeTerminal(is_terminal=False)
    monkeypatch.setattr(sys, "stderr", pipe)
    resumable_trainer(tmp_path, max_iter=4, hooks=[ProgressBar(period=2)]).train()
    assert pipe.text == ""


def test_no_progress_bar_for_a_finished_run(monkeypatch, tmp_path):
    resumable_trainer(tmp_path, max_iter=2).train()
    terminal = FakeTerminal(is_terminal=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    resumable_trainer(tmp_path, max_iter=2, hooks=[ProgressBar(period=2)]).train()
    assert terminal.text == ""
