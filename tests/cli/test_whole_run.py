"""Complete runs from the command line: train, run again, resume, evaluate."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.forked import run_command as run

ROOT = Path(__file__).parents[2]
SET = "twenty_digit_scenes"  # the smallest number with route statistics
NET = f"""
from torch.utils.data import Subset

from dl_lib.data import DatasetCatalog

scenes = DatasetCatalog.get("digit_scenes_val")
DatasetCatalog.register("{SET}", lambda: Subset(scenes, range(20)), DatasetCatalog.meta("digit_scenes_val"))
"""
DEADLY = """
import os
import signal

from torch.utils.data import get_worker_info


class Deadly:
    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 4 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return scenes[index]

    def file_name(self, index):
        return f"scenes/{index}.png"


DatasetCatalog.register("deadly_scenes", Deadly, DatasetCatalog.meta("digit_scenes_val"))
"""
PARTS = "".join((ROOT / "examples" / f"custom_{part}.py").read_text() for part in ("loss", "hook", "augmentation"))
CONFIG = f"""
_BASE_: {ROOT / "playground" / "Quickstart" / "config.yaml"}
MODEL:
  BACKBONE: {{LAYER_NUM: 2, CELL_NUM_LIST: [2, 3], MAX_STRIDE: 16, INIT_CHANNEL: 8}}
  SEM_SEG_HEAD: {{IN_FEATURES: [layer_0, layer_1, layer_2]}}
  LOSS: {{EXTRA: [focal], FOCAL_WEIGHT: 0.5}}
