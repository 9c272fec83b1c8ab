"""From a config to a model on its device."""

from __future__ import annotations

import torch
from torch import nn

from dl_lib.config import CfgNode, ConfigError
from dl_lib.modeling.registries import META_ARCH_REGISTRY

__all__ = ["build_model", "resolve_device"]


def resolve_device(name: str) -> torch.device:
    """`auto` is the current GPU where there is one, else the CPU.

    Raises:
        ConfigError: if a GPU is asked for and none can be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "this installation of torch can use no GPU; set MODEL.DEVICE to cpu, or to auto to take a GPU where there "
            f"is one. Received: MODEL.DEVICE={name}, torch={torch.__version__}"
        )
    return device


def build_model(cfg: CfgNode) -> nn.Module:
    """The meta-architecture that the config names, on `MODEL.DEVICE`, without weights loaded.

    Raises:
        KeyError: for names that no registry holds.
        ConfigError: for a GPU that is not there.
    """
    model: nn.Module = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    model.to(resolve_device(cfg.MODEL.DEVICE))
    if cfg.MODEL.CHANNELS_LAST:
        for parameter in model.parameters():
            if parameter.ndim == 4:  # not what kernels are mixed from, (K, O, C, rows, columns)
                # Convolutions hand the memory order of their weights on to what they compute. `contiguous` would leave
                # kernels of one pixel or one channel as they are; between processes torch warns of gradients whose
                # strides are others than their parameters', be it where a stride means nothing.
                values = parameter.data
                parameter.data = torch.empty_like(values, memory_format=torch.channels_last).copy_(values)
    return model
