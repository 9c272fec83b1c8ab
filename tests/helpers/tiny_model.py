"""Tiny `DynamicNet4Seg` with batch norm, and images for it."""

import torch

from dl_lib.config import get_cfg
from dl_lib.modeling import build_model
from tests.helpers.published import SETTINGS

TINY = [
    *(*SETTINGS["tiny"], "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NORM", "BN", "MODEL.SEM_SEG_HEAD.NORM", "BN"),
    *("INPUT.CROP_SIZE", [128, 128]),
]


def model_of(*overrides):
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, *overrides])
    return build_model(cfg)


def random_image(height, width, **more):
    return {"image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8), **more}
