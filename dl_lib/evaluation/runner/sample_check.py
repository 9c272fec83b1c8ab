"""Check of some test samples at the start of a training run, whose first evaluation may be at its end."""

from __future__ import annotations

import logging
import time

from dl_lib.config import CfgNode
from dl_lib.data.build import build_test_dataset
from dl_lib.data.errors import DataError
from dl_lib.data.raw_dataset import sampled_indices
from dl_lib.data.samplers import SampleKey

__all__ = ["warn_about_invalid_samples"]

_MAX_SECONDS = 1.0
_MAX_SAMPLES = 64  # of each dataset, evenly spaced

_log = logging.getLogger(__name__)


def warn_about_invalid_samples(cfg: CfgNode) -> None:
    """Read some samples of `DATASETS.TEST` as evaluation does, for about a second, and warn about invalid datasets.

    Args:
        cfg: Config; uses the keys of `build_test_loader`.
    """
    cfg = cfg.with_values({"DATALOADER.CACHE": "none"})  # else the cache would be built
    for name in cfg.DATASETS.TEST:
        try:
            _read_samples(cfg, name, max_seconds=_MAX_SECONDS / len(cfg.DATASETS.TEST))
        except DataError as error:
            _log.warning("DATASETS.TEST: %s cannot be evaluated as it is: %s", name, error)


def _read_samples(cfg: CfgNode, name: str, *, max_seconds: float) -> None:
    deadline = time.monotonic() + max_seconds
    dataset = build_test_dataset(cfg, name)
    for index in sampled_indices(dataset, limit=_MAX_SAMPLES):
        dataset[SampleKey(epoch=0, index=index)]
        if time.monotonic() > deadline:
            return
