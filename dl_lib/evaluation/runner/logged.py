"""Metrics that evaluations during training log, such as `voc_2012_sem_seg_val/mIoU`: values and names."""

from __future__ import annotations

from collections.abc import Mapping

from dl_lib.config import CfgNode
from dl_lib.data import DatasetCatalog
from dl_lib.evaluation.report.tables import MEAN_BOUNDARY_IOU, MEAN_SCORES, mean_scores
from dl_lib.evaluation.runner.validation_loss import TOTAL_LOSS, loss_metric
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.modeling.build import META_ARCH_REGISTRY
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP

__all__ = ["has_known_losses", "logged_metrics", "metric_names"]

_COSTS = {"expt_gflops": "expected", "real_gflops": "real"}  # name -> attribute of Costs
_EDGES = {  # name -> attribute of RouteStatistics
    "edges_always_open": "always_open",
    "edges_image_dependent": "image_dependent",
    "edges_always_closed": "always_closed",
}


def logged_metrics(results: Mapping[str, EvaluationResult]) -> dict[str, float]:
    """Return the scores, average costs and route counts of all datasets by name; costs in GFLOPs per image."""
    metrics: dict[str, float] = {}
    for dataset, result in results.items():
        scores = {} if result.metrics is None else mean_scores(result.metrics)
        costs = {name: getattr(result.costs.average, kind) / MADDS_PER_GFLOP for name, kind in _COSTS.items()}
        values = {**scores, **costs, **_route_counts(result)}
        metrics |= {f"{dataset}/{name}": value for name, value in values.items()}
    return metrics


def metric_names(cfg: CfgNode) -> list[str]:
    """Return the names of the metrics of an evaluation by which models can be compared.

    They are scores, costs and validation losses, but not route counts. Validation losses of a model without
    `label_loss_names` are not known and not included.

    Raises:
        DataError: If a dataset of `DATASETS.TEST` is unknown, or its metadata cannot be read.
    """
    losses = _loss_names(cfg) if cfg.TEST.VALIDATION_LOSS else ()
    names: list[str] = []
    for dataset in cfg.DATASETS.TEST:
        scores = MEAN_SCORES if DatasetCatalog.meta(dataset).labelled else ()
        boundary = (MEAN_BOUNDARY_IOU,) if scores and cfg.TEST.BOUNDARY_IOU else ()
        names += [f"{dataset}/{name}" for name in (*scores, *boundary, *_COSTS)]
        names += [loss_metric(dataset, loss) for loss in losses]
    return names


def has_known_losses(cfg: CfgNode) -> bool:
    """Return whether `metric_names` includes all validation losses."""
    return not cfg.TEST.VALIDATION_LOSS or bool(_loss_names(cfg))


def _route_counts(result: EvaluationResult) -> dict[str, float]:
    routes = result.reported_routes
    if routes is None:
        return {}
    counts = {name: float(getattr(routes, attribute)) for name, attribute in _EDGES.items()}
    return {**counts, "distinct_routes": float(len(routes.routes))}


def _loss_names(cfg: CfgNode) -> tuple[str, ...]:
    label_loss_names = getattr(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), "label_loss_names", None)
    return () if label_loss_names is None else (*label_loss_names(cfg), TOTAL_LOSS)
