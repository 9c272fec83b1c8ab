"""Going over a data set before it is trained on: what is wrong with single samples, and how its classes are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from dl_lib.data.catalog import DatasetMeta, RawDataset
from dl_lib.data.datasets.files import PairedFiles
from dl_lib.data.errors import DataError, InvalidSampleError, UnknownLabelError
from dl_lib.data.workers import WatchedLoader, WorkerNotes

__all__ = [
    "DatasetReport",
    "Finding",
    "Kind",
    "SampleCheck",
    "check_sample",
    "check_samples",
    "class_weights",
    "summarise",
    "unpaired_findings",
]


class Kind(Enum):
    """What can be wrong; the value is how a person is told."""

    NO_LABEL = "image without a label"
    NO_IMAGE = "label or name in a list without an image"
    UNREADABLE = "file that cannot be read"
    SIZES = "label that is not of its image's size"
    UNKNOWN_ID = "label with ids that are no class"
    INVALID = "annotation that does not fit"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and with what."""

    kind: Kind
    message: str


@dataclass(frozen=True)
class SampleCheck:
    """What one sample holds.

    Attributes:
        findings: what is wrong with it.
        pixels: of each id in its label.
    """

    findings: tuple[Finding, ...] = ()
    pixels: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetReport:
    """What a whole data set holds.

    Attributes:
        meta: what its classes should be.
        num_samples: that were looked at.
        findings: everything that is wrong.
        pixels: of each class, in the order of the classes.
        ignored_pixels: those with the ignore value.
        images: in which each class occurs.
        weights: of each class, to balance them; see `class_weights`.
    """

    meta: DatasetMeta
    num_samples: int
    findings: tuple[Finding, ...]
    pixels: tuple[int, ...]
    ignored_pixels: int
    images: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def never_seen(self) -> tuple[str, ...]:
        """Names of the classes that no label holds."""
        return tuple(name for name, pixels in zip(self.meta.class_names, self.pixels, strict=True) if not pixels)

    @property
    def fit_to_train_on(self) -> bool:
        """Whether nothing is wrong, and there is something to learn."""
        return not self.findings and any(self.pixels)


def check_sample(dataset: RawDataset, index: int, *, meta: DatasetMeta) -> SampleCheck:
    """Read one sample and look at it.

    Args:
        dataset: its samples are not changed.
        index: which of them.
        meta: what its classes should be.
    """
    try:
        sample = dataset[index]
    except DataError as error:
        return SampleCheck((Finding(_kind_of(error), str(error)),))
    if "sem_seg" not in sample:
        return SampleCheck()
    name, label = f"{sample['image_id']} ({sample['file_name']})", sample["sem_seg"]
    ids, counts = np.unique(label, return_counts=True)
    pixels = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    findings = []
    if label.shape != sample["image"].shape[:2]:
        sizes = f"image {sample['image'].shape[:2]}, label {label.shape} (height, width)"
        findings.append(Finding(Kind.SIZES, f"{name}: {sizes}"))
    if unknown := sorted(pixels.keys() - {*range(meta.num_classes), meta.ignore_value}):
        expected = f"0..{meta.num_classes - 1} or {meta.ignore_value}"
        share = sum(pixels[value] for value in unknown) / label.size
        message = f"{name}: ids {unknown} at {100 * share:.2g} % of the pixels, expected {expected}"
        findings.append(Finding(Kind.UNKNOWN_ID, message))
    return SampleCheck(tuple(findings), pixels)


def _kind_of(error: DataError) -> Kind:
    if isinstance(error, UnknownLabelError):
        return Kind.UNKNOWN_ID
    return Kind.INVALID if isinstance(error, InvalidSampleError) else Kind.UNREADABLE


def unpaired_findings(paired: PairedFiles) -> tuple[Finding, ...]:
    """What has no partner, as findings."""
    return (
        *(Finding(Kind.NO_LABEL, name) for name in paired.without_label),
        *(Finding(Kind.NO_IMAGE, name) for name in paired.without_image),
    )


def summarise(checks: Iterable[SampleCheck], *, meta: DatasetMeta, unpaired: Sequence[Finding] = ()) -> DatasetReport:
    """Put together what was found.

    Args:
        checks: of all samples.
        meta: what the classes should be.
        unpaired: what the listing of the data set found already.
    """
    num_samples, findings = 0, list(unpaired)
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    labelled_where_present: Counter[int] = Counter()
    for check in checks:
        num_samples += 1
        findings += check.findings
        pixels.update(check.pixels)
        classes = {label: count for label, count in check.pixels.items() if 0 <= label < meta.num_classes}
        images.update(classes.keys())
        labelled_where_present.update(dict.fromkeys(classes, sum(classes.values())))
    labels = range(meta.num_classes)
    return DatasetReport(
        meta=meta,
        num_samples=num_samples,
        findings=tuple(findings),
        pixels=tuple(pixels[label] for label in labels),
        ignored_pixels=pixels[meta.ignore_value],
        images=tuple(images[label] for label in labels),
        weights=class_weights(
            [pixels[label] for label in labels], labelled_where_present=[labelled_where_present[c] for c in labels]
        ),
    )


def class_weights(pixels: Sequence[int], *, labelled_where_present: Sequence[int]) -> tuple[float, ...]:
    """Weights by median frequency balancing: arXiv 1411.4734, section 6.3.2; 0 for a class that never occurs.

    A class's frequency is its share of the labelled pixels of those images that hold it; its weight is the median of
    all classes' frequencies, divided by its own.

    Args:
        pixels: of each class.
        labelled_where_present: for each class, labelled pixels of all images that hold it.
    """
    frequency = [own / all_there if own else 0.0 for own, all_there in zip(pixels, labelled_where_present, strict=True)]
    middle = median([value for value in frequency if value] or [0.0])
    return tuple(middle / value if value else 0.0 for value in frequency)


class _CheckedDataset(Dataset):
    """The checks of a data set's samples, one by one."""

    def __init__(self, dataset: RawDataset, meta: DatasetMeta, *, notes: WorkerNotes) -> None:
        self._dataset, self._meta, self._notes = dataset, meta, notes

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> SampleCheck:
        with self._notes.at(index):
            return check_sample(self._dataset, index, meta=self._meta)


def check_samples(dataset: RawDataset, *, meta: DatasetMeta, workers: int) -> Iterator[SampleCheck]:
    """All checks in order, made in so many processes; 0 makes them in this one.

    Args:
        dataset: whose samples are looked at.
        meta: what its classes should be.
        workers: processes.
    """
    if workers > 0:
        cv2.setNumThreads(1)  # see data.build: a forked process may wait for opencv's threads for ever
    notes = WorkerNotes(dataset, num_workers=workers)
    checked = _CheckedDataset(dataset, meta, notes=notes)
    return iter(WatchedLoader(checked, notes=notes, batch_size=None, num_workers=workers, generator=torch.Generator()))
