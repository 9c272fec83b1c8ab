"""Command `dl_lib replay` on whole runs that diverge, and damaged files."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.command import run_command
from tests.helpers.diverging_run import FINITE_STEP, LAYER, STEP, diverge
from tests.helpers.training import restore_logging

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay") / "run"
    with restore_logging():
        diverge(folder)
    return folder


def replayed(capsys, *words):
    capsys.readouterr()
    assert run_command("replay", *words) == 0
    return capsys.readouterr().out


def rejected(capsys, *words):
    capsys.readouterr()
    assert run_command("replay", *words) == 2
    return capsys.readouterr().err


def test_replay_equals_the_run_bit_for_bit_and_names_the_layer(run, capsys):
    text = replayed(capsys, run)
    assert text.startswith(f"Iteration {STEP}/8 (counted from 0), rank 0 of 1, 4 images in 2 batches: ")
    assert f"First non-finite output: {LAYER} (Conv2d); its inputs are finite." in text
    assert "The replayed values equal those of the run bit for bit." in text
    (marked,) = (line for line in text.splitlines() if "<--" in line)
    assert marked.split()[:3] == [LAYER, "<--", "Conv2d"]
    assert text == replayed(capsys, run / "debug") == replayed(capsys, run / "config.yaml")
    hidden = "are not shown; --all prints them."
    assert hidden in text and hidden not in replayed(capsys, run, "--all", "--step", STEP)


def test_losses_and_gradients_of_a_finite_step_are_equal_bit_for_bit(run, capsys):
    text = replayed(capsys, run, "--step", FINITE_STEP)
    assert "All outputs, gradients and losses are finite." in text
    assert "The replayed values equal those of the run bit for bit." in text
    for name in ("total_loss", "loss_sem_seg", "loss_budget", "gradient_norm"):
        row = next(line.split() for line in text.splitlines() if line.startswith(name))
        assert row[1] == row[2] and 0 < abs(float(row[1])) < math.inf, name


def test_overrides_and_their_effect_are_named(run, capsys):
    text = replayed(capsys, run, "MODEL.BACKBONE.DROP_PROB=0.0", "SOLVER.GRAD_CLIP=0.5")
    assert "as expected: MODEL.BACKBONE.DROP_PROB was 0.5 and is 0.0 now; SOLVER.GRAD_CLIP was " in text


def test_errors_name_what_is_wrong(run, capsys, tmp_path):
    assert "no saved step" in rejected(capsys, tmp_path)
    assert f"--step must be one of {FINITE_STEP}, {STEP}." in rejected(capsys, run, "--step", 1)
    assert "the file of rank 2 is missing" in rejected(capsys, run, "--rank", 2)
    assert "Size mismatch" in rejected(capsys, run, "MODEL.BACKBONE.INIT_CHANNEL=16")
    path = run / "debug" / f"step_{STEP:07d}_rank0.pth"
    content = torch.load(path, weights_only=True)
    (tmp_path / "debug").mkdir()
    for change, reason in (
        (lambda step: step["config"].update({"MODEL.MINE": 1}), "unknown key MODEL.MINE"),
        (lambda step: step["batches"][0][0]["sem_seg"].fill_(77), "Received: labels from 77 to 77"),
        (lambda step: step["batches"][1][0].pop("image"), "image must be a uint8 or float32 tensor. Received: image"),
        (lambda step: step["batches"][0][1].update(sem_seg=None), "sem_seg must be a uint8 or int64 tensor."),
        (lambda step: step["batches"][0][0].update(image=torch.zeros(5, 48, 48)), "image.shape=(5, 48, 48)"),
        (lambda step: step["batches"][0][0].update(image=torch.ones(3, 48, 48)), "multiply images in 0..1 by 255"),
        (lambda step: step["batches"][0][0].update(image=torch.zeros(3, 9, 20)), "sem_seg must have the size of"),
    ):
        changed = {"model": content["model"], "step": torch.load(path, weights_only=True)["step"]}
        change(changed["step"])
        torch.save(changed, tmp_path / "debug" / path.name)
        assert reason in rejected(capsys, tmp_path)
    (tmp_path / "debug" / path.name).write_bytes(path.read_bytes()[:-1000])
    assert "truncated, damaged" in rejected(capsys, tmp_path)


NET = """
from dl_lib.modeling.build import LOSS_REGISTRY

@LOSS_REGISTRY.register()
def root(cfg):
    return lambda logits, labels: (0 * logits.mean()).sqrt()  # 0 with a gradient of 0 / 0
"""
COMMANDS = """
from dl_lib.cli.main import main

try:
    main(["train", "--config-file", "config.yaml", "OUTPUT_DIR=run", "MODEL.LOSS.EXTRA=[root]"])
except SystemExit as error:
    assert error.code == 1, error.code
main(["replay", "run"])
"""


def test_loss_of_net_py_with_an_undefined_gradient(tmp_path):
    (tmp_path / "config.yaml").write_text(f"_BASE_: {ROOT / 'playground' / 'Quickstart' / 'config.yaml'}\n")
    (tmp_path / "net.py").write_text(NET)
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "Saved step 0 in " in done.stderr + done.stdout
    assert "All outputs are finite. First non-finite gradient: that of the output of sem_seg_head" in done.stdout
    assert "The replayed values equal those of the run bit for bit." in done.stdout
