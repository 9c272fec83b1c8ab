"""Pictures in TensorBoard while a small network trains, which does not notice."""

import random

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dl_lib.data import DatasetCatalog
from dl_lib.engine.hooks import PeriodicVisualizer, PeriodicWriter
from dl_lib.engine.training.interrupt import TrainingInterrupted
from dl_lib.engine.training.writers import JSONWriter, TensorBoardWriter
from dl_lib.evaluation.runner.sample_figures import SampleFigures
from tests.helpers.small_run import SET, assert_equal, final_state, make_trainer, metrics
from tests.helpers.training import At, logging_as_before, plain_trainer

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


def test_they_come_at_their_iterations_and_change_nothing_in_a_run_that_is_resumed_either(tmp_path):
    with logging_as_before():
        make_trainer(tmp_path / "without", SHORT).train()
        stopped = make_trainer(tmp_path / "with", [*SHORT, "VIS_PERIOD", 2])
        stopped.hooks.append(At(4, interrupt))
        with pytest.raises(TrainingInterrupted):
            stopped.train()
        make_trainer(tmp_path / "with", [*SHORT, "VIS_PERIOD", 2]).train()
    assert images_in(tmp_path / "with") == {f"{SET}/sample": [2, 4, 5], f"{SET}/route": [2, 4, 5]}
    assert images_in(tmp_path / "without") == {}
    found, expected = final_state(tmp_path / "with"), final_state(tmp_path / "without")
    for part in ("model", "ema", "optimizer"):
        assert_equal(found[part], expected[part], place=part)
    assert_equal(found["trainer"]["random_states"], expected["trainer"]["random_states"], place="random_states")
    assert metrics(tmp_path / "with") == metrics(tmp_path / "without")


def test_random_numbers_come_as_if_nothing_had_been_drawn(tmp_path):
    def draw():
        return {"noise": (torch.rand(4, 5, 3) * random.random() * np.random.rand() * 255).byte().numpy()}

    def numbers():
        return random.random(), np.random.rand(), torch.rand(1).item()

    writers = [TensorBoardWriter(tmp_path), JSONWriter(tmp_path / "metrics.json")]
    trainer = plain_trainer(
        max_iter=3, hooks=[PeriodicVisualizer(draw, writers, period=2), PeriodicWriter(writers, period=1)]
    )
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    trainer.train()
    after = numbers()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert after == numbers()
    assert images_in(tmp_path) == {"noise": [2, 3]}


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
    with logging_as_before():
        trainer = make_trainer(tmp_path, overrides)
    model = trainer.evaluated_model.train()
    pictures = SampleFigures(trainer.cfg, SET).draw(model)
    assert pictures.keys() == {f"{SET}/{name}" for name in names}
    assert all(module.training for module in model.modules())
    sheet = pictures[f"{SET}/sample"]
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] >= 3 * 320
    raw = DatasetCatalog.get(SET)[0]["image"]
    scale = 320 / raw.shape[1]
    middle = sheet[44 + round(raw.shape[0] * scale) // 2, 8 : 8 + 320].astype(int)  # the first column is the image
    assert abs(middle.mean(axis=0) - raw[raw.shape[0] // 2].mean(axis=0)).max() < 12
