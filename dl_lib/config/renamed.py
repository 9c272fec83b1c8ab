"""Config keys and values that have been renamed or removed."""

from __future__ import annotations

from typing import Any

__all__ = ["REMOVED_KEYS", "RENAMED_KEYS", "RENAMED_VALUES", "renamed_key", "renamed_value"]

RENAMED_KEYS = {
    "PICTURES_PERIOD": "VIS_PERIOD",
    "MODEL.WEIGHTS_MAY_LACK": "MODEL.ALLOW_MISSING_KEYS",
    "MODEL.WEIGHTS_MAY_ALSO_HOLD": "MODEL.ALLOW_UNEXPECTED_KEYS",
    "MODEL.LOSS.OHEM.MIN_SHARE": "MODEL.LOSS.OHEM.MIN_RATIO",
    "INPUT.CROP_MAX_CLASS_SHARE": "INPUT.CROP_MAX_CLASS_RATIO",
}
RENAMED_VALUES = {"TEST.ABSENT_CLASSES": {"leave_out": "exclude"}}
# Ignored with a warning: the published configs set it, and costs are now measured at the size of each input.
REMOVED_KEYS = ("INPUT.FIX_SIZE_FOR_FLOPS",)


def renamed_key(key: str, value: Any) -> str:
    """Return the error message for a key in `RENAMED_KEYS`."""
    return f"{key} has been renamed; use {RENAMED_KEYS[key]}. Received: {key}={value!r}"


def renamed_value(key: str, value: Any) -> str | None:
    """Return the error message for a value in `RENAMED_VALUES`; None for any other value."""
    new = RENAMED_VALUES.get(key, {}).get(value) if isinstance(value, str) else None
    return None if new is None else f"{key}: {value} has been renamed; use {new}. Received: {key}={value!r}"
