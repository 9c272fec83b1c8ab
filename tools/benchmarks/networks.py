"""Networks of the benchmarks: the default network, that of the quickstart, and the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from baseline_network import BaselineNetwork
from harness import SEED, Settings
from torch import Tensor

from dl_lib.config import CfgNode, ConfigError, apply_overrides, get_cfg
from dl_lib.experiment.experiment import load_experiment
from dl_lib.modeling import DynamicNet4Seg, build_model
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP, Costs
from dl_lib.modeling.dynamic.forced_gates import SOFT_OPEN_BIAS, force_gates

Size = tuple[int, int]  # (height, width) in pixels

LARGE: Size = (1024, 2048)  # of Cityscapes
SMALL: Size = (96, 96)  # of the quickstart


def default_config(settings: Settings, overrides: Sequence[Any]) -> CfgNode:
    """Return the default configuration with the overrides and the device of the settings."""
    cfg = get_cfg()
    apply_overrides(cfg, settings.opts)
    cfg.merge_from_list(["MODEL.DEVICE", settings.device, *overrides])
    if not cfg.MODEL.GATE.GATE_ON:
        raise ConfigError("MODEL.GATE.GATE_ON must be True, as the benchmark sets gates. Received: GATE_ON=False")
    return cfg


def quickstart_config(settings: Settings) -> CfgNode:
    """Return the configuration of the quickstart, with the device of the settings."""
    return load_experiment("Quickstart", [f"MODEL.DEVICE={settings.device}"]).cfg


NETWORKS: dict[str, Callable[[Settings], CfgNode]] = {
    "default network": lambda settings: default_config(settings, []),
    "quickstart": quickstart_config,
}


def build_network(cfg: CfgNode) -> DynamicNet4Seg:
    """Build the network; parameters of equal shape have equal weights in all cases."""
    torch.manual_seed(SEED)
    model = build_model(cfg)
    assert isinstance(model, DynamicNet4Seg)
    return model


def baseline_of(model: DynamicNet4Seg) -> BaselineNetwork:
    """Return the baseline with the weights of a model, contiguous in memory."""
    backbone = model.backbone
    baseline = BaselineNetwork(
        cells_per_layer=backbone.lattice.cells_per_layer,
        channels=backbone.base_channels,
        operations=backbone.cell_types,
        classes=model.sem_seg_head.predictor.out_channels,
    )
    baseline.load_state_dict({name: value.contiguous() for name, value in model.state_dict().items()})
    return baseline.to(model.device)


def open_network(cfg: CfgNode) -> DynamicNet4Seg:
    """Build a network in evaluation mode with all gates open at the value 0.76."""
    model = build_network(cfg).eval()
    force_gates(model.backbone, lambda edge: True, bias=SOFT_OPEN_BIAS)
    return model


def predict(model: DynamicNet4Seg, images: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Return the outputs of a model for images."""
    with torch.inference_mode():
        outputs: list[dict[str, Any]] = model([{"image": image} for image in images])
    return outputs


def executed_gmadds(output: dict[str, Any]) -> float:
    """Return the executed multiply-adds of the output for an image, in billions."""
    return Costs.from_flops_dict(output["flops"]).executed / MADDS_PER_GFLOP


def random_image(size: Size, *, device: torch.device) -> Tensor:
    """Return a (3, height, width) float image with values 0..255."""
    return torch.randint(256, (3, *size), device=device).float()
