"""The configuration and the paths in it, on this machine's disk."""

from __future__ import annotations

import os
from pathlib import Path

from dl_lib.config.config_node import CfgNode
from dl_lib.utils.files import write_atomically
from dl_lib.utils.run_files import CONFIG_NAME

__all__ = ["expand_paths", "write_config"]


def expand_paths(cfg: CfgNode) -> None:
    """Replace a leading `~` in `OUTPUT_DIR` and `MODEL.WEIGHTS`, which a shell leaves in place behind a `=`."""
    cfg.OUTPUT_DIR = os.path.expanduser(cfg.OUTPUT_DIR)
    cfg.MODEL.WEIGHTS = os.path.expanduser(cfg.MODEL.WEIGHTS)


def write_config(cfg: CfgNode, output_dir: str | os.PathLike[str]) -> Path:
    """Write every key into the run's folder, so that it can be run again as it is; returns the file's path."""
    path = Path(output_dir) / CONFIG_NAME
    write_atomically(path, cfg.dump())
    return path
