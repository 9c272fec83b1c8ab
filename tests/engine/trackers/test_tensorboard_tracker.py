"""Event files of TensorBoard: hyperparameters with final metrics, and errors of writing."""

import errno
import os
import threading

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.summary.writer import event_file_writer, record_writer

from dl_lib.engine.trackers import TensorBoardTracker
from dl_lib.utils.files import WriteError


def opened(folder, **hparams):
    tracker = TensorBoardTracker(folder)
    tracker.open(run_id=None, written=0, hparams=hparams)
    return tracker


def hparams_in(folder):
    """Return the hyperparameters of a run and the names of its final metrics, as TensorBoard reads them."""
    events = EventAccumulator(str(folder)).Reload()
    contents = events.PluginTagToContent("hparams")
    data = {tag: plugin_data_pb2.HParamsPluginData.FromString(content) for tag, content in contents.items()}
    values = data["_hparams_/session_start_info"].session_start_info.hparams
    metrics = data["_hparams_/experiment"].experiment.metric_infos
    return (
        {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()},
        {metric.name.tag for metric in metrics},
    )


def test_hyperparameters_and_final_metrics(tmp_path):
    hparams = {"SOLVER.LR": 0.5, "SEED": 3, "TEST.FLIP": True, "MODEL.NAME": "x", "SIZES": "[1, 2]"}
    tracker = opened(tmp_path, **hparams)
    tracker.write({"val/mIoU": 0.25, "total_loss": 2.0}, iteration=4)
    tracker.write_final({"val/mIoU": 0.25}, iteration=4)
    tracker.close(completed=True)
    assert hparams_in(tmp_path) == (hparams, {"val/mIoU"})
    scalars = EventAccumulator(str(tmp_path)).Reload().Scalars("val/mIoU")
    assert [(event.step, event.value) for event in scalars] == [(4, 0.25)]


def test_full_disk_is_named(tmp_path, monkeypatch):
    def fill(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tracker = opened(tmp_path)
    monkeypatch.setattr(event_file_writer.EventFileWriter, "flush", fill)
    monkeypatch.setattr(event_file_writer.EventFileWriter, "close", fill)
    for act in (lambda: tracker.write({"total_loss": 1.0}, iteration=1), lambda: tracker.close(completed=False)):
        with pytest.raises(WriteError, match=r"^cannot write events\.out\.tfevents: No space left .* MB free;"):
            act()


def test_error_in_the_thread_of_tensorboard_is_raised_and_not_printed(tmp_path, capsys):
    def fill(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hook = threading.excepthook
    tracker = TensorBoardTracker(tmp_path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(WriteError, match="No space left"):
        patch.setattr(record_writer.RecordWriter, "write", fill)
        tracker.open(run_id=None, written=0, hparams={})
    tracker.close(completed=False)
    assert capsys.readouterr().err == ""
    assert threading.excepthook is hook
