"""Converter for weights of plain convolutions into the layers that replace them (`MODEL.CONV`).

| layer | kernels | other parameters | output |
| --- | --- | --- | --- |
| ConvAWS, SAC | the plain kernel | values that reproduce the plain convolution | equal |
| dynamic convolution | K copies | attention of the model | equal, since the attention weights sum to 1 |
| CondConv | K copies × 2 / K | routing of the model | equal at a routing weight of 0.5, near its initial value |

The copies diverge in training because every image weights them differently. SPConv has no kernel of the plain shape,
and a plain convolution cannot load a kernel that is standardized at run time: both are reported as unexpected keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dl_lib.checkpoint.conversion.registry import Translation
from dl_lib.layers import CondConv2d, SPConv2d
from dl_lib.layers.aws_conv import StandardizedConv2d, scale_and_shift
from dl_lib.layers.mixed_conv import MixedConv2d
from dl_lib.layers.sac import SAConv2d

__all__ = ["PlainConvConverter"]

MEAN_ROUTING = 0.5  # of CondConv at initialization: sigmoid(0)


class PlainConvConverter:
    """Converter of plain convolution kernels to the layers that replace plain convolutions in the model."""

    def recognises(self, weights: Mapping[str, Tensor], *, model: nn.Module) -> bool:
        return any(key.endswith(".weight_gamma") for key in weights) or any(
            isinstance(layer, StandardizedConv2d | MixedConv2d | SPConv2d) for layer in model.modules()
        )

    def translate(self, file: Translation, *, model: nn.Module) -> Translation:
        weights, untranslated = dict(file.weights), dict(file.untranslated)
        for name, layer in model.named_modules():
            key = f"{name}.weight"
            if key not in weights:
                continue
            reason = _incompatibility(layer, standardized=f"{name}.weight_gamma" in weights)
            if reason:
                untranslated[file.original_names.get(key, key)] = reason
                del weights[key]
            elif isinstance(layer, StandardizedConv2d):
                _fill(weights, _standardized(layer, weights[key]), prefix=f"{name}.", layer=layer)
            elif isinstance(layer, MixedConv2d) and weights[key].shape == layer.geometry.kernel_shape:
                factor = 1 / (MEAN_ROUTING * layer.num_kernels) if isinstance(layer, CondConv2d) else 1.0
                for parameter in {"weight", "bias"} & {k.removeprefix(f"{name}.") for k in weights}:
                    kernel = weights[f"{name}.{parameter}"] * factor
                    weights[f"{name}.{parameter}"] = torch.stack([kernel] * layer.num_kernels)
                _fill(weights, {}, prefix=f"{name}.", layer=layer)
        return dataclasses.replace(file, weights=weights, untranslated=untranslated)


def _incompatibility(layer: nn.Module, *, standardized: bool) -> str:
    """Return the reason that the layer cannot load the file's kernel; "" if it can."""
    if isinstance(layer, SPConv2d):
        return "a plain kernel, which SPConv cannot load"
    return "a kernel to be standardized, of ConvAWS or SAC" if standardized and isinstance(layer, nn.Conv2d) else ""


def _standardized(layer: StandardizedConv2d, kernel: Tensor) -> dict[str, Tensor]:
    """Return the remaining state with which the layer computes the plain convolution."""
    gamma, beta = scale_and_shift(kernel)
    values = {"weight_gamma": gamma, "weight_beta": beta}
    if isinstance(layer, SAConv2d):
        state = {key: torch.zeros_like(value) for key, value in layer.state_dict().items() if key not in values}
        values |= {**state, "switch.bias": torch.ones_like(state["switch.bias"])}
    return values


def _fill(weights: dict[str, Tensor], values: Mapping[str, Tensor], *, prefix: str, layer: nn.Module) -> None:
    """Add the layer's remaining state: the given values, otherwise the model's current values."""
    if any(f"{prefix}{key}" in weights for key in ("weight_gamma", "weight_beta")):
        return  # not a plain convolution
    for key, value in layer.state_dict().items():
        if key not in ("weight", "bias"):
            weights.setdefault(f"{prefix}{key}", values.get(key, value))
