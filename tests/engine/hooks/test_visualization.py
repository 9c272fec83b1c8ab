"""Figures in TensorBoard during training, which they do not change."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dl_lib.data import DatasetCatalog
from dl_lib.engine.hooks import PeriodicVisualizer, PeriodicWriter
from dl_lib.engine.training.interrupt import TrainingInterrupted
from dl_lib.engine.training.writers import JSONWriter
from dl_lib.evaluation.runner.sample_figures import SampleFigures
from tests.helpers.small_run import DATASET, assert_equal, final_state, make_trainer, metrics
from tests.helpers.training import At, plain_trainer, restore_logging, tensorboard_writer

SHORT = [
    *("SOLVER.LR_SCHEDULER.MAX_ITER", 5, "SOLVER.ACCUMULATION_STEPS", 1, "SOLVER.IMS_PER_BATCH", 2),
    *("SOLVER.BEST_METRIC", "", "TEST.EVAL_PERIOD", 0, "TEST.PRECISE_BN.ENABLED", False, "LOG_PERIOD", 2),
]
STATIC = [
    *("MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.BACKBONE.NAME", "rexnet_lite"),
    *("MODEL.SEM_SEG_HEAD.NAME", "SemanticFPNHead", "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c2", "c3", "c4", "c5"]),
]


def images_in(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}


def interrupt(trainer):
    raise KeyboardInterrupt


def test_figures_at_each_period_do_not_affect_training_or_resume(tmp_path):
    with restore_logging():
        make_trainer(tmp_path / "without", SHORT).train()
        stopped = make_trainer(tmp_path / "with", [*SHORT, "VIS_PERIOD", 2])
        stopped.hooks.append(At(4, interrupt))
        with pytest.raises(TrainingInterrupted):
            stopped.train()
        make_trainer(tmp_path / "with", [*SHORT, "VIS_PERIOD", 2]).train()
    drawn = {"sample": [2, 4, 5], "route": [2, 4, 5], "mean_route": [5]}
    assert images_in(tmp_path / "with") == {f"{DATASET}/{name}": iterations for name, iterations in drawn.items()}
    assert images_in(tmp_path / "without") == {}
    found, expected = final_state(tmp_path / "with"), final_state(tmp_path / "without")
    for part in ("model", "ema", "optimizer"):
        assert_equal(found[part], expected[part], path=part)
    assert_equal(found["trainer"]["random_states"], expected["trainer"]["random_states"], path="random_states")
    assert metrics(tmp_path / "with") == metrics(tmp_path / "without")


def test_random_states_are_unaffected(tmp_path):
    def draw():
        figure = Figure((torch.rand(1).item() + 1, random.random() + 1))
        figure.text(np.random.rand(), 0.5, "x")
        return {"noise": figure}

    def numbers():
        return random.random(), np.random.rand(), torch.rand(1).item()

    writers = [tensorboard_writer(tmp_path), JSONWriter(tmp_path / "metrics.json")]
    trainer = plain_trainer(
        max_iter=3, hooks=[PeriodicVisualizer(draw, writers, period=2), PeriodicWriter(writers, period=1)]
    )
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    trainer.train()
    after = numbers()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert after == numbers()
    assert images_in(tmp_path) == {"noise": [2, 3]}


def test_training_without_figures_does_not_load_matplotlib(tmp_path):
    code = f"""
import pathlib, sys
from tests.helpers.small_run import make_trainer
make_trainer(pathlib.Path({str(tmp_path)!r}), {[*SHORT, "DATASETS.TEST", [], "TEST.VALIDATION_LOSS", False]}).train()
assert not any(name.partition(".")[0] == "matplotlib" for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "model_final.pth").exists()


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ([], {"sample", "route"}),
        (["TEST.MULTI_SCALE.FLIP", True, "INPUT.MIN_SIZE_TEST", 64], {"sample", "route"}),
        (STATIC, {"sample"}),
    ],
    ids=["routed", "mirrored", "static"],
)
def test_what_is_drawn(tmp_path, overrides, names):
    with restore_logging():
        trainer = make_trainer(tmp_path, overrides)
    model = trainer.evaluated_model.train()
    figures = SampleFigures(trainer.cfg, DATASET).draw(model)
    assert figures.keys() == {f"{DATASET}/{name}" for name in names}
    assert all(module.training for module in model.modules())
    images = [axes.images[0].get_array() for axes in figures[f"{DATASET}/sample"].axes]
    raw = DatasetCatalog.get(DATASET)[0]["image"]
    assert [image.shape for image in images] == [raw.shape] * 3, "image, label, prediction"
    np.testing.assert_array_equal(images[0], raw)
    assert not np.array_equal(images[1], raw)
