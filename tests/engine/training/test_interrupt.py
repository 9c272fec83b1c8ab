"""Interruption by real signals, in this process and in another one."""

import os
import signal
import sys
import time

import pytest
import torch

from dl_lib.engine.hooks import EvalHook, Hook
from dl_lib.engine.training.interrupt import InterruptGuard, TrainingInterrupted
from dl_lib.utils.logger import setup_logger
from tests.helpers.forked import CONTEXT
from tests.helpers.training import At, LeastSquares, captured_log, plain_trainer, resumable_trainer


def press_ctrl_c(*_):
    os.kill(os.getpid(), signal.SIGINT)


class InterruptedInStep(LeastSquares):
    """Model that receives SIGINT `times` times during the third step."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def forward(self, batched_inputs, step_rate=0.0):
        result = super().forward(batched_inputs, step_rate)
        if len(self.step_rates) == 3:
            for _ in range(self.times):
                press_ctrl_c()
        return result


class InterruptRecorder(Hook):
    def __init__(self):
        self.at = []

    def on_interrupt(self, trainer):
        self.at.append(trainer.iteration)


def test_first_ctrl_c_completes_the_step(capfd):
    saved, handler = InterruptRecorder(), signal.getsignal(signal.SIGINT)
    trainer = plain_trainer(max_iter=10, model=InterruptedInStep(1), hooks=[saved])
    with pytest.raises(TrainingInterrupted) as caught:
        trainer.train()
    assert caught.value.code == 130
    assert saved.at == [3]
    assert "Ctrl-C: saving a checkpoint after this step" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_completes_the_step_if_the_reader_of_stderr_has_ended():
    saved = InterruptRecorder()
    trainer = plain_trainer(max_iter=10, model=InterruptedInStep(1), hooks=[saved])
    reader, writer = os.pipe()
    os.close(reader)
    stderr = os.dup(2)
    os.dup2(writer, 2)
    try:
        with pytest.raises(TrainingInterrupted):
            trainer.train()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(writer)
    assert saved.at == [3]


def test_second_ctrl_c_exits_immediately_without_saving():
    saved = InterruptRecorder()
    trainer = plain_trainer(max_iter=10, model=InterruptedInStep(2), hooks=[saved])
    with pytest.raises(TrainingInterrupted):
        trainer.train()
    assert trainer.iteration == 2
    assert saved.at == []


def test_second_ctrl_c_between_steps_exits_without_saving():
    saved = InterruptRecorder()
    trainer = plain_trainer(max_iter=10, hooks=[At(3, press_ctrl_c), At(3, press_ctrl_c), saved])
    with captured_log("training.trainer") as messages, pytest.raises(TrainingInterrupted):
        trainer.train()
    assert saved.at == []
    assert messages == ["Exiting without saving at iteration 3/10"]


def test_second_ctrl_c_aborts_saving(tmp_path):
    def evaluate():
        press_ctrl_c()

    class Slow(Hook):
        def on_interrupt(self, trainer):
            press_ctrl_c()
            pytest.fail("not aborted")

    with pytest.raises(TrainingInterrupted):
        plain_trainer(max_iter=9, hooks=[EvalHook(evaluate, period=4), Slow()]).train()


def test_evaluation_can_be_interrupted(tmp_path):
    finished = []

    def evaluate():
        press_ctrl_c()
        finished.append("not interrupted")
        return {}

    with pytest.raises(TrainingInterrupted):
        resumable_trainer(tmp_path, max_iter=9, hooks=[EvalHook(evaluate, period=4)]).train()
    assert finished == []
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000004.pth"
    assert torch.load(tmp_path / "model_0000004.pth", weights_only=True)["trainer"]["iteration"] == 4


def test_waiting_for_data_can_be_interrupted():
    def batches():
        press_ctrl_c()
        yield [pytest.fail("not interrupted")]

    with pytest.raises(TrainingInterrupted):
        plain_trainer(max_iter=2, loader=batches()).train()


def test_interrupted_iteration_is_saved_once(tmp_path):
    saves = []
    trainer = resumable_trainer(tmp_path, max_iter=9, period=3, hooks=[At(6, press_ctrl_c)])
    checkpoint = trainer.hooks[1]._checkpointer
    original = checkpoint.save
    checkpoint.save = lambda name, **values: (saves.append(name), original(name, **values))
    with pytest.raises(TrainingInterrupted):
        trainer.train()
    assert saves == ["model_0000003", "model_0000006"]


def test_ignored_signal_remains_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with InterruptGuard() as guard:
            press_ctrl_c()
            assert not guard.requested
    finally:
        signal.signal(signal.SIGINT, before)


class Slow(Hook):
    def before_step(self, trainer):
        time.sleep(0.05)


def train_slowly(folder):
    """Train, and write the output to a file."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    setup_logger(folder)
    hooks = [Slow(), At(2, lambda trainer: (folder / "started").touch())]
    resumable_trainer(folder, max_iter=10_000, hooks=hooks).train()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signal_saves_and_sets_the_exit_status(tmp_path, number):
    process = CONTEXT.Process(target=train_slowly, args=(tmp_path,))
    process.start()
    while not (tmp_path / "started").exists():
        assert process.is_alive(), (tmp_path / "stderr").read_text()
        time.sleep(0.02)
    os.kill(process.pid, number)
    if number == signal.SIGTERM:
        os.kill(process.pid, number)  # as forwarded by a launcher
    process.join(60)
    output, errors = ((tmp_path / name).read_text() for name in ("stdout", "stderr"))
    assert process.exitcode == 128 + number
    assert "Traceback" not in errors
    assert "--resume" in output
    iteration = torch.load(tmp_path / (tmp_path / "last_checkpoint").read_text(), weights_only=True)["trainer"][
        "iteration"
    ]
    assert 2 <= iteration < 10_000
    assert f"Interrupted at iteration {iteration}/10000" in output
