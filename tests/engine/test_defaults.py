"""Complete and resumed runs of a small routed network, built from a config."""

import json
import logging
import random
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from dl_lib.checkpoint import CheckpointError
from dl_lib.checkpoint.resume_check import ResumeConflictError
from dl_lib.config import ConfigError, get_cfg
from dl_lib.data import DatasetCatalog
from dl_lib.engine import DefaultTrainer, TrainingInterrupted, build_configured_model, default_setup
from dl_lib.engine.hooks import LRScheduler
from dl_lib.engine.setup import seed_everything
from dl_lib.evaluation import IncompleteEvaluationError
from dl_lib.utils.files import WriteError
from dl_lib.validation import validate_config
from tests.helpers.small_run import TIMES
from tests.helpers.training import At, restore_logging

TWO_SCENES = "two_digit_scenes"


@pytest.fixture(scope="module", autouse=True)
def two_scenes():
    if TWO_SCENES not in DatasetCatalog.names():
        whole = DatasetCatalog.get("digit_scenes_val")
        DatasetCatalog.register(TWO_SCENES, lambda: Subset(whole, range(2)), DatasetCatalog.meta("digit_scenes_val"))


@pytest.fixture(autouse=True)
def _restore_logging():
    with restore_logging():
        yield


@contextmanager
def captured_warnings():
    """Collect the library's warnings; `setup_logger` disables propagation, so caplog does not see them."""
    messages, handler = [], logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("dl_lib")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def small_config(folder, **settings):
    cfg = get_cfg()
    values = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.LAYER_NUM": 2,
        "MODEL.BACKBONE.CELL_NUM_LIST": [2, 2],
        "MODEL.BACKBONE.INIT_CHANNEL": 8,
        "MODEL.BACKBONE.MAX_STRIDE": 8,
        "MODEL.BACKBONE.NORM": "BN",
        "MODEL.BACKBONE.DROP_PROB": 0.0,
        "MODEL.SEM_SEG_HEAD.NORM": "BN",
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["layer_0", "layer_1"],
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 11,
        "MODEL.BUDGET.CONSTRAIN": True,
        "MODEL.BUDGET.LOSS_WEIGHT": 0.5,
        "MODEL.BUDGET.LOSS_MU": 0.3,
        "MODEL.BUDGET.UNUPDATE_RATE": 0.5,
        "DATASETS.TRAIN": ["digit_scenes_train"],
        "DATASETS.TEST": [TWO_SCENES],
        "DATALOADER.NUM_WORKERS": 0,
        "INPUT.MIN_SIZE_TRAIN": [],
        "INPUT.MIN_SIZE_TEST": 0,
        "INPUT.CROP_SIZE": [64, 64],
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.CHECKPOINT_PERIOD": 3,
        "SOLVER.LR_SCHEDULER.MAX_ITER": 6,
        "SOLVER.LR_SCHEDULER.WARMUP_ITERS": 2,
        "TEST.EVAL_PERIOD": 4,
        "TEST.PRECISE_BN.ENABLED": True,
        "TEST.PRECISE_BN.NUM_ITER": 2,
        "LOG_PERIOD": 1,
        "OUTPUT_DIR": str(folder),
        **settings,
    }
    cfg.merge_from_list([item for pair in values.items() for item in pair])
    validate_config(cfg)
    return cfg


def run(folder, *, resume=False, stop_after=None, **settings):
    cfg = small_config(folder, **settings)
    default_setup(cfg)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    if stop_after is not None:

        def stop(trainer):
            raise KeyboardInterrupt

        trainer.hooks.append(At(stop_after, stop))
    trainer.train()
    return trainer


