"""What a model makes of one image, as pictures."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import nn

from dl_lib.data import DatasetCatalog
from dl_lib.data.build import build_test_dataset
from dl_lib.data.contact_sheet import draw_contact_sheet, draw_key, overlay_label
from dl_lib.data.samplers import SampleKey
from dl_lib.data.transforms.resize import Resize
from dl_lib.evaluation.report.canvas import Picture
from dl_lib.evaluation.report.route_picture import draw_route
from dl_lib.evaluation.runner.passes import build_inference_model
from dl_lib.evaluation.scores.prediction import Prediction, read_outputs
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.utils.modes import evaluation_mode

__all__ = ["SampleFigures"]

_CELL_WIDTH_PX = 320


class SampleFigures:
    """The first sample of a data set, with what models make of it.

    Args:
        cfg: the run's configuration.
        dataset_name: as registered.

    Raises:
        DataError: if the data set or the sample cannot be used.
    """

    def __init__(self, cfg: CfgNode, dataset_name: str) -> None:
        self._cfg = cfg
        self._name = dataset_name
        self._meta = DatasetCatalog.meta(dataset_name)
        dataset = build_test_dataset(cfg, dataset_name)
        self._sample = dataset[SampleKey(epoch=0, index=0)]
        size = (self._sample["height"], self._sample["width"])  # of the label and the prediction
        self._image = Resize(*size, "cv2").apply_image(dataset.dataset[0]["image"])

    def draw(self, model: nn.Module) -> dict[str, Picture]:
        """Draws what a model, in either mode, which it keeps, makes of the sample in evaluation.

        Returns:
            `<data set>/sample`: image, label, prediction; `<data set>/route`: how open the lattice is for this image,
            for networks with gates.
        """
        network: Any = model
        with evaluation_mode(model), torch.inference_mode():
            outputs = build_inference_model(self._cfg, model)([self._sample])
        (prediction,) = read_outputs([self._sample], outputs, num_classes=self._meta.num_classes, seconds=0.0)
        pictures = {f"{self._name}/sample": self._draw_sheet(prediction)}
        if prediction.gates is not None:
            title = f"Route of {prediction.image_id} of {self._name}"
            gates = prediction.gates.tolist()
            pictures[f"{self._name}/route"] = draw_route(network.backbone.lattice, gates=gates, title=title)
        return pictures

    def _draw_sheet(self, prediction: Prediction) -> Picture:
        columns = {"image": self._image}
        if "sem_seg" in self._sample:
            columns["label"] = overlay_label(self._image, self._sample["sem_seg"].numpy(), meta=self._meta)
        columns["prediction"] = overlay_label(self._image, prediction.classes.cpu().numpy(), meta=self._meta)
        return draw_contact_sheet(
            [list(columns.values())],
            titles=list(columns),
            captions=[f"{prediction.image_id}, expected cost {prediction.costs.expected / MADDS_PER_GFLOP:.4g} GFLOPs"],
            cell_width=_CELL_WIDTH_PX,
            key=draw_key(self._meta, width=len(columns) * _CELL_WIDTH_PX),
        )
