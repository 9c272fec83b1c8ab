"""The commands as a user meets them: their doors, their messages, their exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dl_lib.cli import convert_weights, test, train

ROOT = Path(__file__).parents[2]


def run(script, *words, cwd, path=str(ROOT)):
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools" / script), *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("script", ["train_net.py", "test_net.py", "convert_weights.py"])
def test_help_explains_itself_without_waiting_for_torch(script, tmp_path):
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
        "dl_train: error: cannot merge config.yaml: 2 problems",
        "  1. unknown key SOLVER.BASE_LR. Nearest known: SOLVER.OPTIMIZER.BASE_LR. Received: SOLVER.BASE_LR=0.1",
        "  2. SEED must be of type int (now 0), not str. Received: SEED='x'",
    ]


def test_an_error_in_ones_own_code_keeps_its_traceback(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "net.py").write_text("undefined_name\n")
    done = run("test_net.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "NameError: name 'undefined_name' is not defined" in done.stderr


def ended(main, *words):
    """Exit status of a command run in this process."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    return caught.value.code


def test_user_errors_of_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a.weight": torch.zeros(1)}}, tmp_path / "foreign.pth")
    quickstart = ["--config-file", str(ROOT / "playground" / "Quickstart")]
    for main, words, message in (
        (train.main, [], "dl_train: error: there is no config.yaml in this folder"),
        (train.main, ["--config-file", "absent.yaml"], "there is no such configuration"),
        (train.main, [*quickstart, "DATASETS.TRAIN=[digit_scene]"], "Nearest: digit_scenes_"),
        (train.main, [*quickstart, "--eval-only"], "holds no checkpoint, and no weights are given"),
        (test.main, quickstart, "dl_test: error: there is nothing to evaluate"),
        (test.main, [*quickstart, "SEED"], "nothing follows 'SEED'"),
        (convert_weights.main, ["absent.pth", "out.pth"], "convert_weights: error: "),
        (convert_weights.main, ["foreign.pth", "out.pth"], "convert_weights: error: "),
    ):
        assert ended(main, *words) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign.pth"]