def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "parts", stop_after=2)
    resumed = run(tmp_path / "parts", resume=True)
    assert resumed.start_iteration == 2
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]) or name.endswith("num_batches_tracked"), name
    lines = {
        part: [json.loads(line) for line in (tmp_path / part / "metrics.json").read_text().splitlines()]
        for part in ("whole", "parts")
    }
    for mine, other in zip(lines["parts"], lines["whole"], strict=True):
        assert {k: v for k, v in mine.items() if k not in TIMES} == {k: v for k, v in other.items() if k not in TIMES}
    assert [line["iteration"] for line in lines["parts"]] == [1, 2, 3, 4, 5, 6]
    scored = {line["iteration"]: line[f"{TWO_SCENES}/mIoU"] for line in lines["whole"] if f"{TWO_SCENES}/mIoU" in line}
    assert scored.keys() == {4, 6}
    assert scored[6] == whole.results[TWO_SCENES].metrics.mean_iou
    assert ["loss_budget" in line for line in lines["whole"]] == [False] * 3 + [True] * 3
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {"config.yaml", "log.txt", "metrics.json", "model_0000003.pth", "model_final.pth", "results.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)


LIGHT = {"TEST.EVAL_PERIOD": 0, "TEST.PRECISE_BN.ENABLED": False, "DATASETS.TEST": []}


def test_resumed_run_uses_and_logs_changed_settings(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, stop_after=2, **LIGHT)
    new = {
        "SOLVER.OPTIMIZER.BASE_LR": 0.02,
        "SOLVER.OPTIMIZER.GATE_LR_MULTI": 2.5,
        "SOLVER.OPTIMIZER.WEIGHT_DECAY": 0.0,
        "SOLVER.OPTIMIZER.MOMENTUM": 0.8,
    }
    with captured_warnings() as messages:
        trainer = DefaultTrainer(small_config(tmp_path, **LIGHT, **new))
        trainer.resume_or_load(resume=True)
    old = small_config(tmp_path, **LIGHT).flat()
    assert sorted(messages) == sorted(
        f"{key} was {old[key]!r} in the checkpoint and is {value!r} now; using {value!r}" for key, value in new.items()
    )
    factor = (1 - 2 / 6) ** 0.9
    groups = trainer.optimizer.param_groups
    assert sorted({group["lr"] for group in groups}) == pytest.approx([0.02 * factor, 0.05 * factor], rel=1e-12)
    assert {(group["weight_decay"], group["momentum"]) for group in groups} == {(0.0, 0.8)}
    trainer.hooks = [LRScheduler(trainer.scheduler)]
    trainer.train()
    rates = sorted({group["initial_lr"] for group in groups})
    assert rates == [0.02, 0.05]
    assert trainer.events.latest("learning_rate") == pytest.approx(0.02 * (1 - 5 / 6) ** 0.9, rel=1e-12)


def test_resumed_adamw_uses_changed_settings(tmp_path):
    adamw = {**LIGHT, "SOLVER.OPTIMIZER.NAME": "AdamW"}
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, stop_after=1, **adamw)
    new = {"SOLVER.OPTIMIZER.BETAS": [0.8, 0.99], "SOLVER.OPTIMIZER.EPS": 1e-6}
    trainer = DefaultTrainer(small_config(tmp_path, **adamw, **new))
    trainer.resume_or_load(resume=True)
    assert {(tuple(group["betas"]), group["eps"]) for group in trainer.optimizer.param_groups} == {((0.8, 0.99), 1e-6)}
    assert all(trainer.optimizer.state[p]["step"] == 1 for p in trainer.model.parameters())


def test_resume_with_another_network_is_rejected_with_all_differences(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, stop_after=2, **LIGHT)
    other = {
        "MODEL.BACKBONE.LAYER_NUM": 3,
        "MODEL.BACKBONE.CELL_NUM_LIST": [2, 2, 2],
        "MODEL.BACKBONE.INIT_CHANNEL": 16,
    }
    trainer = DefaultTrainer(small_config(tmp_path, **{**LIGHT, **other}))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(ResumeConflictError) as caught:
        trainer.resume_or_load(resume=True)
    assert {difference.key: difference.present for difference in caught.value.differences} == other
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_resume_without_a_checkpoint_starts_and_warns(tmp_path):
    trainer = DefaultTrainer(small_config(tmp_path, **LIGHT))
    with captured_warnings() as messages:
        trainer.resume_or_load(resume=True)
    assert messages == [f"No checkpoint to resume from in {tmp_path}; training from scratch"]
    assert trainer.start_iteration == 0


