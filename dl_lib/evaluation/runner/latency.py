"""Latency of evaluated images by the latency table of the config."""

from __future__ import annotations

import dataclasses
import logging

from fvcore.common.config import CfgNode
from torch import nn

from dl_lib.config import ConfigError
from dl_lib.evaluation.scores.latency import summarize_latency
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.modeling import DynamicNet4Seg
from dl_lib.modeling.costs.latency_file import configured_latency

__all__ = ["with_latency"]

_log = logging.getLogger(__name__)


def with_latency(result: EvaluationResult, *, cfg: CfgNode, network: nn.Module) -> EvaluationResult:
    """Return the result with the latency of its images, if the config has a latency table of the network.

    A table that cannot be used is a warning, because a run may be evaluated where its table is not available.
    """
    if not cfg.MODEL.BUDGET.LATENCY_TABLE or not isinstance(network, DynamicNet4Seg):
        return result
    try:
        table = configured_latency(cfg)
    except ConfigError as error:
        _log.warning("No latency is predicted: %s", error)
        return result
    latency = summarize_latency(cfg, table=table, backbone=network.backbone, images=result.images, gates=result.gates)
    return dataclasses.replace(result, latency=latency)
