"""Images, predictions and costs for the figure of routes, computed after an evaluation."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from dl_lib.data import DatasetMeta
from dl_lib.data.errors import DataError, InvalidSampleError
from dl_lib.data.mapper import MappedDataset
from dl_lib.evaluation.report.image_routes import ShownImage, shown_positions
from dl_lib.evaluation.runner.sample_figures import predict_sample, read_sample
from dl_lib.evaluation.scores.image_encoding import reduce_class_indices, reduce_image, reduced_size
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.modeling.costs.table import NetworkCosts

__all__ = ["show_images"]

_LONGEST_SIDE_PX = 512  # larger than in the figure

_log = logging.getLogger(__name__)


def show_images(
    result: EvaluationResult, *, model: nn.Module, dataset: MappedDataset, meta: DatasetMeta, costs: NetworkCosts
) -> list[ShownImage]:
    """Read the images of `shown_positions` again and predict them; omit those that cannot be read any more.

    Not a collective: the main process calls it alone.

    Args:
        result: Result of the model on the dataset.
        model: Model for inference; its training or evaluation mode is preserved.
        dataset: The evaluated dataset.
        meta: Its classes and their colors.
        costs: Cost tables of the network.
    """
    name = result.dataset_name
    skipped = {sample.index for sample in result.skipped}
    indices = [index for index in range(len(dataset)) if index not in skipped]
    shown: list[ShownImage] = []
    for position in shown_positions(result):
        record = result.images[position]
        try:
            sample, image = read_sample(dataset, indices[position])
            if sample["image_id"] != record.image_id:
                raise InvalidSampleError(f"the dataset has changed. Received: image_id={sample['image_id']!r}")
        except (DataError, OSError, IndexError) as error:
            _log.warning("Image %s of %s is omitted from the figure of routes: %s", record.image_id, name, error)
            continue
        prediction = predict_sample(model, sample, num_classes=meta.num_classes)
        real_all_open_madds = sum(costs.table(*size).real_all_open for size in record.input_sizes)
        shown.append(
            _shown(image, prediction.classes, meta=meta, position=position, real_all_open_madds=real_all_open_madds)
        )
    return shown


def _shown(
    image: npt.NDArray[np.uint8],
    prediction: Tensor,
    *,
    meta: DatasetMeta,
    position: int,
    real_all_open_madds: float,
) -> ShownImage:
    from dl_lib.visualization.overlay import class_legend, overlay_labels

    size = reduced_size(prediction, longest_side=_LONGEST_SIDE_PX)
    image, classes = reduce_image(image, size=size), reduce_class_indices(prediction, size=size)
    colors = list(class_legend(meta).items())
    return ShownImage(
        position=position,
        image=image,
        prediction=overlay_labels(image, classes, meta=meta),
        colors=dict(colors[value] for value in np.unique(classes).tolist()),
        real_all_open_madds=real_all_open_madds,
    )
