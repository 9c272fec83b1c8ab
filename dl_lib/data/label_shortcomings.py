"""Shortcomings of the labels of a dataset: classes without a pixel, and pixels that are mostly ignored."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dl_lib.config.choices import LabelShortcoming
from dl_lib.data.catalog import DatasetMeta
from dl_lib.utils.names import joined

__all__ = ["BINARY_TASK_HINT", "label_hint", "label_shortcomings", "quoted_classes"]

_MAX_IGNORED_RATIO = 0.9  # of the pixels of a dataset whose annotations are not sparse by design
BINARY_TASK_HINT = (
    "a binary task has two classes, such as CLASSES: [background, object] with the label ids 0 and 1 (for masks with "
    "0 and 255, LABEL_MAP: {0: 0, 255: 1}; for COCO files, a background class); with a single class, the loss is 0 "
    "from the start and all predictions are equal"
)
_MAX_LISTED = 10  # class names


def label_shortcomings(
    pixels: Mapping[int, int], *, meta: DatasetMeta, allowed: Collection[LabelShortcoming] = ()
) -> dict[str, str]:
    """Return the reasons not to train on labels, by kind; empty if there are none.

    Mostly ignored pixels are no shortcoming of a dataset whose metadata says that its labels are sparse.

    Args:
        pixels: Number of pixels by label id.
        meta: Expected classes.
        allowed: Kinds to accept.
    """
    labelled = sum(pixels.get(label, 0) for label in range(meta.num_classes))
    ignored = pixels.get(meta.ignore_value, 0)
    if not labelled:
        if pixels.keys() == {meta.ignore_value}:
            return {"no-labels": f"all pixels have the ignore value {meta.ignore_value}"}
        return {"no-labels": "no pixel of a class"} if pixels else {"unread-labels": "no label could be read"}
    found: dict[str, str] = {}
    if meta.num_classes == 1:
        found["one-class"] = f"the only class is {meta.class_names[0]!r}; {BINARY_TASK_HINT}"
    absent = [label for label in range(meta.num_classes) if not pixels.get(label)]
    if absent and "absent-classes" not in allowed:
        found["absent-classes"] = f"no pixel of {quoted_classes(absent, meta=meta)}"
    ratio = ignored / (labelled + ignored)
    if ratio > _MAX_IGNORED_RATIO and not meta.sparse and "ignored-pixels" not in allowed:
        found["ignored-pixels"] = f"{100 * ratio:.1f} % of the pixels have the ignore value {meta.ignore_value}"
    return found


def quoted_classes(labels: Collection[int], *, meta: DatasetMeta) -> str:
    """Return class names for a message, at most ten of them."""
    names = [repr(meta.class_names[label]) for label in sorted(labels)]
    return f"class{'es' if len(names) > 1 else ''} {joined(names, limit=_MAX_LISTED)}"


def label_hint(meta: DatasetMeta) -> str:
    """Return the likely cause of a shortcoming and its fix."""
    return (
        f"label ids are 0 to {meta.num_classes - 1}, and {meta.ignore_value} is the ignore value, not a class; map "
        "files with other ids, such as masks of 0 and 255, with LABEL_MAP in DATASETS.FOLDERS (datasets/README.md)"
    )
