"""Weights of plain convolutions for the layers that took their places (`MODEL.CONV`).

| layer | kernels | the rest | output |
| --- | --- | --- | --- |
| ConvAWS, SAC | the plain one | what leaves it as it is | equal |
| dynamic convolution | K copies | attention as the model has it | equal, as attention sums up to 1 |
| CondConv | K copies × 2 / K | routing as the model has it | equal at a routing of 0.5, which it starts near |

Copies go different ways in training because the images' weights for them differ. SPConv has no place for a plain
kernel, and a plain convolution none for one that is standardised: such keys are listed with what is left over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dl_lib.checkpoint.conversion.released import Translation
from dl_lib.layers import CondConv2d, SPConv2d
from dl_lib.layers.aws_conv import StandardizedConv2d, scale_and_shift
from dl_lib.layers.mixed_conv import MixedConv2d
from dl_lib.layers.sac import SAConv2d

__all__ = ["convert_plain_convs"]

MEAN_ROUTING = 0.5  # of CondConv at the start: the sigmoid of 0


def convert_plain_convs(file: Translation, *, model: nn.Module) -> Translation:
    """The file's weights with those that follow from plain kernels, where the model has another layer."""
    weights, untranslated = dict(file.weights), dict(file.untranslated)
    for name, layer in model.named_modules():
        key = f"{name}.weight"
        if key not in weights:
            continue
        refusal = _refusal(layer, standardised=f"{name}.weight_gamma" in weights)
        if refusal:
            untranslated[file.original_names.get(key, key)] = refusal
            del weights[key]
        elif isinstance(layer, StandardizedConv2d):
            _fill(weights, _standardized(layer, weights[key]), prefix=f"{name}.", layer=layer)
        elif isinstance(layer, MixedConv2d) and weights[key].shape == layer.geometry.kernel_shape:
            share = 1 / (MEAN_ROUTING * layer.num_kernels) if isinstance(layer, CondConv2d) else 1.0
            for part in {"weight", "bias"} & {k.removeprefix(f"{name}.") for k in weights}:
                weights[f"{name}.{part}"] = torch.stack([weights[f"{name}.{part}"] * share] * layer.num_kernels)
            _fill(weights, {}, prefix=f"{name}.", layer=layer)
    return dataclasses.replace(file, weights=weights, untranslated=untranslated)


def _refusal(layer: nn.Module, *, standardised: bool) -> str:
    """What a file's kernel is, if the layer cannot take it."""
    if isinstance(layer, SPConv2d):
        return "a plain kernel, which SPConv cannot start from"
    return "a kernel to be standardised, by ConvAWS or SAC" if standardised and isinstance(layer, nn.Conv2d) else ""


def _standardized(layer: StandardizedConv2d, kernel: Tensor) -> dict[str, Tensor]:
    """What belongs to a plain kernel, by the names in the layer."""
    gamma, beta = scale_and_shift(kernel)
    parts = {"weight_gamma": gamma, "weight_beta": beta}
    if isinstance(layer, SAConv2d):
        state = {key: torch.zeros_like(value) for key, value in layer.state_dict().items() if key not in parts}
        parts |= {**state, "switch.bias": torch.ones_like(state["switch.bias"])}
    return parts


def _fill(weights: dict[str, Tensor], parts: Mapping[str, Tensor], *, prefix: str, layer: nn.Module) -> None:
    """Adds all that the layer's file would hold and this one does not: the parts, else the layer's present values."""
    if any(f"{prefix}{key}" in weights for key in ("weight_gamma", "weight_beta")):
        return  # no plain convolution
    for key, value in layer.state_dict().items():
        if key not in ("weight", "bias"):
            weights.setdefault(f"{prefix}{key}", parts.get(key, value))
