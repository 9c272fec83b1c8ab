"""User errors of the commands: one message and an exit status; defects keep their traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dl_lib.checkpoint import CheckpointError
from dl_lib.cli import (
    browse_dataset,
    compare_runs,
    convert_weights,
    evaluate,
    find_lr,
    plot_metrics,
    prepare_voc,
    train,
)
from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError
from dl_lib.data.datasets.digit_scenes import DigitScenes
from dl_lib.data.errors import InvalidSampleError, UnknownDatasetError
from dl_lib.engine import NonFiniteLossError
from dl_lib.launch import LaunchError, LostProcessError

ROOT = Path(__file__).parents[2]


def run(script, *words, cwd, path=str(ROOT)):
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools" / script), *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("script", ["train_net.py", "test_net.py"])
def test_scripts_show_help_without_torch(script, tmp_path):
    (tmp_path / "torch.py").write_text("raise AssertionError('torch was imported')\n")
    done = run(script, "--help", cwd=tmp_path, path=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ")
    assert done.stderr == ""


def test_a_user_error_is_one_message_without_traceback(tmp_path):
    (tmp_path / "config.yaml").write_text("SOLVER: {BASE_LR: 0.1}\nSEED: x\n")
    done = run("train_net.py", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "dl_train: error: config.yaml cannot be merged: 2 problems",
        "  1. unknown key SOLVER.BASE_LR; nearest: SOLVER.OPTIMIZER.BASE_LR, SOLVER.BEST_METRIC; "
        "or declare it in net.py with add_keys. Received: SOLVER.BASE_LR=0.1",
        "  2. SEED must be of type int, not str. Received: SEED='x'",
    ]


def test_an_error_in_net_py_keeps_its_traceback(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "net.py").write_text("undefined_name\n")
    done = run("test_net.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "NameError: name 'undefined_name' is not defined" in done.stderr


def exit_status(main, *words):
    """Run a command in this process; return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    return caught.value.code


def test_user_errors_of_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a.weight": torch.zeros(1)}}, tmp_path / "foreign.pth")
    quickstart = ["--config-file", str(ROOT / "playground" / "Quickstart")]
    for main, words, message in (
        (train.main, [], "dl_train: error: no config.yaml in the current folder"),
        (train.main, ["--config-file", "absent.yaml"], "no such file, folder or shipped experiment"),
        (train.main, [*quickstart, "DATASETS.TRAIN=[digit_scenes_trai]"], "nearest: digit_scenes_train"),
        (train.main, [*quickstart, "--eval-only"], "no weights to evaluate, and no checkpoint in the run folder"),
        (train.main, [*quickstart, "MODEL.WEIGHTS=foregn.pth"], "nearest: foreign.pth"),
        (evaluate.main, quickstart, "dl_test: error: MODEL.WEIGHTS: no weights to evaluate"),
        (evaluate.main, [*quickstart, "SEED"], "'SEED' has no value"),
        (convert_weights.main, ["absent.pth", "out.pth"], "dl_lib convert-weights: error: "),
        (convert_weights.main, ["foreign.pth", "out.pth"], "dl_lib convert-weights: error: "),
        (convert_weights.main, ["foreign.pth", "absent/out.pth"], "Received: OUT='absent'"),
    ):
        assert exit_status(main, *words) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign.pth"]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConfigError("a"), 2, "dl_train: error: a\n"),
        (CheckpointError("b"), 2, "dl_train: error: b\n"),
        (UnknownDatasetError("c"), 2, "dl_train: error: c\n"),
        (InvalidSampleError("d"), 2, "dl_train: error: d\n"),
        (LaunchError("e"), 2, "dl_train: error: e\n"),
        (NonFiniteLossError("f"), 1, "dl_train: error: f\n"),
        (LostProcessError("g"), 1, "dl_train: error: g\n"),
        (KeyboardInterrupt(), 130, "\ndl_train: interrupted by Ctrl-C\n"),
    ],
)
def test_a_user_error_is_a_message_and_a_status(capsys, error, status, message):
    with pytest.raises(SystemExit) as caught, user_errors("dl_train"):
        raise error
    assert caught.value.code == status
    assert capsys.readouterr().err == message


class Invalid(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise InvalidSampleError("image 'a': no label")


def test_an_error_in_a_data_loader_worker_is_its_message(capsys):
    with pytest.raises(SystemExit) as caught, user_errors("dl_train"):
        list(DataLoader(Invalid(), num_workers=1))
    assert caught.value.code == 2
    assert capsys.readouterr().err == "dl_train: error: image 'a': no label\n"


def test_a_missing_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SystemExit) as caught, user_errors("dl_train"):
        DigitScenes("val", length=1)
    assert caught.value.code == 2
    assert "pip install" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "words", "key"),
    [
        (train.main, ["--config-file", "Quickstart", "OUTPUT_DIR={}"], "OUTPUT_DIR"),
        (find_lr.main, ["--config-file", "Quickstart", "OUTPUT_DIR={}"], "OUTPUT_DIR"),
        (find_lr.main, ["--config-file", "Quickstart", "--output", "{}"], "--output"),
        (plot_metrics.main, ["run", "--output", "{}/x.png"], "x.png"),
        (compare_runs.main, ["run", "--output", "{}"], "comparison.md"),
        (convert_weights.main, ["foreign.pth", "{}/out.pth"], "OUT"),
        (browse_dataset.main, ["digit_scenes_val", "--count=1", "--output={}/x.png"], "x.png"),
        (prepare_voc.main, ["--voc", "absent.tar"], "DL_DATASETS"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_message(tmp_path, monkeypatch, capsys, main, words, key):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text('{"iteration": 1, "total_loss": 1.0}\n')
    costs = {kind: {"avg": 1.0} for kind in ("expected", "real", "real_complete", "executed")}
    results = {"datasets": {"val": {"seconds_per_image": 1.0, "costs_gflops": costs}}}
    (tmp_path / "run" / "results.json").write_text(json.dumps(results))
    torch.save({"model": {"a.weight": torch.zeros(1)}}, tmp_path / "foreign.pth")
    before = sorted(tmp_path.rglob("*"))
    for folder in ("file", "file/new", "/proc/nope", "s3://bucket"):
        monkeypatch.setenv("DL_DATASETS", folder)
        assert exit_status(main, *(word.format(folder) for word in words)) == 2
        *usage, error = capsys.readouterr().err.splitlines()
        assert all("error" not in line for line in usage)
        assert key in error or folder == "s3://bucket"
        assert "Traceback" not in error and "Received: " in error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "error",
    [*(kind("a") for kind in (ValueError, KeyError, ImportError, RuntimeError)), FileNotFoundError(2, "absent", "a")],
)
def test_defects_are_raised(error):
    with pytest.raises(type(error)), user_errors("dl_train"):
        raise error
