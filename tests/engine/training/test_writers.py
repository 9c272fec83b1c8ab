"""Contents of metrics.json and TensorBoard after a run."""

import json
import os
import re
import statistics

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from dl_lib.engine.hooks import EvalHook, Hook, MetricLogger, PeriodicWriter
from dl_lib.engine.training.interrupt import TrainingInterrupted
from dl_lib.engine.training.writers import JSONWriter, Writer
from dl_lib.utils.metrics_file import MetricsFileError, read_metrics
from tests.helpers.training import At, captured_log, plain_trainer, resumable_trainer, tensorboard_writer


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_metrics_file_content(tmp_path):
    history = []
    path = tmp_path / "run" / "metrics.json"
    trainer = plain_trainer(max_iter=7)
    trainer.hooks = [
        EvalHook(lambda: {"val/mIoU": trainer.iteration / 10}, period=4),
        *(At(i, lambda t: history.append(t.events.latest("total_loss"))) for i in range(1, 8)),
        PeriodicWriter([JSONWriter(path)], period=2),
    ]
    trainer.train()
    lines = read_lines(path)
    assert [line["iteration"] for line in lines] == [2, 4, 6, 7]
    windows = (history[:2], history[2:4], history[4:6], history[6:])
    assert [line["total_loss"] for line in lines] == [statistics.median(window) for window in windows]
    assert {line["iteration"]: line["val/mIoU"] for line in lines if "val/mIoU" in line} == {4: 0.4, 7: 0.7}
    assert {"loss_square", "expt_gflops", "gradient_norm", "data_seconds"} <= lines[0].keys()


TIMES = ("data_seconds",)


def stop(trainer):
    raise KeyboardInterrupt


def fail(trainer):
    raise OSError("an image cannot be read")


def run_with_scores(folder, *, at=0, action=None, in_evaluation=False, logged=(), scored=lambda iteration: True):
    """Train with evaluations; `action` is called at an iteration, in or after its evaluation."""

    def evaluate():
        if in_evaluation and trainer.iteration == at:
            action(trainer)
        return {"val/mIoU": trainer.iteration / 10} if scored(trainer.iteration) else {}

    stops = [] if in_evaluation else [At(at, action)]
    writers = [JSONWriter(folder / "metrics.json"), tensorboard_writer(folder)]
    hooks = [EvalHook(evaluate, period=4), *stops, *logged, PeriodicWriter(writers, period=5)]
    trainer = resumable_trainer(folder, max_iter=13, period=6, hooks=hooks)
    trainer.train()


def scalar_events(folder):
    events = EventAccumulator(str(folder)).Reload()
    names = [name for name in events.Tags()["scalars"] if name not in TIMES]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in sorted(names)}


