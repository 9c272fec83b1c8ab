"""Dataset check: invalid samples, class distribution and class weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

import cv2
import torch
from torch.utils.data import Dataset

from dl_lib.config.choices import LabelShortcoming
from dl_lib.config.errors import shown
from dl_lib.data.catalog import Color, DatasetMeta
from dl_lib.data.errors import DataError, InvalidSampleError, UnknownLabelError
from dl_lib.data.files import PairedFiles
from dl_lib.data.label_conversion import count_ids
from dl_lib.data.label_shortcomings import label_shortcomings
from dl_lib.data.orientation import UPRIGHT, read_orientation
from dl_lib.data.raw_dataset import HasLabelPalette, RawDataset, RawSample
from dl_lib.data.workers import MonitoredDataLoader, WorkerProgress

__all__ = [
    "DatasetReport",
    "Issue",
    "IssueKind",
    "SampleCheck",
    "check_sample",
    "check_samples",
    "class_weights",
    "summarize",
    "unpaired_issues",
]

_MAX_IDS = 32  # unknown ids of one label without a remark on their cause
_MANY_IDS = "so many come from interpolation, JPEG compression or instances"


class IssueKind(Enum):
    """Kind of a dataset issue; the value is its description in reports."""

    NO_LABEL = "image without a label"
    NO_IMAGE = "label or listed name without an image"
    UNREADABLE = "unreadable file"
    SIZES = "label size differs from image size"
    UNKNOWN_ID = "label with unknown class ids"
    INVALID = "invalid annotation"
    ORIENTATION = "image with an EXIF orientation (warning: it is ignored; labels must match the stored pixels)"
    PALETTE = "label with another palette (warning: if its colors stand for classes, set COLOR_MAP)"

    @property
    def is_warning(self) -> bool:
        """True if a dataset with such issues is usable for training."""
        return self in (IssueKind.ORIENTATION, IssueKind.PALETTE)


@dataclass(frozen=True)
class Issue:
    """Issue of one sample; the message names the sample or file."""

    kind: IssueKind
    message: str


@dataclass(frozen=True)
class SampleCheck:
    """Result of checking one sample."""

    issues: tuple[Issue, ...] = ()
    pixels: Mapping[int, int] = field(default_factory=dict)  # by label id
    palette: Mapping[int, Color] = field(default_factory=dict)  # by raw id
    name: str = ""


@dataclass(frozen=True)
class DatasetReport:
    """Result of checking a dataset.

    Attributes:
        meta: Expected classes.
        num_samples: Number of checked samples.
        issues: All issues of samples.
        shortcomings: Issues of the labels as a whole by kind, see `label_shortcomings`.
        pixels: Number of pixels of each class.
        ignored_pixels: Number of pixels with the ignore index.
        images: Number of images that contain each class.
        weights: Weight of each class for a balanced loss, see `class_weights`.
    """

    meta: DatasetMeta
    num_samples: int
    issues: tuple[Issue, ...]
    shortcomings: Mapping[str, str]
    pixels: tuple[int, ...]
    ignored_pixels: int
    images: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """Names of the classes without any pixel."""
        return tuple(name for name, pixels in zip(self.meta.class_names, self.pixels, strict=True) if not pixels)

    @property
    def usable_for_training(self) -> bool:
        """True if there are no issues other than warnings, and no shortcomings."""
        return not self.shortcomings and all(issue.kind.is_warning for issue in self.issues)


def check_sample(dataset: RawDataset, index: int, *, meta: DatasetMeta) -> SampleCheck:
    """Read one sample and compare its label with the classes."""
    try:
        sample = dataset[index]
    except DataError as error:
        return SampleCheck((Issue(_kind_of(error), str(error)),))
    name, issues = f"{sample['image_id']} ({sample['file_name']})", []
    if (orientation := read_orientation(sample["file_name"])) != UPRIGHT:
        issues.append(Issue(IssueKind.ORIENTATION, f"{name}: orientation {orientation}"))
    if "sem_seg" not in sample:
        return SampleCheck(tuple(issues))
    pixels = count_ids(sample["sem_seg"])
    issues += _label_issues(sample, pixels, meta=meta, name=name)
    palette = dataset.label_palette(index) if isinstance(dataset, HasLabelPalette) else {}
    return SampleCheck(tuple(issues), pixels, palette, name)


def _label_issues(sample: RawSample, pixels: Mapping[int, int], *, meta: DatasetMeta, name: str) -> Iterator[Issue]:
    """Yield the differences between a label, its image and the classes."""
    label = sample["sem_seg"]
    if label.shape != sample["image"].shape[:2]:
        sizes = f"image {sample['image'].shape[:2]}, label {label.shape} (height, width)"
        yield Issue(IssueKind.SIZES, f"{name}: {sizes}")
    if unknown := sorted(pixels.keys() - {*range(meta.num_classes), meta.ignore_value}):
        expected = f"0..{meta.num_classes - 1} or {meta.ignore_value}"
        percent = 100 * sum(pixels[value] for value in unknown) / label.size
        cause = f" ({_MANY_IDS})" if len(unknown) > _MAX_IDS else ""
        found = f"ids {shown(unknown)}{cause} in {percent:.3g} % of the pixels, expected {expected}"
        yield Issue(IssueKind.UNKNOWN_ID, f"{name}: {found}")


def _kind_of(error: DataError) -> IssueKind:
    if isinstance(error, UnknownLabelError):
        return IssueKind.UNKNOWN_ID
    return IssueKind.INVALID if isinstance(error, InvalidSampleError) else IssueKind.UNREADABLE


def unpaired_issues(paired: PairedFiles) -> tuple[Issue, ...]:
    """Return an issue for each name without a label or without an image."""
    return (
        *(Issue(IssueKind.NO_LABEL, name) for name in paired.without_label),
        *(Issue(IssueKind.NO_IMAGE, name) for name in paired.without_image),
    )


def summarize(
    checks: Iterable[SampleCheck],
    *,
    meta: DatasetMeta,
    unpaired: Sequence[Issue] = (),
    allowed: Collection[LabelShortcoming] = (),
) -> DatasetReport:
    """Aggregate the checks of all samples, and the issues found when the files were listed; accept `allowed` ones."""
    num_samples, issues = 0, list(unpaired)
    palette: dict[int, Color] = {}
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    labelled_where_present: Counter[int] = Counter()
    for check in checks:
        num_samples += 1
        issues += (*check.issues, *_palette_issues(check, palette))
        pixels.update(check.pixels)
        classes = {label: count for label, count in check.pixels.items() if 0 <= label < meta.num_classes}
        images.update(classes.keys())
        labelled_where_present.update(dict.fromkeys(classes, sum(classes.values())))
    labels = range(meta.num_classes)
    return DatasetReport(
        meta=meta,
        num_samples=num_samples,
        issues=tuple(issues),
        shortcomings=label_shortcomings(pixels, meta=meta, allowed=allowed),
        pixels=tuple(pixels[label] for label in labels),
        ignored_pixels=pixels[meta.ignore_value],
        images=tuple(images[label] for label in labels),
        weights=class_weights(
            [pixels[label] for label in labels], labelled_where_present=[labelled_where_present[c] for c in labels]
        ),
    )


def _palette_issues(check: SampleCheck, known: dict[int, Color]) -> list[Issue]:
    """Return an issue if a palette has another color for an index than those before, and add the other indices."""
    differing = [index for index, color in check.palette.items() if known.setdefault(index, color) != color]
    return [
        Issue(IssueKind.PALETTE, f"{check.name}: index {index} is {check.palette[index]}, elsewhere {known[index]}")
        for index in differing[:1]
    ]


def class_weights(pixels: Sequence[int], *, labelled_where_present: Sequence[int]) -> tuple[float, ...]:
    """Return class weights by median frequency balancing (arXiv 1411.4734, section 6.3.2).

    The frequency of a class is its fraction of the labelled pixels of the images that contain it. Its weight is the
    median of all class frequencies divided by its own; 0 for a class without pixels.

    Args:
        pixels: Number of pixels of each class.
        labelled_where_present: For each class, number of labelled pixels of the images that contain it.
    """
    frequency = [own / total if own else 0.0 for own, total in zip(pixels, labelled_where_present, strict=True)]
    middle = median([value for value in frequency if value] or [0.0])
    return tuple(middle / value if value else 0.0 for value in frequency)


class _SampleChecks(Dataset):
    def __init__(self, dataset: RawDataset, meta: DatasetMeta, *, progress: WorkerProgress) -> None:
        self._dataset, self._meta, self._progress = dataset, meta, progress

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> SampleCheck:
        with self._progress.loading(index):
            return check_sample(self._dataset, index, meta=self._meta)


def check_samples(dataset: RawDataset, *, meta: DatasetMeta, workers: int) -> Iterator[SampleCheck]:
    """Check all samples in order, in worker processes; with 0 workers, in the current process."""
    if workers > 0:
        cv2.setNumThreads(1)  # a forked worker can deadlock in OpenCV's thread pool, see dl_lib.data.build
    progress = WorkerProgress(dataset, num_workers=workers)
    checks = _SampleChecks(dataset, meta, progress=progress)
    return iter(
        MonitoredDataLoader(
            checks, progress=progress, batch_size=None, num_workers=workers, generator=torch.Generator()
        )
    )
