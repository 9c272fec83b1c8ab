"""Label statistics of a training run: of a sample at its start, and of its first whole epoch."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from dl_lib.data.errors import DataError
from dl_lib.data.label_conversion import count_ids
from dl_lib.data.mapper import MappedDataset
from dl_lib.data.raw_dataset import HasLabel, RawDataset, RawSample, sampled_indices

__all__ = ["EpochWatch", "LabelContent", "LabelScan", "label_content", "scan_labels"]

_MAX_SCANNED = 256  # labels of each dataset, evenly spaced


class LabelContent(NamedTuple):
    """Content of the label of one training sample.

    Attributes:
        dataset: Position of its dataset in `DATASETS.TRAIN`.
        is_labelled: Whether the label has a labelled pixel, before augmentation.
        classes: Classes with a pixel after augmentation.
    """

    dataset: int
    is_labelled: bool
    classes: tuple[int, ...]


@dataclass
class EpochWatch:
    """Labels of the first whole epoch of a training loader, in the samples of this process.

    Args:
        datasets: Datasets in the order of `DATASETS.TRAIN`.
        epoch: Number of the epoch.
        end: Number of samples that all processes together have used when the epoch ends, since the loader was built.

    Attributes:
        labelled: Positions of the datasets with a labelled pixel so far.
        classes: Classes with a pixel so far.
    """

    datasets: Sequence[RawDataset]
    epoch: int
    end: int
    labelled: set[int] = field(default_factory=set)
    classes: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, datasets: Sequence[RawDataset], *, start: int) -> EpochWatch:
        """Watch the first epoch that begins after `start` samples of the sampler's sequence."""
        num_samples = sum(map(len, datasets))
        epoch = -(-start // num_samples)
        return cls(datasets, epoch, (epoch + 1) * num_samples - start)

    def add(self, content: LabelContent) -> None:
        """Add the label of a sample that is used."""
        if content.is_labelled:
            self.labelled.add(content.dataset)
        self.classes.update(content.classes)


def label_content(dataset: MappedDataset, raw: RawSample, mapped: Mapping[str, Any], *, index: int) -> LabelContent:
    """Return the content of the label of a training sample of a `ConcatDataset`."""
    ignore_value = dataset.mapper.ignore_value
    label = mapped["sem_seg"].numpy()
    labelled = label[label != ignore_value]
    return LabelContent(
        dataset=bisect_right(dataset.dataset.cumulative_sizes, index),  # type: ignore[attr-defined]
        is_labelled=bool(labelled.size) or bool((raw["sem_seg"] != ignore_value).any()),
        classes=tuple(np.flatnonzero(np.bincount(labelled)).tolist()),
    )


@dataclass(frozen=True)
class LabelScan:
    """Labels of a sample of a dataset.

    Attributes:
        pixels: Number of pixels by label id.
        num_labels: Number of labels read.
        is_complete: Whether these are all labels of the dataset.
    """

    pixels: Mapping[int, int]
    num_labels: int
    is_complete: bool


def scan_labels(dataset: RawDataset, *, max_seconds: float) -> LabelScan:
    """Read up to 256 evenly spaced labels of a dataset, as many as the time permits, without those that are invalid."""
    deadline = time.monotonic() + max_seconds
    indices = sampled_indices(dataset, limit=_MAX_SCANNED)
    pixels: Counter[int] = Counter()
    num_labels = 0
    for index in np.random.default_rng(0).permutation(indices).tolist():  # so that a part is spread over the dataset
        if time.monotonic() > deadline:
            break
        try:
            label = dataset.label(index) if isinstance(dataset, HasLabel) else dataset[index]["sem_seg"]
        except (DataError, KeyError):
            continue
        pixels += count_ids(label)
        num_labels += 1
    return LabelScan(pixels, num_labels, is_complete=num_labels == len(dataset))