DATASETS: {{TRAIN: [{SET}], TEST: [{SET}]}}
DATALOADER: {{NUM_WORKERS: 0}}
INPUT: {{CROP_SIZE: [64, 64], EXTRA_AUGMENTATIONS: [erasing]}}
SOLVER: {{IMS_PER_BATCH: 2, CHECKPOINT_PERIOD: 3}}
TEST: {{EVAL_PERIOD: 4}}
LOG_PERIOD: 3
EXTRA_HOOKS: [best_loss]
"""


def start(command, *words, **settings):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-m", "dl_lib.cli.main", command, *words], env=environment, **pipes, **settings
    )


@pytest.fixture(scope="module")
def playground(tmp_path_factory):
    """Folder of an experiment with a run of six iterations in output/Small."""
    folder = tmp_path_factory.mktemp("playground") / "Small"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "net.py").write_text(NET + DEADLY + PARTS)
    process = start("train", "SOLVER.LR_SCHEDULER.MAX_ITER=6", cwd=folder)
    printed, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, ""), printed + errors
    return folder


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def scores_of(folder):
    """Return results.json without times."""
    results = json.loads((folder / "results.json").read_text())["datasets"]
    return {name: {k: v for k, v in values.items() if k != "seconds_per_image"} for name, values in results.items()}


def test_files_of_a_run_folder(playground):
    folder = playground / "output" / "Small"
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events.")}
    assert names == {
        *("config.yaml", "net.py", "log.txt", "metrics.json", "results.json", "results.md", "route.png"),
        *("per_image.csv", "confusion.csv", "confusion.png", "gates.npz", "image_costs.png", "image_routes.png"),
        *(
            "report_data.npz",
            "model_0000003.pth",
            "model_0000003.pth.sha256",
            "model_final.pth",
            "model_final.pth.sha256",
        ),
        *("report_data.npz", "last_checkpoint", ".folder.lock"),
    }
    lines = lines_of(folder)
    assert [line["iteration"] for line in lines] == [3, 4, 6]
    assert [line["iteration"] for line in lines if f"{SET}/mIoU" in line] == [4, 6]
    trained = [line for line in lines if "total_loss" in line]
    assert [line["iteration"] for line in trained] == [3, 6]
    assert all(line["loss_extra_focal"] < line["loss_sem_seg"] for line in trained)
    assert lines[0]["best_loss"] >= lines[-1]["best_loss"]
    events = EventAccumulator(str(folder)).Reload()
    counts = [f"{SET}/edges_{kind}" for kind in ("always_open", "image_dependent", "always_closed")]
    for name in (f"{SET}/mIoU", f"{SET}/distinct_routes", *counts):
        assert [event.step for event in events.Scalars(name)] == [4, 6]
        assert events.Scalars(name)[-1].value == pytest.approx(lines[-1][name])
    assert sum(lines[-1][name] for name in counts) == scores_of(folder)[SET]["routes"]["edges"]
    assert scores_of(folder)[SET]["mIoU"] == lines[-1][f"{SET}/mIoU"]
    assert scores_of(folder)[SET]["images"] == 20
    assert (folder / "results.md").read_text().startswith("# Evaluation")
    route = cv2.imread(str(folder / "route.png"))
    assert route.dtype == np.uint8
    assert len(np.unique(route.reshape(-1, 3), axis=0)) > 2
    assert "Iteration 6/6" in (folder / "log.txt").read_text()


def test_the_written_config_reproduces_the_run(playground):
    first = playground / "output" / "Small"
    again = playground.parent / "again"
    printed = run("train", "--config-file", str(first / "config.yaml"), "OUTPUT_DIR", str(again), cwd=playground.parent)
    assert printed[-1].endswith(f"Run folder: {again}")
    assert scores_of(again) == scores_of(first)
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in (first, again)]
    assert configs[1].pop("OUTPUT_DIR") == str(again)
    configs[0].pop("OUTPUT_DIR")
    assert configs[0]["MODEL"]["LOSS"]["FOCAL_WEIGHT"] == 0.5
    assert configs[0] == configs[1]


def test_a_resumed_run_is_evaluated_to_the_same_results(playground):
    folder = playground / "output" / "Small"
    printed = run("train", "--resume", "SOLVER.LR_SCHEDULER.MAX_ITER=8", cwd=playground)
    assert any("Resuming from iteration 6/8" in line for line in printed)
    assert any("SOLVER.LR_SCHEDULER.MAX_ITER was 6 in the checkpoint and is 8 now" in line for line in printed)
    assert [line["iteration"] for line in lines_of(folder)] == [3, 4, 6, 8]
    trained = scores_of(folder)
    best = [line["best_loss"] for line in lines_of(folder) if "best_loss" in line]
    assert best == sorted(best, reverse=True)  # the state of the hook was restored
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    printed = run("evaluate", "--config-file", str(folder), "SEED=99", cwd=playground.parent)
    evaluation = folder / "evaluations" / SET
    assert printed[-1].endswith(f"Results: {evaluation}")
    assert scores_of(evaluation) == trained
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    again = run("evaluate", "--config-file", str(evaluation), "--name", "again", cwd=playground.parent)
    assert again[-1].endswith(f"Results: {folder / 'evaluations' / 'again'}")
    assert scores_of(folder / "evaluations" / "again") == trained


def test_a_file_that_kills_data_loader_workers_is_named(playground):
    words = ["DATASETS.TRAIN=[deadly_scenes]", "DATALOADER.NUM_WORKERS=2", f"OUTPUT_DIR={playground / 'deadly'}"]
    process = start("train", *words, cwd=playground, start_new_session=True)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 2, printed + errors
    (line,) = errors.splitlines()
    message = "dl_lib train: error: a data loader worker died at sample 4 (scenes/4.png). "
    assert line.startswith(message) and line.endswith(": SIGKILL")
    assert "Traceback" not in printed
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # no process is left


def test_a_second_run_in_the_same_folder_starts_from_scratch(playground):
    """Must be last: leaves another run in the folder, in another precision."""
    folder = playground / "output" / "Small"
    words = ["SOLVER.LR_SCHEDULER.MAX_ITER=2", "TEST.EVAL_PERIOD=0", "SOLVER.PRECISION=bf16"]
    printed = run("train", *words, cwd=playground)
    assert sum("which contains an earlier run" in line for line in printed) == 1
    assert [line["iteration"] for line in lines_of(folder / "earlier_run_1")][-1] == 8
    assert (folder / "earlier_run_1" / "model_0000003.pth").exists()
    assert not (folder / "model_0000003.pth").exists()
    (metrics,) = lines_of(folder)
    assert metrics["iteration"] == 2
    assert math.isfinite(metrics["total_loss"])
    weights = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float32}
