"""Setup of a run from a config: output folder, logging, seeds and model."""

from __future__ import annotations

import logging
import random
import secrets

import numpy as np
import torch
from torch import nn

from dl_lib.config import CfgNode, ConfigError
from dl_lib.engine.environment import describe_environment
from dl_lib.engine.image_sizes import resolve_crop_size, warn_about_enlarged_images
from dl_lib.launch.process_group import warn_without_gpu
from dl_lib.modeling.build import build_model, resolve_device
from dl_lib.modeling.dynamic.configured_route import embed_route_file
from dl_lib.utils import comm
from dl_lib.utils.allocator import keep_freed_memory
from dl_lib.utils.logger import setup_logger

__all__ = ["build_configured_model", "default_setup", "seed_everything"]

_DEFAULT_OUTPUT_DIR = "output/run"

_log = logging.getLogger(__name__)


def default_setup(cfg: CfgNode) -> None:
    """Set up a run before anything is built; every process must call it.

    Sets `OUTPUT_DIR` and `SEED` if they are unset, measures an automatic `INPUT.CROP_SIZE`, embeds a route file, and
    freezes the config. Logs to the terminal and to the output folder, and seeds all random generators. The
    lines of the log file are held back until `DefaultTrainer.resume_or_load` has moved an earlier run away.

    Args:
        cfg: Full config; modified in place.

    Raises:
        DataError: If the crop is automatic and a training dataset is missing.
    """
    cfg.defrost()
    cfg.OUTPUT_DIR = cfg.OUTPUT_DIR or _DEFAULT_OUTPUT_DIR
    if cfg.SEED < 0:
        cfg.SEED = comm.broadcast(secrets.randbelow(2**31))
    setup_logger(cfg.OUTPUT_DIR, rank=comm.get_rank(), holds_back=True)
    resolve_crop_size(cfg)
    embed_route_file(cfg)
    cfg.freeze()
    warn_without_gpu(cfg.MODEL.DEVICE)
    if comm.is_main_process():
        warn_about_enlarged_images(cfg, trains=True)
        _log.info("Environment:\n%s", describe_environment(uses_gpus=cfg.MODEL.DEVICE != "cpu"))
    seed_everything(cfg.SEED, rank=comm.get_rank())


def seed_everything(seed: int, *, rank: int = 0) -> None:
    """Seed the generators of Python, NumPy and torch with seed + rank, so that processes draw different numbers."""
    process_seed = (seed + rank) % 2**32  # NumPy accepts 32 bits
    random.seed(process_seed)
    np.random.seed(process_seed)
    torch.manual_seed(process_seed)


def build_configured_model(cfg: CfgNode) -> nn.Module:
    """Build the model of a config on its device.

    A GPU selected by index becomes the current device, whose random state checkpoints hold. On the CPU, freed memory
    is kept for reuse; see `keep_freed_memory`.

    Raises:
        ConfigError: If a part of the model rejects its config.
    """
    device = resolve_device(cfg.MODEL.DEVICE)
    if device.type == "cpu":
        keep_freed_memory()
    elif device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    try:
        return build_model(cfg)
    except ValueError as error:
        raise ConfigError(f"the model cannot be built: {error}") from error
