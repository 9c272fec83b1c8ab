"""Predicted and measured latency of the evaluated images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from dl_lib.data.worker_limits import usable_cores
from dl_lib.modeling.costs.latency import LatencyConditions, LatencyTable
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.utils.device_name import device_name

if TYPE_CHECKING:
    from dl_lib.evaluation.scores.result import ImageRecord

__all__ = ["LatencySummary", "summarize_latency"]

_MS_PER_SECOND = 1e3


@dataclass(frozen=True)
class LatencySummary:
    """Latency of the images in milliseconds, predicted by a table and measured in this evaluation.

    Attributes:
        conditions: Conditions in which the table was measured.
        predicted_ms: Predicted latency of each image; None for an image of another size or with several passes.
        measured_ms: Wall time of the model for each image.
        target_ms: Target of the budget, if it is in milliseconds.
        differences: Conditions of this evaluation that differ from those of the table, as text.
    """

    conditions: LatencyConditions
    predicted_ms: tuple[float | None, ...]
    measured_ms: tuple[float, ...]
    target_ms: float | None
    differences: tuple[str, ...]

    @property
    def pairs(self) -> tuple[tuple[float, float], ...]:
        """Predicted and measured latency of the images with a prediction."""
        both = zip(self.predicted_ms, self.measured_ms, strict=True)
        return tuple((predicted, measured) for predicted, measured in both if predicted is not None)

    @property
    def median_error(self) -> float | None:
        """Median of the absolute relative deviations of the predictions; None without predictions."""
        errors = [abs(predicted / measured - 1) for predicted, measured in self.pairs]
        return median(errors) if errors else None


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
    height, width = (-(-side // divisor) * divisor for side in image.input_sizes[0])
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
