"""Reference values of the published DynamicRouting code, and the inputs that produced them.

Weights, images and labels are computed by formulas; those of the weights need only names and shapes.
"""

import functools
import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import torch

from dl_lib.checkpoint.conversion.released import translate_released
from dl_lib.config import get_cfg
from dl_lib.modeling import build_model

REFERENCE = Path(__file__).parents[1] / "reference"
LISTINGS = REFERENCE / "state_dict"
ALL_OPERATIONS = (
    *("none", "avg_pool_3x3", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7"),
    *("sep_conv_heavy_3x3", "sep_conv_heavy_5x5", "dil_conv_3x3", "dil_conv_5x5"),
    *("conv_3x3_basic", "Bottleneck_3x3", "Bottleneck_5x5"),
)
TINY = ["MODEL.BACKBONE.LAYER_NUM", 4, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3, 4, 4], "MODEL.BACKBONE.INIT_CHANNEL", 16]
SETTINGS = {
    "Seg.Layer16": [],
    "Seg.Layer33.ImageNet": ["MODEL.BACKBONE.LAYER_NUM", 33, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3] + [4] * 31],
    "tiny": TINY,
    "tiny_nogate": [*TINY, "MODEL.GATE.GATE_ON", False],
    "tiny_fullstem": [*TINY, "MODEL.BACKBONE.SEPT_STEM", False],
    "tiny_ops": [*TINY, "MODEL.BACKBONE.CELL_TYPE", list(ALL_OPERATIONS)],
}


@functools.cache
def read_listing(name):
    with gzip.open(LISTINGS / f"{name}.json.gz", "rt") as file:
        return json.load(file)


def hollow_weights(name):
    """Return tensors with the published names, shapes and dtypes, each an expanded scalar, so that files stay small."""
    return {
        key: torch.ones((), dtype=torch.int64 if key.endswith("num_batches_tracked") else torch.float32).expand(shape)
        for key, shape in read_listing(name)["keys"]
    }


def published_weights(name, *, gates=None):
    """Return the weights that produced the reference values of a network, for one variant of the gates."""
    listing = read_listing(name)
    gates = gates or listing["gates"]
    return {key: torch.from_numpy(_value(key, tuple(shape), gates)) for key, shape in listing["keys"]}


def _value(key, shape, gates):
    noise = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("gate_weights_beta"):
        value = np.ones(shape)
    elif key.endswith(("running_mean", "norm.bias", "predictor.bias")):
        value = 0.1 * noise
    elif key.endswith("running_var"):
        value = 1 + 0.1 * abs(noise)
    elif key.endswith("norm.weight"):
        value = 1 + 0.1 * noise
    elif key.endswith("gate_conv_beta.2.bias"):
        value = _gate_bias(key, noise, gates)
    else:
        scales = {
            ".stem_1.": 1 / 64,
            "gate_conv_beta.2": 8.0 if gates == "split" else 0.3,
            ".res_up.": 0.8,
            ".res_down.": 0.8,
        }
        scale = next((scale for part, scale in scales.items() if part in key), 1)
        value = scale * noise / np.sqrt(np.prod(shape[1:]))
    return np.asarray(value, np.float32)


def _gate_bias(key, noise, gates):
    if gates == "split":
        return 0.2 * noise
    if gates == "init":
        return np.full_like(noise, 1.5)
    lot = zlib.crc32(f"{'class3' if gates == 'mix3' else 'class'}:{key}".encode()) % 5
    return {0: -3 + 0.3 * noise, 1: 3 + 0.3 * noise}.get(lot, 0.3 + noise)


SIZES = {0: (128, 256), 1: (96, 160), 2: (100, 150), 3: (160, 192), 4: (128, 128), 5: (128, 128), 6: (256, 256)}
SIZES |= {7: (256, 256), 8: (96, 112)}


def image(k):
    """Return image k (3, H, W), float32, in the model's channel order."""
    height, width = SIZES[k]
    y, x = np.mgrid[:height, :width]
    c = np.arange(3)[:, None, None]
    noise = np.random.default_rng(zlib.crc32(f"image:{k}".encode())).standard_normal((3, height, width))
    waves = 45 * np.sin(0.11 * x + 0.9 * c + 0.7 * k) + 40 * np.cos(0.07 * y * (1 + 0.25 * c) - 0.4 * k)
    return torch.from_numpy(np.clip(np.rint(115 + waves + 15 * noise), 0, 255).astype(np.float32))


def label(k):
    """Return label map k (H, W), int64."""
    y, x = np.mgrid[: SIZES[k][0], : SIZES[k][1]]
    v = (x // 16 + 3 * (y // 12) + 5 * k) % 20
    return torch.from_numpy(np.where(v == 19, 255, v))


def batch_of(*ks, dtype=torch.float64):
    return [{"image": image(k).to(dtype), "sem_seg": label(k)} for k in ks]


@functools.cache
def read_case(case):
    """Return the reference values of a model and a variant of the gates, `model__gates`."""
    with gzip.open(REFERENCE / "numeric" / f"{case}.json.gz", "rt") as file:
        return json.load(file)


LISTING_OF = {"tiny_bn": "tiny", "tiny_small": "tiny", "tiny_sdp": "tiny"}  # models with equal names and shapes


def build_case(case, *, dtype=torch.float64, overrides=()):
    """Build the model of a reference case with the published weights, converted like a released file."""
    reference = read_case(case)
    cfg = get_cfg()
    cfg.merge_from_list([x for pair in reference["overrides"].items() for x in pair])
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.GATE.UNREACHED", "published", *overrides])
    model = build_model(cfg)
    weights = published_weights(LISTING_OF.get(reference["model"], reference["model"]), gates=reference["gates"])
    model.load_state_dict(released_as_ours(weights, cell_types=model.backbone.cell_types))
    return model.to(dtype)


def our_name(published_key, cell_types):
    return next(iter(released_as_ours({published_key: torch.ones(1)}, cell_types=cell_types)), None)


def released_as_ours(weights, *, cell_types):
    """Return published weights under dl_lib's names, after checking that every key was converted."""
    translation = translate_released(weights, cell_types=cell_types)
    assert not translation.untranslated
    return dict(translation.weights)


def build(name, *, device="meta", overrides=()):
    cfg = get_cfg()
    cfg.merge_from_list([*SETTINGS[name], "MODEL.DEVICE", device, *overrides])
    with torch.device(device):
        return build_model(cfg)
