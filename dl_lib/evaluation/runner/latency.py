"""Latency of evaluated images by the latency table of the config."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from dl_lib.config import ConfigError
from dl_lib.data.worker_limits import usable_cores
from dl_lib.evaluation.scores.latency import LatencySummary
from dl_lib.evaluation.scores.result import EvaluationResult, ImageRecord
from dl_lib.modeling import DynamicNet4Seg
from dl_lib.modeling.costs.latency import LatencyConditions, LatencyTable
from dl_lib.modeling.costs.latency_file import configured_latency
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.utils import comm
from dl_lib.utils.device_name import device_name
from dl_lib.utils.rounding import round_up

__all__ = ["read_latency", "summarize_latency", "with_latency"]

_MS_PER_SECOND = 1e3

_log = logging.getLogger(__name__)


def read_latency(cfg: CfgNode, network: nn.Module) -> LatencyTable | None:
    """Return the latency table of the config, if it has one of the network.

    A table that cannot be used is a warning, because a run may be evaluated where its table is not available.
    """
    if not cfg.MODEL.BUDGET.LATENCY_TABLE or not isinstance(network, DynamicNet4Seg):
        return None
    try:
        return configured_latency(cfg)
    except ConfigError as error:
        if comm.is_main_process():
            _log.warning("No latency is predicted: %s", error)
        return None


def with_latency(
    result: EvaluationResult, *, cfg: CfgNode, table: LatencyTable | None, network: Any
) -> EvaluationResult:
    """Return the result with the latency of its images, if there is a table of the network."""
    if table is None:
        return result
    latency = summarize_latency(cfg, table=table, backbone=network.backbone, images=result.images, gates=result.gates)
    return dataclasses.replace(result, latency=latency)


def summarize_latency(
    cfg: CfgNode,
    *,
    table: LatencyTable,
    backbone: DynamicNetwork,
    images: Sequence[ImageRecord],
    gates: Tensor | None,
) -> LatencySummary:
    """Predict the latency of images, and compare it with the measured one.

    Args:
        cfg: Configuration of the evaluation.
        table: Latency table of the network.
        backbone: Network of the evaluation.
        images: Records of the images.
        gates: Gate values of each image, float64 (images, edges); None without gates.
    """
    sizes = [_padded_size(image, divisor=backbone.size_divisor) for image in images]
    predicted: Sequence[float | None] = [None] * len(images)
    if gates is not None:
        routing = Routing.of_gates(backbone.route, gates, unreached=backbone.unreached)
        milliseconds = table.real_complete(routing).tolist()
        applies = (size == table.conditions.size for size in sizes)
        predicted = [ms if has_size else None for ms, has_size in zip(milliseconds, applies, strict=True)]
    budget = cfg.MODEL.BUDGET
    has_target = budget.CONSTRAIN and budget.CONTROL == "target" and budget.TARGET_UNIT == "ms"
    device = next(backbone.parameters()).device
    return LatencySummary(
        conditions=table.conditions,
        predicted_ms=tuple(predicted),
        measured_ms=tuple(_MS_PER_SECOND * image.seconds for image in images),
        target_ms=budget.TARGET if has_target else None,
        differences=tuple(_differences(cfg, device, table.conditions)),
    )


def _padded_size(image: ImageRecord, *, divisor: int) -> tuple[int, int] | None:
    """Return the size of the only pass over an image; None with several passes."""
    if len(image.input_sizes) > 1:
        return None
    height, width = (round_up(side, divisor) for side in image.input_sizes[0])
    return height, width


def _differences(cfg: CfgNode, device: torch.device, measured: LatencyConditions) -> Iterator[str]:
    """Yield the conditions of the evaluation that differ from those of a table."""
    values: dict[str, tuple[object, object]] = {
        "device": (device_name(device), measured.device),
        "precision": (cfg.TEST.PRECISION, measured.precision),
        "torch": (torch.__version__, measured.versions.get("torch")),
    }
    if device.type == "cpu":
        values["CPU threads"] = (torch.get_num_threads(), measured.threads)
        workers, cores = cfg.DATALOADER.NUM_WORKERS, usable_cores()
        if workers and workers + torch.get_num_threads() > cores:
            yield f"DATALOADER.NUM_WORKERS={workers}, which compete with the model for {cores} CPU cores"
    for name, (here, there) in values.items():
        if here != there:
            yield f"{name} {here} instead of {there}"
    if cfg.TEST.EXECUTION != "sparse":
        yield f"TEST.EXECUTION={cfg.TEST.EXECUTION}, which runs all parts"
    elif not cfg.TEST.OPTIMIZE:
        yield "TEST.OPTIMIZE=False, the slower model itself"
