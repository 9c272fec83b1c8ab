"""Images of the report with their label, prediction and difference: the worst and the most expensive ones."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from dl_lib.evaluation.predictions.label_files import encode_palette_label
from dl_lib.evaluation.scores.image_encoding import decode_class_indices, ignored_index
from dl_lib.evaluation.scores.report_data import ReportData, SampleImage
from dl_lib.utils.escaping import csv_text
from dl_lib.web.pages.embedding import css_color, data_uri
from dl_lib.web.report.run_data import DatasetResult
from dl_lib.web.report.values import image_text

__all__ = ["class_legend", "sample_groups"]

_PALETTE_SIZE = 256
_DIFFERENCE_COLORS = np.array([(0, 0, 0), (227, 230, 235), (213, 94, 0)], np.uint8)  # ignored, correct, wrong pixels
_TITLES = {"worst": "Worst images", "most_expensive": "Most expensive images"}


def sample_groups(results: Mapping[str, DatasetResult]) -> list[dict[str, Any]]:
    """Return the groups of images of each run, with the files of each image as addresses.

    Args:
        results: Evaluation on one dataset by run.
    """
    groups = []
    for name, title in _TITLES.items():
        for run, result in results.items():
            samples: Sequence[SampleImage] = () if result.data is None else getattr(result.data, name)
            if result.data is not None and samples:
                images = [_sample(sample, result, result.data) for sample in samples]
                has_labels = any(sample.label is not None for sample in samples)
                groups.append({"title": title, "run": run, "has_labels": has_labels, "samples": images})
    return groups


def class_legend(results: Mapping[str, DatasetResult]) -> list[tuple[str, str]]:
    """Return name and color of each class; empty without the data of a report, or without ground truth."""
    for result in results.values():
        if result.data is not None and result.confusion is not None:
            names, _ = result.confusion
            colors = map(css_color, result.data.class_colors.tolist())
            return list(zip(names, colors, strict=False))
    return []


def _sample(sample: SampleImage, result: DatasetResult, data: ReportData) -> dict[str, Any]:
    name = csv_text(sample.image_id)
    row = next((row for row in result.images if row.image_id == name), None)
    ignored = ignored_index(len(data.class_colors))
    colors = np.zeros((ignored + 1, 3), np.uint8)  # ignored pixels are black
    colors[: len(data.class_colors)] = data.class_colors
    prediction = decode_class_indices(sample.prediction)
    parts = [("image", data_uri(sample.image, media_type="image/jpeg"))]
    if sample.label is None:
        parts.append(("prediction", _png(prediction, colors=colors)))
    else:
        label = decode_class_indices(sample.label)
        difference = np.select([label == ignored, label == prediction], [0, 1], default=2)
        parts += [("label", _png(label, colors=colors)), ("prediction", _png(prediction, colors=colors))]
        parts.append(("difference", _png(difference, colors=_DIFFERENCE_COLORS)))
    return {"id": sample.image_id, "text": "" if row is None else image_text(row), "parts": parts}


def _png(indices: npt.NDArray[np.integer], *, colors: npt.NDArray[np.uint8]) -> str:
    """Return an image of indices (H, W) in colors (indices, 3), as the address of a PNG."""
    if len(colors) <= _PALETTE_SIZE:
        return data_uri(encode_palette_label(indices, colors=colors.tolist()), media_type="image/png")
    file = io.BytesIO()
    Image.fromarray(colors[indices]).save(file, "PNG")
    return data_uri(file.getvalue(), media_type="image/png")