def test_new_run_in_a_used_folder_is_not_confused_with_the_earlier_run(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, stop_after=4, **LIGHT)
    old_config, old_metrics = ((tmp_path / name).read_bytes() for name in ("config.yaml", "metrics.json"))
    cfg = small_config(tmp_path, **LIGHT, **{"SEED": 11, "MODEL.WEIGHTS": str(tmp_path / "model_0000004.pth")})
    default_setup(cfg)
    trainer = DefaultTrainer(cfg)
    with captured_warnings() as messages:
        trainer.resume_or_load(resume=False)
    earlier = tmp_path / "earlier_run_1"
    assert len(messages) == 1
    assert str(earlier) in messages[0]
    moved = {"last_checkpoint", "metrics.json", "log.txt", "model_0000004.pth", "model_0000004.pth.sha256"}
    assert {path.name for path in earlier.iterdir() if "tfevents" not in path.name} >= moved
    assert [(earlier / name).read_bytes() for name in ("config.yaml", "metrics.json")] == [old_config, old_metrics]
    assert {path.name for path in tmp_path.iterdir()} == {"earlier_run_1", "config.yaml", "log.txt"}
    written = get_cfg()
    written.merge_from_file(tmp_path / "config.yaml")
    assert (11, str(earlier / "model_0000004.pth")) == (written.SEED, written.MODEL.WEIGHTS)
    logs = [(folder / "log.txt").read_text() for folder in (earlier, tmp_path)]
    assert ["Environment:" in log for log in logs] == [True, True]
    assert ["seed 11" in log for log in logs] == [False, True]
    again = DefaultTrainer(small_config(tmp_path, **LIGHT))
    again.resume_or_load(resume=True)  # as if the new run had been killed before its first checkpoint
    assert again.start_iteration == 0


def test_a_start_that_is_refused_leaves_the_earlier_run_unchanged(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, stop_after=4, **LIGHT)
    torch.save({"model": {"a.weight": torch.zeros(1)}}, tmp_path / "foreign.pth")

    def files():
        return {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "log.txt"}

    before = files()
    for settings in ({"MODEL.WEIGHTS": str(tmp_path / "foreign.pth")}, {"MODEL.BACKBONE.INIT_CHANNEL": 4}):
        cfg = small_config(tmp_path, **LIGHT, **settings)
        default_setup(cfg)
        trainer = DefaultTrainer(cfg)
        with pytest.raises(CheckpointError):
            trainer.resume_or_load(resume="MODEL.WEIGHTS" not in settings)
    assert files() == before


def test_a_deleted_output_folder_is_an_error(tmp_path):
    cfg = small_config(tmp_path / "run", **LIGHT)
    default_setup(cfg)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.hooks.append(At(2, lambda trainer: shutil.rmtree(tmp_path / "run")))
    with pytest.raises(WriteError, match=r"cannot write metrics\.json: it was deleted during the run"):
        trainer.train()


