"""Automatic training crop, `INPUT.CROP_SIZE: [0, 0]`, which `default_setup` replaces by the size it measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dl_lib.config.errors import ConfigError

__all__ = ["AUTOMATIC_CROP", "MAX_AUTOMATIC_CROP_PX", "has_automatic_crop", "resolved_crop"]

AUTOMATIC_CROP = (0, 0)
MAX_AUTOMATIC_CROP_PX = 512  # per side


def has_automatic_crop(cfg: Mapping[str, Any]) -> bool:
    """Return whether the training crop of a config is still to be measured."""
    return tuple(cfg["INPUT"]["CROP_SIZE"]) == AUTOMATIC_CROP


def resolved_crop(cfg: Mapping[str, Any]) -> list[int]:
    """Return the height and width of the training crop; an empty list disables it.

    Raises:
        ConfigError: If the crop is automatic and was not measured.
    """
    crop: list[int] = cfg["INPUT"]["CROP_SIZE"]
    if has_automatic_crop(cfg):
        raise ConfigError(
            "INPUT.CROP_SIZE must be measured before it is used; call default_setup(cfg) first, or set "
            f"INPUT.CROP_SIZE. Received: INPUT.CROP_SIZE={crop}"
        )
    return crop
