"""Formats of a run: config, overrides, checkpoint, weights, metrics and results."""

import contextlib
import io
import json
import math
import os
import shutil

import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors

from dl_lib.checkpoint import Checkpointer
from dl_lib.checkpoint.files import read_checkpoint, save_checkpoint
from dl_lib.cli.compare_runs import main as compare_runs
from dl_lib.config import ConfigError, apply_overrides, get_cfg
from dl_lib.engine.hooks import BestCheckpointer, EarlyStopping, PeriodicWriter
from dl_lib.engine.training.random_state import get_random_state, preserve_random_state, set_random_state
from dl_lib.engine.training.saved_step import SavedStep, read_saved_step, step_file
from dl_lib.engine.training.writers import JSONWriter
from dl_lib.modeling.costs.latency_file import configured_latency, latency_to_json, network_values
from dl_lib.utils.metrics_file import read_metrics
from dl_lib.validation import validate_config
from tests.fuzz.registry import USER_ERRORS, Format, registered
from tests.helpers.latency import latency_table
from tests.helpers.mutations import EXTREMES, mutated_bytes, mutated_tree
from tests.helpers.tiny_model import TINY
from tests.helpers.training import LeastSquares, make_batch, resumable_trainer

CONFIG = """
MODEL:
  WEIGHTS: ""
  BACKBONE: {LAYER_NUM: 3, CELL_NUM_LIST: [2, 3, 4], CELL_TYPE: [sep_conv_3x3, skip_connect], DROP_PROB: 0.1}
  SEM_SEG_HEAD: {NUM_CLASSES: 2, IGNORE_VALUE: 255}
  LOSS: {CLASS_WEIGHTS: [1.0, 2.5]}
DATASETS:
  TRAIN: [mine]
  FOLDERS:
    - {NAME: mine, IMAGES: images, LABELS: labels, CLASSES: [road, car], COLORS: [[0, 0, 0], [255, 0, 0]]}
    - {NAME: ids, IMAGES: [a, b], LABELS: [a, b], SPLIT: [a.txt, b.txt], IMAGE_PATTERN: "{name}_sat",
       LABEL_PATTERN: "{name}_mask.png", CLASSES: [road, car], LABEL_MAP: {0: ignore, 1-5: road, 7: 1}}
    - {NAME: colors, IMAGES: a, LABELS: a, CLASSES: [road, car], COLOR_MAP: {"0, 0, 0": road, "#ff0000": car}}
DATALOADER: {NUM_WORKERS: 2, CACHE: none}
INPUT: {CROP_SIZE: [64, 64], MIN_SIZE_TRAIN: [], FLIP_PROB: 0.5}
SOLVER:
  IMS_PER_BATCH: 4
  OPTIMIZER: {BASE_LR: 1.0e-2, GROUPS: [{PARAMS: gate, LR_MULTI: 2.0}]}
  LR_SCHEDULER: {MAX_ITER: 100, WARMUP_ITERS: 10}
SEED: 3
"""


@registered
def config(folder):
    path = folder / "config.yaml"

    def read(content):
        path.write_bytes(content)
        cfg = get_cfg()
        cfg.merge_from_file(path)
        validate_config(cfg)
        again = get_cfg()
        again.merge_from_other_cfg(yaml.safe_load(cfg.dump()))
        assert again == cfg

    trees = mutated_tree(yaml.safe_load(CONFIG)).map(lambda tree: yaml.safe_dump(tree).encode())
    return Format(mutated_bytes([CONFIG.encode()]) | trees, read)


@registered
def overrides(folder):
    keys = sorted(get_cfg().flat())
    texts = [json.dumps(value) if not isinstance(value, str) else value for value in EXTREMES]

    def read(pairs):
        cfg = get_cfg()
        cfg.merge_from_other_cfg(yaml.safe_load(CONFIG))
        apply_overrides(cfg, [f"{key}={value}" for key, value in pairs])
        validate_config(cfg)

    values = st.sampled_from(texts) | st.text(max_size=12) | mutated_bytes([b"[1, 2.5, 'x']"]).map(os.fsdecode)
    return Format(st.lists(st.tuples(st.sampled_from(keys), values), min_size=1, max_size=3), read)


@registered
def checkpoint(folder):
    def trainer_in(run):
        metric = {"metric": "total_loss", "mode": "min"}
        hooks = [EarlyStopping(**metric, patience=3), PeriodicWriter([JSONWriter(run / "metrics.json")], period=1)]
        trainer = resumable_trainer(run, max_iter=6, period=2, hooks=hooks)
        trainer.hooks.insert(-1, BestCheckpointer(trainer.hooks[1]._checkpointer, **metric))
        return trainer

    valid, run = folder / "valid", folder / "run"
    valid.mkdir()
    trainer = trainer_in(valid)
    trainer.max_iter = 4
    trainer.train()
    files = {path.name: path.read_bytes() for path in valid.iterdir()}
    tree = read_checkpoint(valid / "model_final.pth")
    tensors = (torch.zeros(0), torch.full((3,), math.nan), torch.zeros(3, dtype=torch.int8), torch.zeros(2, 2))

    def read(case):
        name, content, has_checksum = case
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        for other, data in files.items():
            if has_checksum or other != f"{name}.sha256":
                (run / other).write_bytes(data)
        if isinstance(content, bytes):
            (run / name).write_bytes(content)
        else:
            save_checkpoint(content, run / name)
        trainer = trainer_in(run)
        assert 0 <= trainer.iteration <= 6
        assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
        trainer.train()
        assert set(read_metrics(run)["total_loss"].iterations) <= set(range(1, 7))

    damaged = st.sampled_from(sorted(files)).flatmap(
        lambda name: st.tuples(st.just(name), mutated_bytes([files[name]]), st.booleans())
    )
    trees = mutated_tree(tree, extremes=(*EXTREMES, *tensors))
    return Format(damaged | st.tuples(st.just("model_final.pth"), trees.filter(_is_saveable), st.just(True)), read)


