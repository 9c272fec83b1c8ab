"""Model registries and `build_model`."""

from __future__ import annotations

from typing import Any, get_args

import torch
from fvcore.common.registry import Registry
from torch import nn

from dl_lib.config import CfgNode, ConfigError, get_cfg
from dl_lib.config.choices import ChannelsLast
from dl_lib.config.declarations import KEYS

__all__ = [
    "BACKBONE_REGISTRY",
    "LOSS_REGISTRY",
    "META_ARCH_REGISTRY",
    "SEM_SEG_HEADS_REGISTRY",
    "build_backbone",
    "build_model",
    "place_model",
    "resolve_device",
]

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = """Meta-architectures, the choices of `MODEL.META_ARCHITECTURE`; built as `cls(cfg)`.

A model is called with a list of dicts and `step_rate`. It returns `(losses, metrics)` in training mode and a list of
dicts in evaluation mode. `SegmentationModel` is the common base class.
"""

BACKBONE_REGISTRY = Registry("BACKBONE")
BACKBONE_REGISTRY.__doc__ = """Backbones, the choices of `MODEL.BACKBONE.NAME`; built as `cls(cfg)`.

A backbone is called with images (B, 3, H, W) whose sides are multiples of its `size_divisor`; its `output_shapes` maps
feature names to `ShapeSpec`, finest first. `SemanticSegmentor` requires a static `Backbone`. `DynamicNet4Seg` requires
the interface of `DynamicNetwork`, which also takes `step_rate` and `observer` and returns features and a `Routing`.
"""

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")
SEM_SEG_HEADS_REGISTRY.__doc__ = """Segmentation heads, the choices of `MODEL.SEM_SEG_HEAD.NAME`.

A head is a `SemSegHead`, built as `cls(cfg, input_shapes)`.
"""

LOSS_REGISTRY = Registry("LOSS")
LOSS_REGISTRY.__doc__ = """Losses of an experiment, the choices of `MODEL.LOSS.EXTRA`; built as `make(cfg)`.

A loss is called as `loss(logits, target)` with logits (B, C, H, W) in float32 or higher and int64 class ids (B, H, W),
which contain `MODEL.SEM_SEG_HEAD.IGNORE_VALUE`. It returns a 0-d tensor, weighted and averaged over the images, so that
the mean over processes is the loss of the whole batch; without labelled pixels, it must be finite. It has no
parameters, is part of the validation loss, and is logged as `loss_extra_NAME`.
"""


def resolve_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is the current GPU if one is available, otherwise the CPU.

    Raises:
        ConfigError: If a GPU is requested and none is available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "MODEL.DEVICE requests a GPU, but this installation of torch has no GPU available; use cpu, or auto to "
            f"use a GPU if there is one. Received: MODEL.DEVICE={name}, torch={torch.__version__}"
        )
    return device


def build_backbone(name: str, **settings: Any) -> nn.Module:
    """Build a backbone alone, for feature extraction: `build_backbone("rexnet", width_factor=1.3)`.

    Args:
        name: Choice of `MODEL.BACKBONE.NAME`. Static backbones return a dict of feature maps, `c1` to `c5`, for images
            (B, 3, H, W); their `output_shapes` are the channels and strides.
        settings: Keys of `MODEL.BACKBONE` in lower case; `norm` is BN by default.

    Raises:
        ConfigError: If there is no such backbone or key, or the backbone does not support a value.
    """
    cfg = get_cfg()
    for setting, value in {"name": name, "norm": "BN", **settings}.items():
        key = f"MODEL.BACKBONE.{setting.upper()}"
        cfg.merge_from_list([key, value])
        if problem := KEYS[key].problem(cfg.flat()[key]):
            raise ConfigError(problem)
    backbone: nn.Module = BACKBONE_REGISTRY.get(name)(cfg)
    return backbone


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model `MODEL.META_ARCHITECTURE` on `MODEL.DEVICE`, without loading weights.

    Raises:
        KeyError: If a registry has no entry of the configured name.
        ConfigError: If a GPU is requested and none is available.
    """
    return place_model(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg), cfg)


def place_model(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Move a model to `MODEL.DEVICE`, in the memory format of `MODEL.CHANNELS_LAST`.

    Raises:
        ConfigError: If a GPU is requested and none is available.
    """
    device, choice = resolve_device(cfg.MODEL.DEVICE), cfg.MODEL.CHANNELS_LAST
    model.to(device)
    if str(choice) not in get_args(ChannelsLast):
        raise ConfigError(f"MODEL.CHANNELS_LAST must be auto, True or False. Received: MODEL.CHANNELS_LAST={choice!r}")
    if str(choice) == "True" or (choice == "auto" and device.type == "cpu"):
        for parameter in model.parameters():
            if parameter.ndim == 4:  # excludes the kernel banks (K, O, C, rows, columns) of CondConv and DynamicConv
                # Convolutions give their output the memory format of their weight. `contiguous` would not change the
                # strides of kernels with one tap or one channel, and DistributedDataParallel warns when gradient and
                # parameter strides differ, even in dimensions of size 1.
                values = parameter.data
                parameter.data = torch.empty_like(values, memory_format=torch.channels_last).copy_(values)
    return model
