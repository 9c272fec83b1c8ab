"""A checkpoint file of the published code rewritten under our names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dl_lib.checkpoint.conversion.released import RELEASED_CELL_TYPES, is_released, translate_released
from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.checkpoint.files import read_checkpoint, save_checkpoint
from dl_lib.checkpoint.matching import CheckpointMismatchError, Mismatch, find_mismatch
from dl_lib.config import CfgNode, get_cfg
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.lattice import FINEST_STRIDE

__all__ = ["Conversion", "convert_file", "describe_network"]

_CELL = re.compile(r"backbone\.cells\.layer(\d+)_stride(\d+)\.")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Conversion:
    """What `convert_file` did.

    Attributes:
        path: the file written.
        num_keys: keys of the published file, each of them used once.
        num_parameters: learnt values.
        settings: the config keys that build the network for these weights.
    """

    path: str
    num_keys: int
    num_parameters: int
    settings: Mapping[str, object]

    def __str__(self) -> str:
        settings = "".join(f"\n  {key}: {value}" for key, value in self.settings.items())
        return (
            f"{self.path}: {self.num_keys} keys of the published code converted, {self.num_parameters:,} parameters. "
            f"The network that they fit:{settings}"
        )


def convert_file(
    path_in: str | os.PathLike[str],
    path_out: str | os.PathLike[str],
    *,
    cell_types: Sequence[str] = RELEASED_CELL_TYPES,
) -> Conversion:
    """Rewrites weights of the published code as `{"model": state dict}` under our names.

    The network that the weights belong to is read off their names and shapes, built without memory, and must fit them
    exactly. Optimizer and other state of the file is left out.

    Args:
        path_in: a checkpoint of the published code.
        path_out: the file to write; must not exist.
        cell_types: the operations of each cell in order (`CELL_TYPE`): the published names only number them.

    Raises:
        CheckpointError: if `path_out` exists, or if `path_in` cannot be read or is not of the published code.
        CheckpointMismatchError: if keys are left over on either side.
    """
    source, target = os.fspath(path_in), os.fspath(path_out)
    if os.path.exists(target):
        raise CheckpointError(f"the file to write exists; remove it or name another. Received: path_out={target!r}")
    published = read_checkpoint(source)["model"]
    if not is_released(published):
        raise CheckpointError(
            f"these weights are not named as the published code names them, so there is nothing to convert; our own "
            f"checkpoints load as they are. Received: path_in={source!r}, whose first key is {next(iter(published))!r}"
        )
    translation = translate_released(published, cell_types=cell_types)
    settings = describe_network(translation.weights, cell_types=cell_types)
    found = find_mismatch(translation.weights, model=_build_on_meta(settings).state_dict())
    mismatch = Mismatch(found.missing, found.unexpected, found.shapes, translation.untranslated)
    if mismatch:
        raise CheckpointMismatchError(mismatch, path=source, original_names=translation.original_names)
    save_checkpoint({"model": dict(translation.weights)}, target)
    return Conversion(
        path=target,
        num_keys=len(published),
        num_parameters=sum(t.numel() for key, t in translation.weights.items() if not key.endswith(_STATISTICS)),
        settings=settings,
    )


def describe_network(weights: Mapping[str, Tensor], *, cell_types: Sequence[str]) -> dict[str, object]:
    """The config keys (and values) of the network that weights under our names belong to.

    Raises:
        CheckpointError: if stem, cells or predictor are not among them.
    """
    places = [(int(cell[1]), int(cell[2])) for key in weights if (cell := _CELL.match(key))]
    scales = [
        len({stride for layer, stride in places if layer == at}) for at in range(max(places)[0] + 1 if places else 0)
    ]
    width = [weights[key] for key in weights if re.fullmatch(r"backbone\.stem\.conv3\.(conv|pointwise)\.weight", key)]
    predictor = weights.get("sem_seg_head.predictor.weight")
    if len(scales) < 2 or not width or predictor is None:
        raise CheckpointError(
            "weights of a whole network have a stem, cells behind the source cell, and a predictor. "
            f"Received: {len(weights)} keys with cells in {len(scales)} layers, {len(width)} stems, "
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
        "MODEL.BACKBONE.INIT_CHANNEL": width[0].shape[0],
        "MODEL.BACKBONE.MAX_STRIDE": max((stride for _, stride in places), default=FINEST_STRIDE),
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
            f"no network can be built that these weights would belong to: {error}. Received: {dict(settings)}"
        ) from error
