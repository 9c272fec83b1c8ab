"""Contents of metrics.json and TensorBoard after a run."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dl_lib.engine.hooks import EvalHook, Hook, PeriodicWriter
from dl_lib.engine.training.interrupt import TrainingInterrupted
from dl_lib.engine.training.trainer import NonFiniteLossError
from dl_lib.engine.training.writers import JSONWriter, TensorBoardWriter, Writer
from tests.helpers.training import At, LeastSquares, plain_trainer, resumable_trainer


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_metrics_file_content(tmp_path):
    history = {}
    path = tmp_path / "run" / "metrics.json"
    trainer = plain_trainer(max_iter=7)
    trainer.hooks = [
        EvalHook(lambda: {"val/mIoU": trainer.iteration / 10}, period=4),
        *(At(i, lambda t: history.update({t.iteration: t.events.latest("total_loss")})) for i in range(1, 8)),
        PeriodicWriter([JSONWriter(path)], period=2),
    ]
    trainer.train()
    lines = read_lines(path)
    assert [line["iteration"] for line in lines] == [2, 4, 6, 7]
    assert [line["total_loss"] for line in lines] == [history[i] for i in (2, 4, 6, 7)]
    assert {line["iteration"]: line["val/mIoU"] for line in lines if "val/mIoU" in line} == {4: 0.4, 7: 0.7}
    assert {"loss_square", "expt_gflops", "gradient_norm", "data_seconds"} <= lines[0].keys()


def test_resumed_run_neither_repeats_nor_misses_an_iteration(tmp_path):
    path = tmp_path / "metrics.json"

    def stop(trainer):
        raise KeyboardInterrupt

    def run(folder, hooks=()):
        writers = PeriodicWriter([JSONWriter(folder / "metrics.json")], period=1)
        resumable_trainer(folder, max_iter=9, period=3, hooks=[writers, *hooks]).train()

    with pytest.raises(TrainingInterrupted):
        run(tmp_path, [At(5, stop)])
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")  # as if it had been killed instead
    path.write_text(path.read_text() + '{"iteration": 6, "total_l')
    run(tmp_path)
    run(tmp_path / "uninterrupted")
    assert [line["iteration"] for line in read_lines(path)] == list(range(1, 10))
    losses, expected = (
        [line["total_loss"] for line in read_lines(folder / "metrics.json")]
        for folder in (tmp_path, tmp_path / "uninterrupted")
    )
    assert losses == expected


def test_remaining_scalars_are_written_after_an_error(tmp_path):
    class Broken(LeastSquares):
        def forward(self, batched_inputs, step_rate=0.0):
            losses, costs = super().forward(batched_inputs, step_rate)
            return {"loss": losses["loss_square"] * (float("nan") if len(self.step_rates) == 5 else 1)}, costs

    path = tmp_path / "metrics.json"
    trainer = plain_trainer(max_iter=9, model=Broken(), hooks=[PeriodicWriter([JSONWriter(path)], period=3)])
    with pytest.raises(NonFiniteLossError):
        trainer.train()
    assert [line["iteration"] for line in read_lines(path)] == [3, 4]


def test_tensorboard_has_the_same_values(tmp_path):
    writers = [JSONWriter(tmp_path / "metrics.json"), TensorBoardWriter(tmp_path)]
    plain_trainer(max_iter=6, hooks=[PeriodicWriter(writers, period=2)]).train()
    events = EventAccumulator(str(tmp_path)).Reload()
    lines = read_lines(tmp_path / "metrics.json")
    assert set(events.Tags()["scalars"]) == set(lines[0]) - {"iteration"}
    scalars = [(event.step, event.value) for event in events.Scalars("total_loss")]
    assert scalars == [(line["iteration"], pytest.approx(line["total_loss"], rel=1e-6)) for line in lines]


def test_eval_metrics_between_two_periods_keep_their_iteration(tmp_path):
    trainer = plain_trainer(max_iter=9)
    writers = [JSONWriter(tmp_path / "metrics.json"), TensorBoardWriter(tmp_path)]
    scores = EvalHook(lambda: {"val/mIoU": trainer.iteration / 10}, period=2)
    trainer.hooks = [scores, PeriodicWriter(writers, period=5)]
    trainer.train()
    lines = read_lines(tmp_path / "metrics.json")
    assert [line["iteration"] for line in lines] == [2, 4, 5, 6, 8, 9]
    scored = {line["iteration"]: line["val/mIoU"] for line in lines if "val/mIoU" in line}
    assert scored == {i: i / 10 for i in (2, 4, 6, 8, 9)}
    assert [line["iteration"] for line in lines if "total_loss" in line] == [5, 9]
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("val/mIoU")] == [2, 4, 6, 8, 9]


def test_unopened_writers_do_not_hide_the_error(tmp_path):
    class Broken(Hook):
        def before_train(self, trainer):
            raise OSError("the disk is full")

    writers = [JSONWriter(tmp_path / "metrics.json"), TensorBoardWriter(tmp_path)]
    resumable_trainer(tmp_path, max_iter=2).train()
    trainer = resumable_trainer(tmp_path, max_iter=4, hooks=[Broken(), PeriodicWriter(writers, period=1)])
    with pytest.raises(OSError, match="the disk is full"):
        trainer.train()


def test_all_writers_are_closed_if_one_fails():
    closed = []

    class Recording(Writer):
        def __init__(self, name, fails):
            self.name, self.fails = name, fails

        def write(self, events, *, since):
            if self.fails:
                raise OSError("the disk is full")

        def close(self):
            closed.append(self.name)

    trainer = plain_trainer(max_iter=1)
    trainer.hooks = [PeriodicWriter([Recording("a", True), Recording("b", False)], period=5)]
    with pytest.raises(OSError, match="the disk is full"):
        trainer.train()
    assert sorted(closed) == ["a", "b"]
