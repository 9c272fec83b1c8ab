"""Check of the training labels: classes and datasets without labelled pixels, imbalanced classes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dl_lib.data.catalog import DatasetCatalog, DatasetMeta
from dl_lib.data.class_imbalance import imbalance_warning
from dl_lib.data.errors import DataError
from dl_lib.data.label_shortcomings import label_hint, label_shortcomings, quoted_classes
from dl_lib.data.label_watch import EpochWatch, LabelScan, scan_labels
from dl_lib.data.raw_dataset import HasLabel, RawDataset
from dl_lib.data.sample_loader import SampleLoader
from dl_lib.engine.training.hook import Hook
from dl_lib.utils import comm
from dl_lib.utils.escaping import printable

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["LabelCheck"]

_MAX_SCAN_SECONDS = 2.0

_log = logging.getLogger(__name__)


class LabelCheck(Hook):
    """Hook that warns about classes without pixels and ends a run whose labels are all ignored.

    At the start, the main process reads a sample of the labels and logs a warning about their shortcomings. After the
    first whole epoch of this run, the processes compare once what they have seen: a class without a pixel is a warning,
    a dataset without a labelled pixel an error.

    Args:
        datasets: Names of the training datasets.
        images_per_step: Images of all processes together.
    """

    def __init__(self, datasets: Sequence[str], *, images_per_step: int) -> None:
        self._names = tuple(datasets)
        self._images_per_step = images_per_step
        self._is_done = False

    def before_train(self, trainer: Trainer) -> None:
        """Scan the labels, in the main process."""
        watch = _watch_of(trainer)
        if watch is not None and comm.is_main_process() and trainer.iteration < trainer.max_iter:
            seconds = _MAX_SCAN_SECONDS / len(self._names)
            _warn(
                {
                    name: scan_labels(_scannable(dataset, name), max_seconds=seconds)
                    for name, dataset in zip(self._names, watch.datasets, strict=True)
                }
            )

    def after_step(self, trainer: Trainer) -> None:
        """Check the first whole epoch when it ends.

        Raises:
            DataError: If a dataset had no labelled pixel in it.
        """
        watch = _watch_of(trainer)
        used = (trainer.iteration - trainer.start_iteration) * self._images_per_step
        if watch is None or self._is_done or used < watch.end:
            return
        self._is_done = True
        found = comm.all_gather((watch.labelled, watch.classes))  # once per run, in the same step of all processes
        labelled, classes = (set().union(*sets) for sets in zip(*found, strict=True))
        meta = DatasetCatalog.meta(self._names[0])
        if unlabelled := [name for position, name in enumerate(self._names) if position not in labelled]:
            raise DataError(
                f"DATASETS.TRAIN: no labelled pixel in a whole epoch of {', '.join(unlabelled)}: all pixels have the "
                f"ignore value. Check the ids: {label_hint(meta)}. `dl_lib check-dataset {unlabelled[0]}` counts them. "
                f"Received: DATASETS.TRAIN={list(self._names)}"
            )
        absent = set(range(meta.num_classes)) - classes
        if absent and comm.is_main_process():
            _log.warning(
                "No pixel of %s in a whole epoch (epoch %d of %s). Check the ids: %s",
                *(quoted_classes(absent, meta=meta), watch.epoch, ", ".join(self._names), label_hint(meta)),
            )


def _watch_of(trainer: Trainer) -> EpochWatch | None:
    return trainer.loader.watch if isinstance(trainer.loader, SampleLoader) else None


def _scannable(dataset: RawDataset, name: str) -> RawDataset:
    """Return a dataset to read from in this process: files opened by others would be shared with loader workers."""
    return dataset if isinstance(dataset, HasLabel) else DatasetCatalog.get(name)


def _warn(scans: Mapping[str, LabelScan]) -> None:
    total: Counter[int] = Counter()
    for name, scan in scans.items():
        total.update(scan.pixels)
        if scan.num_labels:
            meta = DatasetCatalog.meta(name)
            found = label_shortcomings(scan.pixels, meta=meta, allowed=["absent-classes"])
            _log_found([name], found, num_labels=scan.num_labels, meta=meta)
    meta = DatasetCatalog.meta(next(iter(scans)))
    num_labels = sum(scan.num_labels for scan in scans.values())
    present = sum(bool(total[label]) for label in range(meta.num_classes))
    # Rare classes may be missing from a sample of a large dataset.
    if present and (all(scan.is_complete for scan in scans.values()) or 2 * present <= meta.num_classes):
        found = label_shortcomings(total, meta=meta, allowed=["ignored-pixels"])
        _log_found(list(scans), found, num_labels=num_labels, meta=meta)
    pixels = [total[label] for label in range(meta.num_classes)]
    if warning := imbalance_warning(pixels, class_names=meta.class_names):
        _log.warning("Training labels of %s (%d labels read): %s", ", ".join(scans), num_labels, printable(warning))


def _log_found(names: Sequence[str], found: Mapping[str, str], *, num_labels: int, meta: DatasetMeta) -> None:
    for problem in found.values():
        _log.warning(
            "Training labels of %s: %s (%d labels read). Check the ids: %s",
            *(", ".join(names), problem, num_labels, label_hint(meta)),
        )