def test_best_and_latest_checkpoints_are_kept(tmp_path):
    keep = {"SOLVER.CHECKPOINT_PERIOD": 1, "SOLVER.CHECKPOINT_KEEP_LAST": 1, "SOLVER.CHECKPOINT_KEEP_EVERY": 3}
    trainer = run(tmp_path, **keep, **{"SOLVER.BEST_METRIC": f"{TWO_SCENES}/mIoU", "TEST.PRECISE_BN.ENABLED": False})
    names = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert names == ["model_0000003.pth", "model_0000005.pth", "model_best.pth", "model_final.pth"]
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)["best"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    scored = {line["iteration"]: line[f"{TWO_SCENES}/mIoU"] for line in lines if f"{TWO_SCENES}/mIoU" in line}
    assert scored.keys() == {4, trainer.max_iter}
    assert best["value"] == max(scored.values()) == scored[best["iteration"]]


def test_test_set_without_labelled_pixels_is_an_error_after_the_training(tmp_path):
    name, meta = "ignored_digit_scenes", DatasetCatalog.meta(TWO_SCENES)
    scenes = [{**sample, "sem_seg": np.full_like(sample["sem_seg"], 255)} for sample in DatasetCatalog.get(TWO_SCENES)]
    DatasetCatalog.register(name, lambda: scenes, meta)
    settings = {"DATASETS.TEST": [name, TWO_SCENES], "TEST.EVAL_PERIOD": 1, "TEST.VALIDATION_LOSS": True}
    try:
        with pytest.raises(IncompleteEvaluationError, match=f"{name} failed .*{TWO_SCENES}.*no pixel of {name}"):
            run(tmp_path, **settings, **{"SOLVER.LR_SCHEDULER.MAX_ITER": 2, "SOLVER.LR_SCHEDULER.WARMUP_ITERS": 0})
    finally:
        del DatasetCatalog._entries[name]
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 2
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    for line in lines:
        assert {key.partition("/")[2] for key in line if key.startswith(TWO_SCENES)} > {"mIoU", "val_total_loss"}
        assert not any(key.startswith(name) for key in line)
    assert [line["iteration"] for line in lines] == [1, 2]


def test_configured_missing_and_unexpected_keys_are_allowed(tmp_path):
    model = DefaultTrainer(small_config(tmp_path, **LIGHT)).model
    parts = {key: value for key, value in model.state_dict().items() if ".gate." not in key}
    torch.save({"model": {**parts, "fc.weight": torch.zeros(2)}}, tmp_path / "fixed.pth")
    weights = {"MODEL.WEIGHTS": str(tmp_path / "fixed.pth")}
    allowed = {"MODEL.ALLOW_MISSING_KEYS": ["gate"], "MODEL.ALLOW_UNEXPECTED_KEYS": ["fc"]}
    for key, value in allowed.items():
        with pytest.raises(CheckpointError):
            DefaultTrainer(small_config(tmp_path, **LIGHT, **weights, **{key: value})).resume_or_load(resume=False)
    trainer = DefaultTrainer(small_config(tmp_path, **LIGHT, **weights, **allowed))
    trainer.resume_or_load(resume=False)
    loaded = trainer.model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in parts.items())


def test_error_of_the_model_is_a_config_error(tmp_path):
    cfg = small_config(tmp_path)
    cfg.INPUT.CROP_SIZE = []  # needed to measure the cost of the budget
    with pytest.raises(ConfigError, match=r"the model cannot be built: .*INPUT\.CROP_SIZE"):
        build_configured_model(cfg)


@pytest.mark.parametrize(("device", "chosen"), [("cuda:1", [torch.device("cuda:1")]), ("cuda", []), ("cpu", [])])
def test_configured_gpu_index_becomes_the_current_device(tmp_path, monkeypatch, device, chosen):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr("dl_lib.engine.setup.build_model", lambda cfg: calls.append("built"))
    build_configured_model(small_config(tmp_path, **{"MODEL.DEVICE": device}))
    assert calls == [*chosen, "built"]


def test_setup_writes_a_reproducible_config(tmp_path):
    cfg = small_config(tmp_path / "run", SEED=-1)
    default_setup(cfg)
    DefaultTrainer(cfg).resume_or_load(resume=False)
    again = get_cfg()
    again.merge_from_file(tmp_path / "run" / "config.yaml")
    assert again == cfg
    assert cfg.is_frozen()
    assert cfg.SEED >= 0  # drawn at random and recorded
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"seed {cfg.SEED}\n" in log
    assert torch.__version__ in log


def test_tilde_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    cfg = small_config("~/run", **{"MODEL.WEIGHTS": "~/a.pth"})
    default_setup(cfg)
    assert str(tmp_path / "run") == cfg.OUTPUT_DIR
    assert dict(cfg.MODEL)["WEIGHTS"] == str(tmp_path / "a.pth")


def test_default_output_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = small_config("")
    default_setup(cfg)
    assert cfg.OUTPUT_DIR.startswith("output")


def test_seeds_are_reproducible_and_differ_between_ranks():
    def draw(seed, rank):
        seed_everything(seed, rank=rank)
        return random.random(), np.random.random(), torch.rand(1).item()

    assert draw(5, 0) == draw(5, 0)
    assert all(mine != other for mine, other in zip(draw(5, 0), draw(5, 1), strict=True))
