"""Conversion of a checkpoint file of the published code to the format of this library."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dl_lib.checkpoint.conversion.released import RELEASED_CELL_TYPES, is_released, translate_released
from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.checkpoint.files import read_checkpoint, save_checkpoint
from dl_lib.checkpoint.locate import local_weights
from dl_lib.checkpoint.matching import CheckpointMismatchError, find_mismatch
from dl_lib.checkpoint.weights import check_values
from dl_lib.config import CfgNode, get_cfg
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.lattice import FINEST_STRIDE

__all__ = ["Conversion", "convert_file"]

_CELL = re.compile(r"backbone\.cells\.layer(\d+)_stride(\d+)\.")
_RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Conversion:
    """Result of `convert_file`."""

    path: str
    num_keys: int  # in the published file, all of which were used
    num_parameters: int  # learnable
    settings: Mapping[str, object]  # config keys that build the network of these weights

    def __str__(self) -> str:
        settings = "".join(f"\n  {key}: {value}" for key, value in self.settings.items())
        return (
            f"{self.path}: converted {self.num_keys} keys of the published code, {self.num_parameters:,} parameters. "
            f"Configuration of the network:{settings}"
        )


def convert_file(
    path_in: str | os.PathLike[str],
    path_out: str | os.PathLike[str],
    *,
    cell_types: Sequence[str] = RELEASED_CELL_TYPES,
) -> Conversion:
    """Convert weights of the published code to a checkpoint `{"model": state_dict}` of this library.

    The network is inferred from names and shapes, built on the meta device, and must match the weights exactly.
    Optimizer and other state in the file is dropped.

    Args:
        path_in: Checkpoint file of the published code.
        path_out: File to write; must not exist.
        cell_types: Operations of each cell in order (`CELL_TYPE`), since the published names only number them.

    Raises:
        CheckpointError: If `path_out` exists, or if `path_in` cannot be read or is not a file of the published code, or
            has NaN or infinite values.
        CheckpointMismatchError: If keys are missing or unexpected.
    """
    source, target = os.fspath(path_in), os.fspath(path_out)
    if os.path.exists(target):
        raise CheckpointError(f"the output file exists; delete it or use another name. Received: path_out={target!r}")
    published = read_checkpoint(local_weights(source))["model"]
    if not is_released(published):
        raise CheckpointError(
            f"these weights do not have the key names of the published code; checkpoints of this library need no "
            f"conversion. Received: path_in={source!r} with first key {next(iter(published))!r}"
        )
    translation = translate_released(published, cell_types=cell_types)
    settings = _infer_settings(translation.weights, cell_types=cell_types)
    mismatch = find_mismatch(translation.weights, model=_build_on_meta(settings).state_dict())
    mismatch = replace(mismatch, untranslated=translation.untranslated)
    if mismatch:
        raise CheckpointMismatchError(mismatch, path=source, original_names=translation.original_names)
    check_values(published, path=source)
    save_checkpoint({"model": dict(translation.weights)}, target)
    return Conversion(
        path=target,
        num_keys=len(published),
        num_parameters=sum(
            tensor.numel() for key, tensor in translation.weights.items() if not key.endswith(_RUNNING_STATISTICS)
        ),
        settings=settings,
    )


def _infer_settings(weights: Mapping[str, Tensor], *, cell_types: Sequence[str]) -> dict[str, object]:
    """Return the config keys and values of the network that the weights belong to."""
    cells = [(int(cell[1]), int(cell[2])) for key in weights if (cell := _CELL.match(key))]
    scales = [
        len({stride for layer, stride in cells if layer == at}) for at in range(max(cells)[0] + 1 if cells else 0)
    ]
    stem = [weights[key] for key in weights if re.fullmatch(r"backbone\.stem\.conv3\.(conv|pointwise)\.weight", key)]
    predictor = weights.get("sem_seg_head.predictor.weight")
    if len(scales) < 2 or not stem or predictor is None:
        raise CheckpointError(
            "incomplete weights: the file must contain a stem, cells after the source cell, and a predictor; download "
            f"it again. Received: {len(weights)} keys with cells in {len(scales)} layers, {len(stem)} stems, "
            f"{'no' if predictor is None else 'one'} predictor"
        )
    if any(key.endswith("running_var") for key in weights):
        norm = "BN" if any(key.endswith("num_batches_tracked") for key in weights) else "FrozenBN"
    else:
        norm = "GN"
    return {
        "MODEL.BACKBONE.CELL_TYPE": list(cell_types),
        "MODEL.BACKBONE.LAYER_NUM": len(scales) - 1,
        "MODEL.BACKBONE.CELL_NUM_LIST": scales[1:],
        "MODEL.BACKBONE.INIT_CHANNEL": stem[0].shape[0],
        "MODEL.BACKBONE.MAX_STRIDE": max((stride for _, stride in cells), default=FINEST_STRIDE),
        "MODEL.BACKBONE.SEPT_STEM": "backbone.stem.conv3.pointwise.weight" in weights,
        "MODEL.BACKBONE.NORM": norm,
        "MODEL.GATE.GATE_ON": any(".gate." in key for key in weights),
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": [f"layer_{scale}" for scale in range(scales[-1])],
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": predictor.shape[0],
        "MODEL.SEM_SEG_HEAD.NORM": norm,
    }


def _build_on_meta(settings: Mapping[str, object]) -> nn.Module:
    cfg: CfgNode = get_cfg()
    cfg.merge_from_list([item for pair in settings.items() for item in pair])
    cfg.MODEL.DEVICE = "meta"
    try:
        with torch.device("meta"):
            return build_model(cfg)
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"the weights do not describe a valid network: {error}. Received: {dict(settings)}"
        ) from error
