"""Collection of report data during an evaluation, with bounded memory for images."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dl_lib.config.choices import ChannelOrder
from dl_lib.data.catalog import Color
from dl_lib.evaluation.scores.calibration import NUM_BINS, CalibrationCounts, count_calibration
from dl_lib.evaluation.scores.image_encoding import (
    encode_class_indices,
    encode_jpeg,
    ignored_index,
    reduce_class_indices,
    reduce_image,
    reduced_size,
)
from dl_lib.evaluation.scores.prediction import CONFIDENCE_STRIDE, Prediction
from dl_lib.evaluation.scores.report_data import (
    MAX_SAMPLES,
    SAMPLE_SIDE_PX,
    THUMBNAIL_SIDE_PX,
    ReportData,
    SampleImage,
)
from dl_lib.evaluation.scores.result import ImageRecord

__all__ = ["CollectedData", "ReportCollector"]

_MAX_PENDING_PIXELS = 2**18  # counted at once: for small images, most of the time is that of starting operations

_Rank = tuple[float, str]  # value and image id; the smallest ones are kept


def _worst(image: ImageRecord) -> _Rank | None:
    return None if image.scores is None else (image.scores.mean_iou, image.image_id)


def _most_expensive(image: ImageRecord) -> _Rank | None:
    return -image.costs.real, image.image_id


_RANKINGS: tuple[Callable[[ImageRecord], _Rank | None], ...] = (_worst, _most_expensive)


@dataclass(frozen=True, eq=False)
class CollectedData:
    """Report data of the images of one or several processes; tensors are on the CPU.

    Merging is associative, and the result does not depend on the assignment of images to processes.

    Attributes:
        class_colors: (red, green, blue) of each class, 0..255.
        class_counts: Intersection, predicted and true pixels of each image and class, int64 (images, 3, classes); None
            without images or ground truth.
        calibration: Sum of `count_calibration`, int64 (3, NUM_BINS).
        thumbnails: JPEGs by image id.
        samples: Images that may be among the worst or most expensive ones, by id.
    """

    class_colors: tuple[Color, ...]
    class_counts: Tensor | None
    calibration: Tensor
    thumbnails: Mapping[str, bytes]
    samples: Mapping[str, SampleImage]

    def merge(self, other: CollectedData) -> CollectedData:
        """Return the data of the images of both."""
        counts = [part.class_counts for part in (self, other) if part.class_counts is not None]
        return CollectedData(
            class_colors=self.class_colors,
            class_counts=torch.cat(counts) if counts else None,
            calibration=self.calibration + other.calibration,
            thumbnails={**self.thumbnails, **other.thumbnails},
            samples={**self.samples, **other.samples},
        )

    def compute(self, images: Sequence[ImageRecord]) -> ReportData:
        """Return the report data of these images, which are those of all processes."""
        worst, most_expensive = (
            sorted(rank for image in images if (rank := ranking(image)) is not None)[:MAX_SAMPLES]
            for ranking in _RANKINGS
        )
        return ReportData(
            image_ids=tuple(image.image_id for image in images),
            class_colors=np.array(self.class_colors, np.uint8),
            class_counts=None if self.class_counts is None else self.class_counts.numpy(),
            thumbnails=self.thumbnails,
            worst=tuple(self.samples[image_id] for _, image_id in worst),
            most_expensive=tuple(self.samples[image_id] for _, image_id in most_expensive),
            calibration=CalibrationCounts.from_sums(self.calibration),
        )


@dataclass(frozen=True, eq=False)
class _Reduced:
    """Pixels of a `SampleImage`, encoded once it is known to be one."""

    image: npt.NDArray[np.uint8]  # BGR
    prediction: npt.NDArray[np.integer]
    label: npt.NDArray[np.integer] | None

    def encode(self, image_id: str, *, num_classes: int, ignore_value: int) -> SampleImage:
        label = self.label
        if label is not None:
            label = np.where(label == ignore_value, ignored_index(num_classes), label)
        return SampleImage(
            image_id=image_id,
            image=encode_jpeg(self.image),
            prediction=encode_class_indices(self.prediction, num_classes=num_classes),
            label=None if label is None else encode_class_indices(label, num_classes=num_classes),
        )


class ReportCollector:
    """Collector of the images of this process.

    Args:
        thumbnail_indices: Indices in the dataset of the images with a thumbnail.
        class_colors: (red, green, blue) of each class, 0..255.
        ignore_value: Label of ignored pixels.
        channel_order: Channel order of the images.
    """

    def __init__(
        self,
        *,
        thumbnail_indices: Collection[int],
        class_colors: Sequence[Color],
        ignore_value: int,
        channel_order: ChannelOrder,
    ) -> None:
        self.thumbnail_indices = frozenset(thumbnail_indices)
        self.class_colors = tuple(class_colors)
        self.ignore_value = ignore_value
        self.channel_order = channel_order
        self.reset()

    def reset(self) -> None:
        self._class_counts: list[Tensor] = []
        self._calibration = torch.zeros(3, NUM_BINS, dtype=torch.int64)
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []  # confidence, classes and labels of pixels
        self._num_pending = 0
        self._thumbnails: dict[str, bytes] = {}
        self._leading: list[list[_Rank]] = [[] for _ in _RANKINGS]
        self._samples: dict[str, _Reduced] = {}

    def add(
        self, sample: Mapping[str, Any], prediction: Prediction, *, record: ImageRecord, counts: Tensor | None
    ) -> None:
        """Add an image.

        Args:
            sample: Sample with `image`, uint8 (3, H, W) on the CPU, its `index` in the dataset, and, with ground truth,
                `sem_seg`, class indices or the ignore value (height, width).
            prediction: Its prediction, with ground truth with a confidence.
            record: Its record.
            counts: Its `class_counts` on the CPU; None without ground truth.
        """
        label = None
        if counts is not None:
            label = sample["sem_seg"]
            self._class_counts.append(counts)
            self._add_pixels(label, prediction)
        if sample["index"] in self.thumbnail_indices:
            size = reduced_size(prediction.classes, longest_side=THUMBNAIL_SIDE_PX)
            self._thumbnails[record.image_id] = encode_jpeg(self._reduced_image(sample, size=size))
        if self._enters(record):
            self._samples[record.image_id] = self._reduced(sample, prediction.classes, label=label)
            kept = {image_id for leading in self._leading for _, image_id in leading}
            self._samples = {image_id: reduced for image_id, reduced in self._samples.items() if image_id in kept}

    def state(self) -> CollectedData:
        num_classes = len(self.class_colors)
        self._count_calibration()
        return CollectedData(
            class_colors=self.class_colors,
            class_counts=torch.stack(self._class_counts) if self._class_counts else None,
            calibration=self._calibration.cpu(),
            thumbnails=dict(self._thumbnails),
            samples={
                image_id: reduced.encode(image_id, num_classes=num_classes, ignore_value=self.ignore_value)
                for image_id, reduced in self._samples.items()
            },
        )

    def _add_pixels(self, label: Tensor, prediction: Prediction) -> None:
        assert prediction.confidence is not None, "requested with ground truth"
        classes, label = (
            values[::CONFIDENCE_STRIDE, ::CONFIDENCE_STRIDE].flatten() for values in (prediction.classes, label)
        )
        self._pending.append((prediction.confidence.flatten(), classes, label))
        self._num_pending += len(label)
        if self._num_pending >= _MAX_PENDING_PIXELS:
            self._count_calibration()

    def _count_calibration(self) -> None:
        """Count the pending pixels."""
        if not self._pending:
            return
        confidence, classes, label = map(torch.cat, zip(*self._pending, strict=True))
        self._pending.clear()
        self._num_pending = 0
        label = label.to(classes.device)
        is_labelled = label != self.ignore_value
        counts = count_calibration(confidence[is_labelled], is_correct=(classes == label)[is_labelled])
        # Not in place: tensors created in inference mode cannot be modified outside of it.
        self._calibration = self._calibration.to(counts.device) + counts

    def _enters(self, record: ImageRecord) -> bool:
        """Return whether the image is among the leading ones of a ranking so far, and update these."""
        enters = False
        for leading, ranking in zip(self._leading, _RANKINGS, strict=True):
            rank = ranking(record)
            if rank is not None and (len(leading) < MAX_SAMPLES or rank < leading[-1]):
                insort(leading, rank)
                del leading[MAX_SAMPLES:]
                enters = True
        return enters

    def _reduced(self, sample: Mapping[str, Any], classes: Tensor, *, label: Tensor | None) -> _Reduced:
        size = reduced_size(classes, longest_side=SAMPLE_SIDE_PX)
        return _Reduced(
            image=self._reduced_image(sample, size=size),
            prediction=reduce_class_indices(classes, size=size),
            label=None if label is None else reduce_class_indices(label, size=size),
        )

    def _reduced_image(self, sample: Mapping[str, Any], *, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Return the image (height, width, 3), BGR."""
        image = reduce_image(sample["image"].permute(1, 2, 0).numpy(), size=size)
        return image if self.channel_order == "BGR" else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)
