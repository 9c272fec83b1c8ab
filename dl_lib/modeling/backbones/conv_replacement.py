"""Convolutions of a static backbone replaced by other layers, stage by stage: `MODEL.CONV`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torchvision import ops

from dl_lib.config import CfgNode, ConfigError
from dl_lib.layers import CondConv2d, ConvAWS2d, DynamicConv2d, SAConv2d, SPConv2d
from dl_lib.modeling.backbones.base import Backbone
from dl_lib.modeling.backbones.freezing import freeze
from dl_lib.modeling.backbones.rex_block import SqueezeExcitation

__all__ = ["CONV_KERNELS", "CONV_TYPES", "adapt_backbone", "replace_convs"]

CONV_TYPES: dict[str, Callable[..., nn.Module]] = {
    "CondConv": CondConv2d,
    "DynamicConv": DynamicConv2d,
    "ConvAWS": ConvAWS2d,
    "SAC": SAConv2d,
    "SPConv": SPConv2d,
}
CONV_KERNELS = ("larger", "1x1", "squeeze")  # the last: of 1×1, too, inside squeeze-and-excitation
_SQUEEZES = (SqueezeExcitation, ops.SqueezeExcitation)


def adapt_backbone(backbone: Backbone, cfg: CfgNode) -> None:
    """Replaces and freezes what the configuration names, in this order."""
    conv = cfg.MODEL.CONV
    replace_convs(backbone, stages=conv.STAGES, conv_type=conv.TYPE, kernels=conv.KERNELS, norm=cfg.MODEL.BACKBONE.NORM)
    freeze(backbone, stages=cfg.MODEL.BACKBONE.FROZEN_STAGES)


def replace_convs(
    backbone: Backbone, *, stages: Sequence[str], conv_type: str, kernels: Sequence[str], norm: str
) -> None:
    """Puts layers of a type in the places of convolutions; they start as they do.

    Args:
        backbone: is changed.
        stages: of the backbone.
        conv_type: a key of `CONV_TYPES`.
        kernels: some of `CONV_KERNELS`: which convolutions of the stages are replaced.
        norm: name of the norms inside SPConv.

    Raises:
        ConfigError: for stages that do not exist or have no such convolution, and where a layer of the type cannot
            have the convolution's shape.
    """
    squeezes = tuple(f"{name}." for name, module in backbone.named_modules() if isinstance(module, _SQUEEZES))
    for stage in stages:
        found = [(name, module) for name, module in backbone.stage(stage) if isinstance(module, nn.Conv2d)]
        kinds = {name: _kernel_of(module, squeezes=name.startswith(squeezes)) for name, module in found}
        convs = [(name, module) for name, module in found if kinds[name] in kernels]
        if not convs:
            raise ConfigError(
                f"{stage} has no such convolutions to replace. Expected some of {sorted(set(kinds.values()))}, or "
                f"MODEL.CONV.STAGES without {stage}. Received: MODEL.CONV.KERNELS={list(kernels)}"
            )
        for name, conv in convs:
            parent, _, child = name.rpartition(".")
            setattr(backbone.get_submodule(parent), child, _substitute(conv, name, conv_type=conv_type, norm=norm))


def _kernel_of(conv: nn.Conv2d, *, squeezes: bool) -> str:
    if squeezes:
        return "squeeze"
    return "1x1" if max(conv.kernel_size) == 1 else "larger"


def _substitute(conv: nn.Conv2d, name: str, *, conv_type: str, norm: str) -> nn.Module:
    options: dict[str, Any] = {
        "stride": conv.stride,
        "padding": conv.padding,
        "dilation": conv.dilation,
        "bias": conv.bias is not None,
        "padding_mode": conv.padding_mode,
        "device": conv.weight.device,
    }
    if conv_type == "SPConv":
        if conv.groups > 1:
            raise ConfigError(
                "SPConv splits channels by itself and takes the place of no convolution in groups, such as depthwise "
                "ones; another MODEL.CONV.TYPE does, or other STAGES, or MODEL.CONV.KERNELS without larger. "
                f"Received: {name}: groups={conv.groups}"
            )
        options["norm"] = norm
    else:
        options["groups"] = conv.groups
    try:
        return CONV_TYPES[conv_type](conv.in_channels, conv.out_channels, conv.kernel_size, **options)
    except ValueError as error:
        raise ConfigError(
            f"{conv_type} cannot take the place of {name}, {conv}; another MODEL.CONV.TYPE, STAGES or KERNELS may do: "
            f"{error}"
        ) from error