def _is_saveable(tree):
    return isinstance(tree, dict)


@registered
def weights(folder):
    tree = {"model": LeastSquares().state_dict(), "iteration": 3}
    tensors = (torch.zeros(0), torch.full((3,), math.nan), torch.zeros(3, dtype=torch.int8), np.zeros(3))
    save_checkpoint(tree, folder / "valid.pth")
    contents = {".pth": (folder / "valid.pth").read_bytes(), ".safetensors": save_safetensors(tree["model"])}

    def read(case):
        suffix, content = case
        path = folder / f"weights{suffix}"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        model = LeastSquares()
        Checkpointer(model).load(path)
        assert all(parameter.isfinite().all() for parameter in model.parameters())

    damaged = st.sampled_from(sorted(contents)).flatmap(
        lambda suffix: st.tuples(st.just(suffix), mutated_bytes([contents[suffix]]))
    )
    return Format(damaged | st.tuples(st.just(".pth"), mutated_tree(tree, extremes=(*EXTREMES, *tensors))), read)


@registered
def saved_step(folder):
    path, batch = folder / step_file(2, rank=0), [{**sample, "file_name": "a.png"} for sample in make_batch(0)]
    step = SavedStep(
        **{"weights": LeastSquares().state_dict(), "iteration": 2, "max_iter": 9, "rank": 0, "world_size": 1},
        **{"batches": [batch], "random_state": get_random_state(), "values": {"loss": math.nan}, "threads": 1},
        **{"precision": {"scale": 2.0}, "budget_weight": 0.5, "device": "cpu", "versions": {}, "config": {"SEED": 0}},
    )
    save_checkpoint(step.content(), path)
    content, tree = path.read_bytes(), read_checkpoint(path)
    os.remove(f"{path}.sha256")

    def read(content):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        found = read_saved_step(folder)
        assert (found.iteration, found.rank) == (2, 0) and found.max_iter > 2 and found.threads > 0
        assert all(isinstance(value, float | int) for value in found.values.values())
        with preserve_random_state():
            set_random_state(found.random_state)

    tensors = (torch.zeros(0), torch.zeros(1).expand(10**9), torch.zeros(3, dtype=torch.int8))
    return Format(mutated_bytes([content]) | mutated_tree(tree, extremes=(*EXTREMES, *tensors)), read)


@registered
def metrics(folder):
    path = folder / "metrics.json"
    lines = [{"iteration": i, "total_loss": 1 / i, "lr": 0.1, "mine_val/mIoU": 0.5} for i in range(1, 6)]
    trees = mutated_tree(lines).map(lambda tree: "".join(f"{json.dumps(line)}\n" for line in tree).encode())
    valid = "".join(f"{json.dumps(line)}\n" for line in lines).encode()

    def read(content):
        path.write_bytes(content)
        with contextlib.suppress(*USER_ERRORS):
            for series in read_metrics(folder).values():
                assert sorted(set(series.iterations)) == list(series.iterations)
                assert all(map(math.isfinite, series.values))
        assert 0 <= JSONWriter(path).open(iteration=4, written=2) <= 4
        kept = path.read_bytes().splitlines()
        assert all(json.loads(line)["iteration"] <= 4 for line in kept)

    return Format(mutated_bytes([valid]) | trees, read)


@registered
def latency(folder):
    path = folder / "latency.json"
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, "MODEL.BUDGET.LATENCY_TABLE", str(path)])
    text = latency_to_json(latency_table(cfg, (64, 64)))

    def read(content):
        path.write_bytes(content)
        table = configured_latency(cfg)
        assert table.conditions.network == network_values(cfg) and math.isfinite(table.dense) and table.dense >= 0
        assert latency_to_json(table) == latency_to_json(configured_latency(cfg))

    trees = mutated_tree(json.loads(text)).map(lambda tree: json.dumps(tree).encode())
    return Format(mutated_bytes([text.encode()]) | trees, read)


@registered
def results(folder):
    path = folder / "results.json"
    costs = {kind: {"avg": 1.5, "min": 1.0, "max": 2.0} for kind in ("expected", "real", "real_complete", "executed")}
    classes = {"road": {"IoU": 0.5, "ACC": 0.7}, "car": {"IoU": None, "ACC": None}}
    scores = {"mIoU": 0.5, "fwIoU": 0.5, "mACC": 0.6, "pACC": 0.7}
    values = {**scores, "classes": classes, "costs_gflops": costs, "seconds_per_image": 0.1, "images": 3}
    tree = {"datasets": {"mine_val": values}, "parameters": 1000}

    def read(content):
        path.write_bytes(content)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                compare_runs([str(folder), "--classes"])
        except SystemExit as error:
            assert error.code == 2
            raise ConfigError("refused by the command") from None

    damaged = mutated_bytes([json.dumps(tree).encode()])
    return Format(damaged | mutated_tree(tree).map(lambda tree: json.dumps(tree).encode()), read)
