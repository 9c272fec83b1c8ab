"""Trackers registered from outside: what they receive, also after a resume, and failures, which end no run."""

import json
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from dl_lib.config import get_cfg
from dl_lib.engine import DefaultTrainer
from dl_lib.engine.hooks import EvalHook, PeriodicVisualizer, PeriodicWriter
from dl_lib.engine.trackers import TRACKER_REGISTRY, GuardedTracker, Tracker, build_trackers
from dl_lib.engine.training.interrupt import TrainingInterrupted
from dl_lib.engine.training.writers import JSONWriter
from dl_lib.utils import comm
from tests.helpers.training import At, captured_log, resumable_trainer

METHODS = ("make", "open", "write", "write_image", "write_final", "close")
ITERATIONS = [4, 5, 8, 10, 12, 13]  # of `train`


class Recording(Tracker):
    """Tracker that keeps what it receives, and fails in the given methods."""

    def __init__(self, *, fails=(), run_id="run 1", error=ConnectionError):
        self.fails, self.run_id, self.error = fails, run_id, error
        self.calls = []
        self.record("make")

    def record(self, method, *values):
        self.calls.append((method, *values))
        if method in self.fails:
            raise self.error("no route\nto host")

    def open(self, *, run_id, written, hparams):
        self.record("open", run_id, written, dict(hparams))
        return run_id or self.run_id

    def write(self, metrics, *, iteration):
        self.record("write", iteration, metrics)

    def write_image(self, name, image, *, iteration):
        self.record("write_image", iteration, name)

    def write_final(self, metrics, *, iteration):
        self.record("write_final", iteration, metrics)

    def close(self, *, completed):
        self.record("close", completed)

    def iterations(self, method):
        return [call[1] for call in self.calls if call[0] == method]


def train(folder, *, max_iter=13, actions=(), last_checkpoint=None, make=Recording, **tracker):
    """Train with a tracker, evaluations and images; return the tracker, or an error's name."""
    made = []

    def build():
        made.append(make(**tracker))
        return made[-1]

    if last_checkpoint is not None:
        (folder / "last_checkpoint").write_text(f"model_{last_checkpoint:07d}.pth")
    writers = [JSONWriter(folder / "metrics.json"), GuardedTracker(build, name="recording", folder=folder)]
    hooks = [
        EvalHook(lambda: {"val/mIoU": trainer.iteration / 10}, period=4),
        *(At(iteration, action) for iteration, action in actions),
        PeriodicVisualizer(lambda: {"val/route": Figure((1, 1))}, writers, period=5),
        PeriodicWriter(writers, period=5),
    ]
    trainer = resumable_trainer(folder, max_iter=max_iter, period=6, hooks=hooks)
    trainer.train()
    return made[0] if made else None


def stop(trainer):
    raise KeyboardInterrupt


def lines_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return {line.pop("iteration"): line for line in lines}


def test_a_tracker_receives_what_is_in_the_metrics_file(tmp_path):
    tracker = train(tmp_path)
    assert [call[0] for call in tracker.calls[:2]] == ["make", "open"]
    assert tracker.calls[1] == ("open", None, 0, {})
    written = {iteration: metrics for method, iteration, *_, metrics in tracker.calls[2:-2] if method == "write"}
    assert written == lines_of(tmp_path)
    assert tracker.iterations("write_image") == [5, 10, 13]
    assert tracker.calls[-2:] == [("write_final", 13, {"val/mIoU": 1.3}), ("close", True)]
    assert json.loads((tmp_path / "tracker_recording.json").read_text()) == {"run_id": "run 1", "iteration": 13}


@pytest.mark.parametrize("killed", [False, True])
def test_a_resumed_run_continues_the_tracked_run_and_repeats_nothing(tmp_path, killed):
    parts = []

    class Kept(Recording):
        def __init__(self, **settings):
            super().__init__(**settings)
            parts.append(self)

    with pytest.raises(TrainingInterrupted):
        train(tmp_path, actions=[(11, stop)], make=Kept)
    train(tmp_path, make=Kept, last_checkpoint=6 if killed else None, run_id="never used")
    assert [part.calls[1][1] for part in parts] == [None, "run 1"]
    assert parts[1].calls[1][2] == (5 if killed else 10)
    assert [part.iterations("write") for part in parts] == [[4, 5, 8, 10], [12, 13]]
    assert [part.iterations("write_image") for part in parts] == [[5, 10], [13]]
    assert [part.calls[-1] for part in parts] == [("close", False), ("close", True)]
    assert sorted(lines_of(tmp_path)) == ITERATIONS


