"""Shipped experiments: published settings, no redundant keys, a header with the command, two iterations of each."""

import json
import math
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from torch.utils.data import Subset

from dl_lib.config import get_cfg
from dl_lib.data import DatasetCatalog
from dl_lib.engine import DefaultTrainer
from dl_lib.engine.setup import seed_everything
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.named_routes import NAMED_ROUTES
from dl_lib.validation import validate_config
from tests.helpers.dataset_files import write_cityscapes, write_sbd, write_voc

ROOT = Path(__file__).parents[2]
PLAYGROUND = ROOT / "playground"
CONFIGS = sorted(path for path in PLAYGROUND.rglob("config.yaml") if "output" not in path.parts)
SMALL_GATE = "Seg.Layer16.SmallGate.Dynamic_"
# LAYER_NUM, BASE_LR, GATE_LR_MULTI, MAX_ITER, CHECKPOINT_PERIOD, DROP_PROB, precise BN
PUBLISHED = {
    "Seg.Layer16": (16, 0.05, 1.0, 190000, 5000, 0.0, True),
    "Seg.Layer16.ImageNet": (16, 0.02, 2.5, 190000, 5000, 0.0, True),
    "Seg.Layer16.Iter560k.SDP0_3": (16, 0.05, 1.0, 560000, 10000, 0.3, True),
    f"{SMALL_GATE}A": (16, 0.05, 1.0, 190000, 5000, 0.0, False),
    f"{SMALL_GATE}B": (16, 0.05, 1.0, 190000, 5000, 0.0, False),
    f"{SMALL_GATE}C": (16, 0.05, 1.0, 190000, 5000, 0.0, False),
    "Seg.Layer33.ImageNet": (33, 0.02, 2.5, 190000, 5000, 0.0, True),
}
PAPER = {
    *("Fix", "Common-A", "Common-B", "Common-C", "FCN-32s", "DeepLabV3", "U-Net", "HRNetV2"),
    *("Cell.Basic", "Cell.Bottleneck", "Cell.MBConv", "Cell.SepConv_x1", "Cell.SepConv_x3"),
    *("Gate.Sigmoid", "Gate.Softmax", "Bias.0", "Bias.1", "Bias.2", "DropPath", "Layer33", "CityscapesTest", "VOC"),
    "OneGPU",
}
SIZES = [512, 768, 1024, 1280, 1536, 2048]
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.BACKBONE.INIT_CHANNEL", 8, "DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", "run"),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.LR_SCHEDULER.MAX_ITER", 2, "TEST.PRECISE_BN.NUM_ITER", 1, "LOG_PERIOD", 1),
    *("TEST.OPTIMIZE", False),
]
LAYERS = 5  # deeper networks only have more of the same layers
SIDE = 128  # of crops and images, the smallest that small gates accept
BUDGETS = {f"{SMALL_GATE}A": (0.8, 0.1), f"{SMALL_GATE}B": (0.5, 0.1), f"{SMALL_GATE}C": (0.5, 0.2)}


def load(path):
    cfg = get_cfg()
    cfg.merge_from_file(path)
    return cfg


@pytest.mark.parametrize(("folder", "names"), [("Dynamic", set(PUBLISHED)), ("Paper", PAPER)])
def test_all_published_experiments_exist(folder, names):
    assert {path.parent.name for path in (PLAYGROUND / folder).glob("*/config.yaml")} == names


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name):
    cfg = load(PLAYGROUND / "Dynamic" / name / "config.yaml")
    model, solver = cfg.MODEL, cfg.SOLVER
    assert PUBLISHED[name] == (
        model.BACKBONE.LAYER_NUM,
        solver.OPTIMIZER.BASE_LR,
        solver.OPTIMIZER.GATE_LR_MULTI,
        solver.LR_SCHEDULER.MAX_ITER,
        solver.CHECKPOINT_PERIOD,
        model.BACKBONE.DROP_PROB,
        cfg.TEST.PRECISE_BN.ENABLED,
    )
    assert model.BACKBONE.CELL_NUM_LIST == [2, 3] + [4] * (model.BACKBONE.LAYER_NUM - 2)
    assert (model.GATE.UNREACHED, model.BUDGET.FLOPS_ALL, solver.IMS_PER_BATCH) == ("published", 26300.0, 8)
    inputs = cfg.INPUT
    assert (inputs.MIN_SIZE_TRAIN, inputs.CROP_SIZE, inputs.MIN_SIZE_TEST) == (SIZES, [768, 768], 1024)
    pretrained = name.endswith("ImageNet")
    assert list(model.ALLOW_MISSING_KEYS) == (["gate", "sem_seg_head"] if pretrained else [])
    budget = (model.BUDGET.LOSS_WEIGHT, model.BUDGET.LOSS_MU)
    constrained = name in BUDGETS
    assert model.GATE["SMALL_GATE"] is model.BUDGET["CONSTRAIN"] is constrained
    assert budget == BUDGETS.get(name, (0.0, 0.0))


