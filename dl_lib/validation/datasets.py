"""Rules for the datasets of a run: they are registered, labelled, and have the same classes as the model."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest

import dl_lib.data  # noqa: F401  (registers the built-in datasets)
from dl_lib.config.errors import shown
from dl_lib.data.catalog import Catalog, DatasetCatalog, DatasetMeta
from dl_lib.data.datasets.configured import ConfiguredFolders, parse_folders
from dl_lib.data.errors import DataError
from dl_lib.data.label_shortcomings import BINARY_TASK_HINT
from dl_lib.data.listing import normalized
from dl_lib.utils.names import joined, nearest_names
from dl_lib.validation.report import Report

__all__ = ["check_datasets"]

_NUM_CLASSES, _IGNORE_VALUE = "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "MODEL.SEM_SEG_HEAD.IGNORE_VALUE"
_MAX_LISTED = 10  # differing classes of one dataset


def check_datasets(report: Report) -> None:
    """Report problems with the datasets, and differences between their classes and those of the model."""
    entries = report.value("DATASETS.FOLDERS") if report.accepts("DATASETS.FOLDERS") else []
    folders = parse_folders(entries, catalog=DatasetCatalog if report.reads_datasets else Catalog())
    report.problems += folders.problems
    known = {*DatasetCatalog.names(), *folders.names}
    if report.trains and not report.value("DATASETS.TRAIN"):
        report.add("DATASETS.TRAIN", f"must name a dataset to train on; available: {', '.join(sorted(known))}")
    if report.value(_NUM_CLASSES) == 1:
        report.add(_NUM_CLASSES, f"leaves nothing to learn: {BINARY_TASK_HINT}")
    metas: dict[str, DatasetMeta] = {}
    for key in ("DATASETS.TRAIN", "DATASETS.TEST"):
        for name in dict.fromkeys(report.value(key)) if report.accepts(key) else ():
            meta = _find_meta(report, key, name, folders=folders, is_used=report.trains or key == "DATASETS.TEST")
            if meta is not None and name not in metas:
                metas[name] = meta
                _check_equal_classes(report, key, name, metas=metas)
    if 0 <= report.value(_IGNORE_VALUE) < report.value(_NUM_CLASSES):
        report.add(_IGNORE_VALUE, f"must not be a class id (0 to {report.value(_NUM_CLASSES) - 1}); use 255")


def _find_meta(report: Report, key: str, name: str, *, folders: ConfiguredFolders, is_used: bool) -> DatasetMeta | None:
    """Return the metadata of a dataset, after reporting its own problems if the run uses it; None if it has none.

    An evaluation does not use the training datasets, but they name the classes of the model.
    """
    meta = None
    if name in folders.sources:
        meta = folders.sources[name].meta
    elif name in DatasetCatalog.names():
        try:
            meta = DatasetCatalog.meta(name)
        except DataError as error:  # the classes of some datasets are read from a file
            if is_used:
                report.problems.append(f"{key}: the classes of {name} cannot be read: {error}")
    elif is_used and name not in folders.names:  # an invalid entry of FOLDERS has its own line
        near = nearest_names(name, {*DatasetCatalog.names(), *folders.names})
        report.add(
            key,
            f"contains {shown(name)}, which is not a registered dataset; {near}; register your own in DATASETS.FOLDERS "
            "or in a net.py next to the config",
        )
    if meta is not None and is_used:
        _check_classes(report, key, name, meta=meta)
    return meta


def _check_classes(report: Report, key: str, name: str, *, meta: DatasetMeta) -> None:
    if report.trains and not meta.labelled:
        report.add(key, f"contains {name}, which has no labels; all datasets of a training run need labels")
    if meta.num_classes == 1:
        report.add(key, f"contains {name}, which has one class, {meta.class_names[0]!r}; {BINARY_TASK_HINT}")
    elif report.value(_NUM_CLASSES) != meta.num_classes:
        report.add(_NUM_CLASSES, f"must be {meta.num_classes}, the number of classes of the dataset {name}")
    if report.value(_IGNORE_VALUE) != meta.ignore_value:
        report.add(_IGNORE_VALUE, f"must be {meta.ignore_value}, the ignore value of the dataset {name}")


def _check_equal_classes(report: Report, key: str, name: str, *, metas: Mapping[str, DatasetMeta]) -> None:
    """Compare the class names of a dataset with those of the first one; colors are for figures and may differ."""
    first = next(iter(metas))
    expected, found = (tuple(map(normalized, metas[key].class_names)) for key in (first, name))
    pairs = enumerate(zip_longest(expected, found, fillvalue=""))
    differences = [f"{label}: {a!r} in {first}, {b!r} in {name}" for label, (a, b) in pairs if a != b]
    if not differences:
        return
    evaluated = "" if report.trains else "; to evaluate weights that were not trained on DATASETS.TRAIN, set it to []"
    what = "the same classes in another order" if sorted(expected) == sorted(found) else "other classes"
    report.add(
        key,
        f"contains {name}, which has {what} than {first}; all datasets of a run must have the same class names in the "
        "same order. Map the ids with LABEL_MAP, or reorder or rename CLASSES (DATASETS.FOLDERS) or the categories "
        f"(COCO){evaluated}. Differing ids: {joined(differences, limit=_MAX_LISTED, separator='; ')}",
    )