@pytest.mark.parametrize("error", [ConnectionError, SystemExit])
@pytest.mark.parametrize("method", METHODS)
def test_a_failure_is_one_warning_and_the_run_goes_on(tmp_path, method, error):
    with captured_log("trackers.guard") as messages:
        tracker = train(tmp_path, fails=METHODS[METHODS.index(method) :], error=error)  # later ones would fail as well
    assert sorted(lines_of(tmp_path)) == ITERATIONS
    warning = messages[-1]
    assert "recording failed to " in warning
    assert warning.endswith(f"and is disabled until the run is resumed: {error.__name__}: no route to host")
    assert len([message for message in messages if "failed" in message]) == 1
    assert (tracker is None) == (method == "make")
    if tracker is not None:
        called = [call[0] for call in tracker.calls]
        assert called.count(method) == called.count("close") == 1
        assert called[-2:] == ([method, "close"] if method != "close" else ["write_final", "close"])
        assert tracker.calls[-1] == ("close", True)
    resumed = train(tmp_path, max_iter=15)
    assert resumed.iterations("write")[-1] == 15
    assert resumed.calls[1][1] == (None if method in ("make", "open") else "run 1")


def test_an_interrupt_inside_a_tracker_interrupts_the_run(tmp_path):
    with pytest.raises(TrainingInterrupted):
        train(tmp_path, fails=("write",), error=KeyboardInterrupt)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000004.pth"


def test_a_tracker_without_ids_is_told_up_to_where_everything_is_written(tmp_path):
    with pytest.raises(TrainingInterrupted):
        train(tmp_path, actions=[(11, stop)], run_id=None)
    assert not (tmp_path / "tracker_recording.json").exists()
    tracker = train(tmp_path, last_checkpoint=6, run_id=None)
    assert tracker.calls[1][1:3] == (None, 5)
    assert tracker.iterations("write") == [8, 10, 12, 13]
    assert tracker.iterations("write_image") == [10, 13]


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"run_id": "a"}', '{"run_id": "", "iteration": 1}', '{"run_id": "a\\n", "iteration": 1}'),
        *('{"run_id": "a", "iteration": -1}', '{"run_id": "a", "iteration": true}', "[" * 10_000, "9" * 70_000),
    ],
)
def test_a_damaged_record_disables_the_tracker(tmp_path, content):
    (tmp_path / "tracker_recording.json").write_text(content)
    writer = GuardedTracker(Recording, name="recording", folder=tmp_path)
    with captured_log("trackers.guard") as messages:
        assert writer.open(iteration=3, written=2) == 2
        writer.write({3: {"total_loss": 1.0}})
        writer.close()
    (message,) = messages
    assert "recording failed to start and is disabled" in message
    assert (tmp_path / "tracker_recording.json").read_text() == content


@pytest.fixture
def registered():
    """Trackers that were built through the registry."""
    built = []

    @TRACKER_REGISTRY.register()
    def from_outside(cfg):
        built.append(Recording(run_id=f"seed {cfg.SEED}"))
        return built[-1]

    yield built
    del TRACKER_REGISTRY._obj_map["from_outside"]


def test_a_registered_tracker_is_built_from_the_config_and_receives_it(tmp_path, registered):
    cfg = get_cfg()
    cfg.merge_from_list(["TRACKERS=[from_outside]", "SEED=7", "INPUT.CROP_SIZE=[8,9]", f"OUTPUT_DIR={tmp_path}"])
    (writer,) = build_trackers(cfg)
    assert registered == []  # not before the run starts
    writer.open(iteration=0, written=0)
    ((_, run_id, written, hparams),) = (call for call in registered[0].calls if call[0] == "open")
    assert (run_id, written) == (None, 0)
    assert hparams.keys() == cfg.flat().keys()
    assert (hparams["SEED"], hparams["INPUT.CROP_SIZE"], hparams["TRACKERS"]) == (7, "[8, 9]", "['from_outside']")
    assert json.loads((tmp_path / "tracker_from_outside.json").read_text())["run_id"] == "seed 7"
    assert list(map(type, build_trackers(get_cfg()))) == [GuardedTracker]  # TensorBoard


def test_only_the_main_process_tracks(tmp_path, registered, monkeypatch):
    cfg = get_cfg()
    cfg.merge_from_list(["TRACKERS=[from_outside]", f"OUTPUT_DIR={tmp_path}"])
    trainer = SimpleNamespace(cfg=cfg, _folder=tmp_path)
    assert len(DefaultTrainer.build_writers(trainer)) == 2
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert DefaultTrainer.build_writers(trainer) == []
