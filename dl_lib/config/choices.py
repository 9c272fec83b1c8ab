"""Values of the config keys that accept one name of a short, fixed list.

Each type is imported by the module that implements it. Names that are registered, such as backbones and norms, are
declared by a reference to their registry instead (see `dl_lib.config.key.Reference`).
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "AbsentRule",
    "BudgetControlName",
    "BudgetUnit",
    "CacheMode",
    "ChannelOrder",
    "ChannelsLast",
    "Execution",
    "GradClipType",
    "InferencePrecision",
    "LabelShortcoming",
    "MetricMode",
    "NonFiniteAction",
    "PrecisionName",
    "PredictionFormat",
    "ResizeBackend",
    "SampleErrorAction",
]

ChannelsLast = Literal["auto", "True", "False"]

ChannelOrder = Literal["BGR", "RGB"]
ResizeBackend = Literal["cv2", "pil"]
CacheMode = Literal["none", "memmap"]
SampleErrorAction = Literal["raise", "skip"]

BudgetControlName = Literal["penalty", "target"]
BudgetUnit = Literal["ratio", "gflops", "ms"]

PrecisionName = Literal["float32", "bf16", "fp16"]
GradClipType = Literal["norm", "value"]
NonFiniteAction = Literal["stop", "skip"]
MetricMode = Literal["max", "min"]

LabelShortcoming = Literal["absent-classes", "ignored-pixels"]  # of `dl_lib check-dataset --allow`

Execution = Literal["sparse", "dense", "compiled"]
InferencePrecision = Literal["float32", "bf16"]
AbsentRule = Literal["exclude", "zero_if_predicted"]
PredictionFormat = Literal["label_png", "coco_rle"]