@pytest.fixture(autouse=True)
def ordered_event_files(monkeypatch):
    """Number the files of a test from 0: those of one second are read in the order of their names, 10 before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run_with_scores(folder)
    return folder


def without_times(path):
    lines = [{name: value for name, value in line.items() if name not in TIMES} for line in read_lines(path)]
    return "\n".join(map(json.dumps, lines))


@pytest.mark.parametrize("action", [stop, fail], ids=["signal", "error"])
@pytest.mark.parametrize(
    ("at", "in_evaluation"),
    [(3, False), (7, False), (9, False), (10, False), (13, False), (4, True), (8, True), (13, True)],
)
def test_files_of_a_stopped_and_resumed_run_equal_those_of_an_undisturbed_one(
    tmp_path, undisturbed, at, in_evaluation, action
):
    with pytest.raises((TrainingInterrupted, OSError)):
        run_with_scores(tmp_path, at=at, action=action, in_evaluation=in_evaluation)
    run_with_scores(tmp_path)
    lines, expected = without_times(tmp_path / "metrics.json"), without_times(undisturbed / "metrics.json")
    assert lines == expected
    assert [json.loads(line)["iteration"] for line in lines.splitlines()] == [4, 5, 8, 10, 12, 13]
    assert scalar_events(tmp_path) == scalar_events(undisturbed)


def test_failed_final_evaluation_is_completed_on_resume(tmp_path, undisturbed):
    for evaluated in (False, True, True):
        run_with_scores(tmp_path, scored=lambda iteration, evaluated=evaluated: evaluated or iteration < 13)
        lines = read_lines(tmp_path / "metrics.json")
        assert [line["iteration"] for line in lines] == [4, 5, 8, 10, 12, 13]
        assert ("val/mIoU" in lines[-1]) == evaluated
        assert ("val/mIoU" in lines[-1]) == (scalar_events(tmp_path) == scalar_events(undisturbed))
    assert without_times(tmp_path / "metrics.json") == without_times(undisturbed / "metrics.json")


def test_log_and_metrics_file_have_the_same_values(tmp_path):
    with captured_log("hooks.metric_logger") as messages:
        run_with_scores(tmp_path, logged=[MetricLogger(period=5)])
    logged = [float(re.search(r"total_loss ([^,]+)", message)[1]) for message in messages[1:]]
    assert logged == [
        float(f"{line['total_loss']:.4g}") for line in read_lines(tmp_path / "metrics.json") if "total_loss" in line
    ]


def test_killed_run_repeats_only_lines_after_the_checkpoint(tmp_path, undisturbed):
    with pytest.raises(TrainingInterrupted):
        run_with_scores(tmp_path, at=11, action=stop)
    (tmp_path / "last_checkpoint").write_text("model_0000006.pth")  # as if it had been killed instead
    with (tmp_path / "metrics.json").open("a") as file:
        file.write('{"iteration": 11, "total_l')
    run_with_scores(tmp_path)
    assert without_times(tmp_path / "metrics.json") == without_times(undisturbed / "metrics.json")


GARBAGE = [
    *(b"\xff\xfe\x00garbage", b'{"iteration": null}', b'{"iteration": "5"}', b'{"iteration": -1}', b"[1, 2]", b""),
    *(b'{"iteration": 5, "a": "b"}', b'{"iteration": 5, "a": 1e999}', b'{"a": 1}', b"[" * 100_000, b"\0" * 99),
    *(b'{"iteration": ' + b"9" * 5000 + b"}", b'{"iteration": 4, "a": ' + b"9" * 400 + b"}", b'{"iteration": true}'),
]


def test_damaged_metrics_are_kept_aside_and_valid_lines_survive(tmp_path, undisturbed):
    with captured_log("training.writers") as messages:
        with pytest.raises(TrainingInterrupted):
            run_with_scores(tmp_path, at=7, action=stop)
        path = tmp_path / "metrics.json"
        first, rest = path.read_bytes().split(b"\n", 1)
        damaged = b"\n".join([first, *GARBAGE, rest])
        path.write_bytes(damaged)
        (tmp_path / "metrics_damaged.json").write_bytes(b"earlier")
        run_with_scores(tmp_path)
    assert without_times(path) == without_times(undisturbed / "metrics.json")
    assert (tmp_path / "metrics_damaged.json").read_bytes() == b"earlier"
    assert (tmp_path / "metrics_damaged_2.json").read_bytes() == damaged
    (message,) = messages
    assert message == (
        f"{path} contains {len(GARBAGE)} invalid lines, the first is line 2; kept the valid ones, and the whole file "
        "as metrics_damaged_2.json"
    )


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_metrics_that_are_no_regular_file_are_an_error(tmp_path, make):
    make(tmp_path / "metrics.json")
    with pytest.raises(MetricsFileError, match=r"cannot be read: .*Move the file away.*Received: .*metrics\.json"):
        JSONWriter(tmp_path / "metrics.json").open(iteration=3, written=0)
    with pytest.raises(MetricsFileError, match=r"cannot read metrics.json: .*Received: RUN="):
        read_metrics(tmp_path)


def test_tensorboard_has_the_same_values(tmp_path):
    writers = [JSONWriter(tmp_path / "metrics.json"), tensorboard_writer(tmp_path)]
    plain_trainer(max_iter=6, hooks=[PeriodicWriter(writers, period=2)]).train()
    events = EventAccumulator(str(tmp_path)).Reload()
    lines = read_lines(tmp_path / "metrics.json")
    assert set(events.Tags()["scalars"]) == set(lines[0]) - {"iteration"}
    scalars = [(event.step, event.value) for event in events.Scalars("total_loss")]
    assert scalars == [(line["iteration"], pytest.approx(line["total_loss"], rel=1e-6)) for line in lines]


def test_eval_metrics_between_two_periods_keep_their_iteration(tmp_path):
    trainer = plain_trainer(max_iter=9)
    writers = [JSONWriter(tmp_path / "metrics.json"), tensorboard_writer(tmp_path)]
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

    writers = [JSONWriter(tmp_path / "metrics.json"), tensorboard_writer(tmp_path)]
    resumable_trainer(tmp_path, max_iter=2).train()
    trainer = resumable_trainer(tmp_path, max_iter=4, hooks=[Broken(), PeriodicWriter(writers, period=1)])
    with pytest.raises(OSError, match="the disk is full"):
        trainer.train()


def test_all_writers_are_closed_if_one_fails():
    closed = []

    class Recording(Writer):
        def __init__(self, name, fails):
            self.name, self.fails = name, fails

        def write(self, entries):
            pass

        def close(self):
            closed.append(self.name)
            if self.fails:
                raise OSError("the disk is full")

    trainer = plain_trainer(max_iter=1)
    trainer.hooks = [PeriodicWriter([Recording("a", True), Recording("b", False)], period=5)]
    with pytest.raises(OSError, match="the disk is full"):
        trainer.train()
    assert sorted(closed) == ["a", "b"]
