"""Evaluations of one network at several thresholds of its gates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from fvcore.common.config import CfgNode
from torch import nn

from dl_lib.config import ConfigError
from dl_lib.data import build_test_loader
from dl_lib.data.errors import data_errors_shared
from dl_lib.data.sample_loader import SampleLoader
from dl_lib.evaluation.runner.build import build_plain_evaluator
from dl_lib.evaluation.runner.passes import build_inference_model
from dl_lib.evaluation.runner.run import inference_on_dataset, optimized_copy
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.evaluation.scores.threshold_sweep import SweepPoint, ThresholdSweep
from dl_lib.modeling.dynamic.gate import Gate
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.utils.modes import evaluation_mode

__all__ = ["check_gates", "sweep_thresholds"]

_WARMUP_IMAGES = 10


def check_gates(model: nn.Module) -> None:
    """Check that a model has learned gates.

    Raises:
        ConfigError: If it has none.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, DynamicNetwork) or not backbone.has_gates:
        raise ConfigError(
            "RUN must be a routed network with learned gates; evaluate other networks with dl_lib evaluate. "
            f"Received: {type(model).__name__} with {type(backbone).__name__}, without learned gates"
        )


def sweep_thresholds(
    cfg: CfgNode, model: nn.Module, dataset_name: str, *, thresholds: Sequence[float]
) -> ThresholdSweep:
    """Evaluate a network on a dataset at each gate threshold; a collective.

    At the default threshold, scores and costs are those of `evaluate_datasets`. The thresholds are evaluated in
    increasing and then in decreasing order, so that a drift of the machine's speed does not favor some of them, after
    some images for warmup.

    Args:
        cfg: Configuration of the run.
        model: Network with gates, in training or evaluation mode; its mode and its thresholds are preserved.
        dataset_name: Registered name of a dataset with ground truth.
        thresholds: Thresholds in [0, 1), see `Gate.threshold`; at least one.

    Raises:
        ConfigError: If the network has no gates.
        DataError: If the dataset or a prediction is invalid.
    """
    check_gates(model)
    with data_errors_shared():
        loader = build_test_loader(cfg, dataset_name)
    inference_model = build_inference_model(cfg, optimized_copy(cfg, model))
    gates = [module for module in inference_model.modules() if isinstance(module, Gate)]
    default, ascending = gates[0].threshold, sorted(set(thresholds))
    order = [*ascending, *reversed(ascending)]
    results: list[EvaluationResult] = []
    try:
        _warm_up(inference_model, loader)
        for number, threshold in enumerate(order, start=1):
            for gate in gates:
                gate.threshold = threshold
            description = f"gate threshold {threshold:g} ({number}/{len(order)})"
            evaluator = build_plain_evaluator(cfg, dataset_name)
            results.append(inference_on_dataset(inference_model, loader, evaluator, description=description))
    finally:
        for gate in gates:  # those of the model itself, if there is no faster copy
            gate.threshold = default
    pairs = zip(ascending, results, reversed(results), strict=False)
    points = (SweepPoint(at, one, (one.seconds_per_image, other.seconds_per_image)) for at, one, other in pairs)
    return ThresholdSweep(tuple(points), default_threshold=default)


def _warm_up(model: nn.Module, loader: SampleLoader) -> None:
    with data_errors_shared(), evaluation_mode(model), torch.inference_mode():
        for inputs in islice(loader, _WARMUP_IMAGES):
            model(inputs)
