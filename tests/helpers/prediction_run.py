"""Run folder of a tiny routed network with random weights, and the folder dataset that names its classes."""

import numpy as np
import pytest
import torch
from PIL import Image

from dl_lib.checkpoint import Checkpointer
from dl_lib.config import get_cfg, write_config
from dl_lib.data import DatasetCatalog, register_folders
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.gate import Gate

CLASSES = ["ground", "plant", "animal"]
SETTINGS = {
    **{"MODEL.BACKBONE.LAYER_NUM": 1, "MODEL.BACKBONE.CELL_NUM_LIST": [2], "MODEL.BACKBONE.MAX_STRIDE": 8},
    **{"MODEL.BACKBONE.INIT_CHANNEL": 8, "MODEL.BACKBONE.NORM": "BN", "MODEL.GATE.GATE_INIT_BIAS": 0.1},
    **{"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["layer_0", "layer_1"], "MODEL.SEM_SEG_HEAD.NUM_CLASSES": len(CLASSES)},
    **{"MODEL.SEM_SEG_HEAD.NORM": "BN", "MODEL.DEVICE": "cpu", "DATALOADER.NUM_WORKERS": 0, "INPUT.MIN_SIZE_TEST": 0},
    **{"DATASETS.TRAIN": ["prediction_test"], "DATASETS.TEST": ["prediction_test"]},
}
SIZES = ((17, 23), (32, 32), (1, 9))  # height and width of the images of the dataset


def make_dataset(folder):
    """Write images and labels; return the entry of `DATASETS.FOLDERS`."""
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        for kind, pixels in (
            ("images", rng.integers(0, 256, (*size, 3))),
            ("labels", rng.integers(0, len(CLASSES), size)),
        ):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{number}.png")
    paths = {"IMAGES": str(folder / "images"), "LABELS": str(folder / "labels")}
    return {"NAME": "prediction_test", **paths, "CLASSES": CLASSES}


def make_run(folder, *, data=None, overrides=None, gate_logit=None):
    """Save a config and random weights in a run folder.

    `data` is the result of `make_dataset`, if it is used, which is registered only meanwhile. With `gate_logit`, all
    gates have the same value.
    """
    cfg = get_cfg()
    values = {**SETTINGS, "DATASETS.FOLDERS": [data] if data else [], "OUTPUT_DIR": str(folder), **(overrides or {})}
    cfg.merge_from_list([word for item in values.items() for word in item])
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
        register_folders(cfg.DATASETS.FOLDERS)
        model = build_model(cfg)
    for name, values in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(values)
    for gate in (module for module in model.modules() if gate_logit is not None and isinstance(module, Gate)):
        torch.nn.init.zeros_(gate.predict.weight)
        torch.nn.init.constant_(gate.predict.bias, gate_logit)
    folder.mkdir(parents=True)
    write_config(cfg, folder)
    Checkpointer(model, folder).save("model_final")
    return folder
