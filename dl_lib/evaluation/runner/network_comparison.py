"""Evaluation of two versions of a routed network on the same images, in turn for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from dl_lib.config import ConfigError
from dl_lib.data import build_test_loader
from dl_lib.data.errors import data_errors_shared
from dl_lib.evaluation.runner.build import build_plain_evaluator
from dl_lib.evaluation.runner.passes import build_inference_model
from dl_lib.evaluation.runner.peak_memory import peak_memory_bytes
from dl_lib.evaluation.runner.run import inference_on_dataset, optimized_copy, timed_outputs
from dl_lib.evaluation.scores.network_comparison import NetworkComparison, NetworkMeasurement
from dl_lib.evaluation.scores.prediction import read_outputs
from dl_lib.modeling import DynamicNet4Seg
from dl_lib.utils.modes import evaluation_mode
from dl_lib.utils.progress import progress_bar

__all__ = ["check_single_pass", "compare_networks", "image_gates"]


def check_single_pass(cfg: CfgNode) -> None:
    """Check that the evaluation of a config runs one pass per image, so that gates and logits are of one pass.

    Raises:
        ConfigError: If it runs several passes, or a compiled graph, whose memory cannot be observed.
    """
    required = {"TEST.MULTI_SCALE.SCALES": [1.0], "TEST.MULTI_SCALE.FLIP": False, "TEST.SLIDING.WINDOW": []}
    values = cfg.flat()
    wrong = {key: value for key, value in required.items() if values[key] != value}
    if wrong:
        fixes = " ".join(f"{key}={value}" for key, value in wrong.items())
        received = ", ".join(f"{key}={values[key]}" for key in wrong)
        raise ConfigError(
            f"{', '.join(wrong)}: routes are derived from evaluations with a single pass per image; add {fixes}. "
            f"Received: {received}"
        )
    if cfg.TEST.EXECUTION == "compiled":
        raise ConfigError(
            "TEST.EXECUTION must be sparse or dense, as the memory of compiled graphs cannot be observed; add "
            "TEST.EXECUTION=sparse. Received: TEST.EXECUTION=compiled"
        )


def image_gates(cfg: CfgNode, network: DynamicNet4Seg, *, dataset_name: str) -> Tensor:
    """Return the gates of a network with learned gates for each image of a dataset, float64 (images, edges).

    Raises:
        DataError: If the dataset or a prediction is invalid.
    """
    with data_errors_shared():
        loader = build_test_loader(cfg, dataset_name)
    model = build_inference_model(cfg, optimized_copy(cfg, network))
    result = inference_on_dataset(model, loader, build_plain_evaluator(cfg, dataset_name))
    assert result.gates is not None, "the network has learned gates"
    return result.gates


def compare_networks(
    cfg: CfgNode, before: DynamicNet4Seg, after: DynamicNet4Seg, *, dataset_name: str
) -> NetworkComparison:
    """Evaluate two networks on a dataset.

    The networks take turns in running first, so that both are measured under the same load of the machine. The peak
    memory is that for the image with the highest real cost in the first network.

    Args:
        cfg: Config of the evaluation, which runs one pass per image, see `check_single_pass`.
        before: First network; modes are preserved.
        after: Second network, with the same classes.
        dataset_name: Registered name of a dataset.

    Raises:
        DataError: If the dataset or a prediction is invalid.
    """
    with data_errors_shared():
        loader = build_test_loader(cfg, dataset_name)
    runs = (_NetworkRun(cfg, before, dataset_name), _NetworkRun(cfg, after, dataset_name))
    difference, costliest, highest = _Difference(), None, -1.0
    bar = progress_bar(len(loader), description=f"comparing on {dataset_name}", unit="image")
    with data_errors_shared(), torch.inference_mode(), bar, ExitStack() as modes:
        for run in runs:
            modes.enter_context(evaluation_mode(run.model))
        for number, inputs in enumerate(loader):
            for run in runs if number % 2 == 0 else reversed(runs):
                run.process(inputs)
            difference.update(*(run.logits for run in runs))
            if (madds := runs[0].real_madds) > highest:
                costliest, highest = inputs, madds
            bar.update()
    for run in runs:
        run.evaluator.set_skipped(loader.skipped)
    measured = [run.measurement(costliest or ()) for run in runs]
    return NetworkComparison(
        measured[0], measured[1], logits_difference=difference.logits, label_difference=difference.labels
    )


class _NetworkRun:
    """Network with its evaluator and the outputs of its last batch."""

    def __init__(self, cfg: CfgNode, network: DynamicNet4Seg, dataset_name: str) -> None:
        self.network = network
        self.model = build_inference_model(cfg, optimized_copy(cfg, network))
        self.evaluator = build_plain_evaluator(cfg, dataset_name)
        self.logits: list[Tensor] = []
        self.real_madds = 0.0
        self._known_shapes: set[tuple[int, ...]] = set()

    def process(self, inputs: Sequence[dict[str, Any]]) -> None:
        self.logits = []  # freed before the next forward pass
        for shape in {tuple(sample["image"].shape) for sample in inputs} - self._known_shapes:
            self.model(inputs)  # the first pass at a size measures costs, and is not timed
            self._known_shapes.add(shape)
        outputs, seconds = timed_outputs(self.model, inputs)
        num_classes = len(self.evaluator.class_names)
        predictions = read_outputs(inputs, outputs, num_classes=num_classes, seconds=seconds)
        for sample, prediction in zip(inputs, predictions, strict=True):
            self.evaluator.process(sample, prediction)
        self.logits = [output["sem_seg"] for output in outputs]
        self.real_madds = max(prediction.costs.real for prediction in predictions)

    def measurement(self, inputs: Sequence[Mapping[str, Any]]) -> NetworkMeasurement:
        """Return the measurement; `inputs` are the batch whose memory is measured."""
        return NetworkMeasurement(
            result=self.evaluator.evaluate(),
            route=self.network.backbone.route,
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            peak_memory_bytes=peak_memory_bytes(self.model, inputs),
        )


class _Difference:
    """Differences between the logits (classes, H, W) of two networks, and between the predicted classes."""

    def __init__(self) -> None:
        self._logits = torch.zeros(())
        self._differing = self._pixels = 0

    @property
    def logits(self) -> float:
        return self._logits.item()

    @property
    def labels(self) -> float:
        return self._differing / max(1, self._pixels)

    def update(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
        for one, other in zip(before, after, strict=True):
            largest = one.abs().max().clamp(min=torch.finfo(one.dtype).tiny)
            self._logits = torch.maximum(self._logits, ((one - other).abs().max() / largest).cpu())  # NaN stays
            classes = one.argmax(dim=0)
            self._differing += int((classes != other.argmax(dim=0)).sum())
            self._pixels += classes.numel()
