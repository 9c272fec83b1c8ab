"""Image sizes of a run, from a sample of its datasets: automatic training crop, and images that are enlarged a lot."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from dl_lib.config import CfgNode
from dl_lib.config.crop_size import MAX_AUTOMATIC_CROP_PX, has_automatic_crop
from dl_lib.data.catalog import DatasetCatalog
from dl_lib.data.errors import DataError
from dl_lib.data.raw_dataset import image_size, sampled_indices
from dl_lib.data.transforms import ResizeShortestEdge
from dl_lib.utils import comm
from dl_lib.utils.rounding import round_up
from dl_lib.validation import validate_config
from dl_lib.validation.model import coarsest_stride, smallest_side
from dl_lib.validation.report import Report

__all__ = ["automatic_crop", "resolve_crop_size", "warn_about_enlarged_images"]

_NUM_SIZES = 256  # images of each dataset whose size is read, evenly spaced
_UNKNOWN_STRIDE = 32  # of networks whose stride is only known once they are built
_MAX_ENLARGEMENT = 2.0

_log = logging.getLogger(__name__)


def resolve_crop_size(cfg: CfgNode) -> None:
    """Replace an automatic `INPUT.CROP_SIZE` by the size for the training datasets; every process must call it.

    The main process reads the image sizes.

    Args:
        cfg: Valid config; modified in place.

    Raises:
        DataError: If a dataset is missing.
        ConfigError: If the network cannot be trained on crops of this size.
    """
    if has_automatic_crop(cfg):
        crop = automatic_crop(cfg, cfg.DATASETS.TRAIN) if comm.is_main_process() else []
        cfg.INPUT.CROP_SIZE = comm.broadcast(crop)
        validate_config(cfg, world_size=comm.get_world_size())


def automatic_crop(cfg: CfgNode, names: Sequence[str]) -> list[int]:
    """Return height and width of the training crop for datasets, and log them.

    Each is that of the largest image after `INPUT.MIN_SIZE_TRAIN`, rounded up to the coarsest stride of the network,
    and at most 512 pixels.

    Raises:
        DataError: If a dataset is missing.
    """
    report = Report(cfg, world_size=1, purpose="training")
    divisor, smallest = coarsest_stride(report) or _UNKNOWN_STRIDE, smallest_side(report) or _UNKNOWN_STRIDE
    largest_px = MAX_AUTOMATIC_CROP_PX // divisor * divisor
    sizes = [size for name in names for size in _sampled_sizes(name)]
    if sizes:
        shorter = max(cfg.INPUT.MIN_SIZE_TRAIN, default=0)
        resized = [_resized(size, shorter, cfg.INPUT.MAX_SIZE_TRAIN) for size in sizes]
        sides = [max(side) for side in zip(*resized, strict=True)]
    else:
        sides = [largest_px, largest_px]  # no image can be read, which the loader reports
    crop = [max(smallest, min(round_up(side, divisor), largest_px)) for side in sides]
    _log.info("Automatic INPUT.CROP_SIZE: %s for images of up to %d x %d pixels (height x width)", crop, *sides)
    return crop


def warn_about_enlarged_images(cfg: CfgNode, *, trains: bool) -> None:
    """Warn if resizing to `INPUT.MIN_SIZE_TEST` or the smallest `MIN_SIZE_TRAIN` enlarges images by a factor above 2.

    Missing datasets are reported by the loaders.

    Args:
        cfg: Full config.
        trains: Whether to check the training datasets as well.
    """
    inputs = cfg.INPUT
    if inputs.MIN_SIZE_TEST:
        for name in cfg.DATASETS.TEST:
            _warn_if_enlarged(name, inputs.MIN_SIZE_TEST, inputs.MAX_SIZE_TEST, key="INPUT.MIN_SIZE_TEST", keep="0")
    if trains and inputs.MIN_SIZE_TRAIN and not inputs.SCALE_RANGE_TRAIN:
        shorter = min(inputs.MIN_SIZE_TRAIN)
        for name in cfg.DATASETS.TRAIN:
            _warn_if_enlarged(name, shorter, inputs.MAX_SIZE_TRAIN, key="INPUT.MIN_SIZE_TRAIN", keep="[]")


def _warn_if_enlarged(name: str, shorter: int, limit: int, *, key: str, keep: str) -> None:
    resized: dict[tuple[int, int], tuple[int, int]] = {}
    with suppress(DataError):
        resized = {size: _resized(size, shorter, limit) for size in _sampled_sizes(name)}
    factors = {size: new[0] / size[0] for size, new in resized.items()}
    if factors and max(factors.values()) > _MAX_ENLARGEMENT:
        size = max(factors, key=factors.__getitem__)
        _log.warning(
            "%s enlarges images of %s up to %.1f times (%d x %d to %d x %d pixels, height x width); set %s=%s to keep "
            "their size",
            *(key, name, factors[size], *size, *resized[size], key, keep),
        )


def _resized(size: tuple[int, int], shorter: int, limit: int) -> tuple[int, int]:
    """Return the size of an image after a resize of its shorter edge; 0 keeps it."""
    if not shorter:
        return size
    resize = ResizeShortestEdge((shorter,), limit).get_transform(np.random.default_rng(0), size=size)
    return resize.output_size(size)


def _sampled_sizes(name: str) -> list[tuple[int, int]]:
    """Return the sizes of evenly spaced images of a dataset that can be read."""
    dataset = DatasetCatalog.get(name)
    sizes = []
    for index in sampled_indices(dataset, limit=_NUM_SIZES):
        with suppress(DataError):  # reported by the loader
            sizes.append(image_size(dataset, index))
    return sizes
