"""Replacement of a static backbone's convolutions by other layers, stage by stage (`MODEL.CONV`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torchvision import ops

from dl_lib.config import CfgNode, ConfigError
from dl_lib.layers import CondConv2d, ConvAWS2d, DynamicConv2d, SAConv2d, SPConv2d
from dl_lib.modeling.backbones.base import Backbone
from dl_lib.modeling.backbones.rex_block import SqueezeExcitation

__all__ = ["CONV_KERNELS", "CONV_TYPES", "adapt_backbone", "replace_convs"]

CONV_TYPES: dict[str, Callable[..., nn.Module]] = {
    "CondConv": CondConv2d,
    "DynamicConv": DynamicConv2d,
    "ConvAWS": ConvAWS2d,
    "SAC": SAConv2d,
    "SPConv": SPConv2d,
}
CONV_KERNELS = ("larger", "1x1", "squeeze")  # squeeze: the 1×1 convolutions inside squeeze-and-excitation
_SQUEEZE_MODULES = (SqueezeExcitation, ops.SqueezeExcitation)


def adapt_backbone(backbone: Backbone, cfg: CfgNode) -> None:
    """Replace the convolutions of `MODEL.CONV`, then freeze the stages of `MODEL.BACKBONE.FROZEN_STAGES`."""
    conv = cfg.MODEL.CONV
    replace_convs(backbone, stages=conv.STAGES, conv_type=conv.TYPE, kernels=conv.KERNELS, norm=cfg.MODEL.BACKBONE.NORM)
    backbone.freeze(cfg.MODEL.BACKBONE.FROZEN_STAGES)


def replace_convs(
    backbone: Backbone, *, stages: Sequence[str], conv_type: str, kernels: Sequence[str], norm: str
) -> None:
    """Replace convolutions of a backbone in place by newly initialized layers.

    Args:
        backbone: Backbone to change.
        stages: Stages whose convolutions are replaced.
        conv_type: Type of the new layers, a key of `CONV_TYPES`.
        kernels: Kinds of convolutions to replace, from `CONV_KERNELS`.
        norm: Name of the norms inside SPConv.

    Raises:
        ConfigError: If a stage does not exist or has no such convolution, or if the type does not support the shape of
            a convolution.
    """
    squeezes = tuple(f"{name}." for name, module in backbone.named_modules() if isinstance(module, _SQUEEZE_MODULES))
    for stage in stages:
        all_convs = [(name, module) for name, module in backbone.stage(stage) if isinstance(module, nn.Conv2d)]
        kinds = {name: _kernel_kind(conv, in_squeeze=name.startswith(squeezes)) for name, conv in all_convs}
        convs = [(name, conv) for name, conv in all_convs if kinds[name] in kernels]
        if not convs:
            raise ConfigError(
                f"MODEL.CONV.KERNELS matches no convolution of stage {stage}; use some of "
                f"{sorted(set(kinds.values()))}, or remove {stage} from MODEL.CONV.STAGES. "
                f"Received: MODEL.CONV.KERNELS={list(kernels)}"
            )
        for name, conv in convs:
            parent, _, child = name.rpartition(".")
            setattr(backbone.get_submodule(parent), child, _replacement(conv, name, conv_type=conv_type, norm=norm))


def _kernel_kind(conv: nn.Conv2d, *, in_squeeze: bool) -> str:
    if in_squeeze:
        return "squeeze"
    return "1x1" if max(conv.kernel_size) == 1 else "larger"


def _replacement(conv: nn.Conv2d, name: str, *, conv_type: str, norm: str) -> nn.Module:
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
                "MODEL.CONV.TYPE SPConv cannot replace grouped or depthwise convolutions, because it splits the "
                "channels itself; use another TYPE, other STAGES, or MODEL.CONV.KERNELS without larger. "
                f"Received: {name}: groups={conv.groups}"
            )
        options["norm"] = norm
    else:
        options["groups"] = conv.groups
    try:
        return CONV_TYPES[conv_type](conv.in_channels, conv.out_channels, conv.kernel_size, **options)
    except ValueError as error:
        raise ConfigError(
            f"MODEL.CONV.TYPE {conv_type} cannot replace the layer {name}; use another TYPE, STAGES or KERNELS: {error}"
        ) from error
