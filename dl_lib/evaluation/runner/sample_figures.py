"""Figures of training: prediction and routing on the first sample of a dataset, and mean routing of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from fvcore.common.config import CfgNode
from torch import nn

from dl_lib.data import DatasetCatalog
from dl_lib.data.build import build_test_dataset
from dl_lib.data.mapper import MappedDataset
from dl_lib.data.samplers import SampleKey
from dl_lib.evaluation.report.write import draw_mean_routing
from dl_lib.evaluation.runner.passes import build_inference_model
from dl_lib.evaluation.scores.prediction import Prediction, read_outputs
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.utils.modes import evaluation_mode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SampleFigures", "mean_routing_figures", "predict_sample", "read_sample"]

_CELL_WIDTH_PX = 320


def read_sample(dataset: MappedDataset, index: int) -> tuple[dict[str, Any], npt.NDArray[np.uint8]]:
    """Read a sample; return it mapped, and its image (H, W, 3), RGB, of the size of the label and the prediction.

    Raises:
        DataError: If the sample cannot be read.
    """
    raw = dataset.dataset[index]
    return dataset.mapper(raw, rng=dataset.generator(SampleKey(epoch=0, index=index))), raw["image"]


def predict_sample(model: nn.Module, sample: dict[str, Any], *, num_classes: int) -> Prediction:
    """Run a model for inference on one sample; its training or evaluation mode is preserved."""
    with evaluation_mode(model), torch.inference_mode():
        outputs = model([sample])
    (prediction,) = read_outputs([sample], outputs, num_classes=num_classes, seconds=0.0)
    return prediction


def mean_routing_figures(results: Mapping[str, EvaluationResult], *, model: nn.Module) -> dict[str, Figure]:
    """Draw `<dataset>/mean_route` of each evaluated dataset; empty for networks without gates."""
    network: Any = model
    return {
        f"{name}/mean_route": draw_mean_routing(result, lattice=network.backbone.lattice)
        for name, result in results.items()
        if result.mean_gates is not None
    }


class SampleFigures:
    """Figures of the first sample of a dataset and of what a model predicts for it.

    Args:
        cfg: Config of the run.
        dataset_name: Registered name of the dataset.

    Raises:
        DataError: If the dataset or the sample cannot be read.
    """

    def __init__(self, cfg: CfgNode, dataset_name: str) -> None:
        self._cfg = cfg
        self._name = dataset_name
        self._meta = DatasetCatalog.meta(dataset_name)
        self._sample, self._image = read_sample(build_test_dataset(cfg, dataset_name), 0)

    def draw(self, model: nn.Module) -> dict[str, Figure]:
        """Evaluate the sample with a model, whose mode is preserved, and draw the result.

        Returns:
            `<dataset>/sample` with image, label and prediction; for networks with gates also `<dataset>/route` with
            the gate values of this image.
        """
        network: Any = model
        inference_model = build_inference_model(self._cfg, model)
        prediction = predict_sample(inference_model, self._sample, num_classes=self._meta.num_classes)
        figures = {f"{self._name}/sample": self._draw_sample(prediction)}
        if prediction.gates is not None:
            from dl_lib.visualization.routing import draw_routing

            title = f"Routing of {prediction.image_id} of {self._name}"
            gates = prediction.gates.tolist()
            figures[f"{self._name}/route"] = draw_routing(network.backbone.lattice, gates=gates, title=title)
        return figures

    def _draw_sample(self, prediction: Prediction) -> Figure:
        from dl_lib.visualization.overlay import class_legend, draw_image_grid, overlay_labels

        images = {"image": self._image}
        if "sem_seg" in self._sample:
            images["label"] = overlay_labels(self._image, self._sample["sem_seg"].numpy(), meta=self._meta)
        images["prediction"] = overlay_labels(self._image, prediction.classes.cpu().numpy(), meta=self._meta)
        gflops = prediction.costs.expected / MADDS_PER_GFLOP
        return draw_image_grid(
            [list(images.values())],
            column_titles=list(images),
            row_titles=[f"{prediction.image_id}, expected cost {gflops:.4g} GFLOPs"],
            cell_width=_CELL_WIDTH_PX,
            legend=class_legend(self._meta),
        )