def test_the_base_of_the_architecture_has_no_recipe_for_data():
    """Published code: the base config set sizes, crop, FLOPs and schedule for Cityscapes."""
    base, defaults = load(ROOT / "configs" / "Base-DynamicNet4Seg.yaml").flat(), get_cfg().flat()
    assert [key for key in base if base[key] != defaults[key]] == ["MODEL.GATE.UNREACHED"]
    assert (defaults["INPUT.MIN_SIZE_TRAIN"], defaults["INPUT.MIN_SIZE_TEST"]) == ([], 0)
    quickstart = load(PLAYGROUND / "Quickstart" / "config.yaml")
    inputs = quickstart.INPUT
    assert (inputs.MIN_SIZE_TRAIN, inputs.CROP_SIZE, inputs.MIN_SIZE_TEST) == ([], [96, 96], 0)
    assert quickstart.MODEL.BUDGET.FLOPS_ALL == 0


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_a_config_contains_only_what_differs_from_its_base(path):
    given = yaml.safe_load(path.read_text())
    base = load(path.parent / given.pop("_BASE_")).flat()

    def leaves(node, prefix=""):
        for name, value in node.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    assert [key for key, value in leaves(given) if base[key] == value] == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_a_config_begins_with_the_command_that_runs_it(path):
    head = path.read_text().split("_BASE_")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert f"cd {path.parent.relative_to(ROOT)} && dl_lib train" in head


@pytest.fixture
def folder_with_route(tmp_path, monkeypatch):
    """Current folder with the route of `dl_lib freeze-route` that the experiments Common-* require."""
    monkeypatch.chdir(tmp_path)
    route = NAMED_ROUTES["unet"].build(Lattice([2, 3] + [4] * 14))
    path = tmp_path / "output" / "frozen" / "route.json"
    path.parent.mkdir(parents=True)
    path.write_text(route.to_json())
    return tmp_path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_every_config_is_valid(path, folder_with_route):
    validate_config(load(path))


@pytest.fixture(scope="module")
def miniature_datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    write_cityscapes(folder, size=(SIDE, SIDE))
    write_voc(folder)
    write_sbd(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DL_DATASETS", str(folder))
        yield


def first_image_of(name):
    """Register the first image of a dataset as another one, and return its name."""
    short = f"first_image_of_{name}"
    if short not in DatasetCatalog.names():
        DatasetCatalog.register(short, lambda: Subset(DatasetCatalog.get(name), range(1)), DatasetCatalog.meta(name))
    return short


def load_small(path):
    cfg = load(path)
    cfg.merge_from_list([*SMALL, "DATASETS.TEST", list(map(first_image_of, cfg.DATASETS.TEST))])
    backbone = cfg.MODEL.BACKBONE
    if backbone.LAYER_NUM > LAYERS and not backbone.ROUTE:
        backbone.LAYER_NUM, backbone.CELL_NUM_LIST = LAYERS, backbone.CELL_NUM_LIST[:LAYERS]
    if cfg.INPUT.CROP_SIZE[0] > SIDE:
        cfg.INPUT.CROP_SIZE = [SIDE, SIDE]
    if cfg.INPUT.MIN_SIZE_TEST:
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = [SIDE], SIDE
    return cfg


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.relative_to(PLAYGROUND).as_posix())
def test_every_experiment_trains_and_evaluates(path, folder_with_route, miniature_datasets, monkeypatch):
    monkeypatch.setattr("dl_lib.engine.defaults.CALIBRATION_IMAGES", 2)
    cfg = load_small(path)
    validate_config(cfg)
    seed_everything(cfg.SEED, rank=0)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    with patch("dl_lib.evaluation.report.write._draw", return_value={}):
        trainer.train()
    lines = map(json.loads, (folder_with_route / "run" / "metrics.json").read_text().splitlines())
    losses = [line["loss_sem_seg"] for line in lines if "loss_sem_seg" in line]
    assert len(losses) == 2 and all(map(math.isfinite, losses))
    unused = [name for name, p in trainer.model.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == [], "processes of one run wait for the gradients of all parameters"
    assert [len(result.images) for result in trainer.results.values()] == [1] * len(cfg.DATASETS.TEST)
