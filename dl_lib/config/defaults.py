"""Default configuration, built from the declarations of the keys."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path

from dl_lib.config.config_node import CfgNode
from dl_lib.config.declarations import KEYS
from dl_lib.config.errors import REMOVED_KEYS, RENAMED_KEYS
from dl_lib.config.key import ConfigKey
from dl_lib.utils.files import write_atomically
from dl_lib.utils.run_files import CONFIG_NAME

__all__ = ["DEFAULTS", "expand_paths", "get_cfg", "write_config"]


def get_cfg() -> CfgNode:
    """Return a new copy of the defaults, to merge files and overrides into."""
    return DEFAULTS.clone()


def expand_paths(cfg: CfgNode) -> None:
    """Expand a leading `~` in `OUTPUT_DIR` and `MODEL.WEIGHTS`, which shells do not expand after `=`."""
    cfg.OUTPUT_DIR = os.path.expanduser(cfg.OUTPUT_DIR)
    cfg.MODEL.WEIGHTS = os.path.expanduser(cfg.MODEL.WEIGHTS)


def write_config(cfg: CfgNode, output_dir: str | os.PathLike[str]) -> Path:
    """Write all keys to `config.yaml` in the run folder, so that the run can be repeated; return its path."""
    path = Path(output_dir) / CONFIG_NAME
    write_atomically(path, cfg.dump())
    return path


def _build_tree(keys: Mapping[str, ConfigKey]) -> CfgNode:
    tree = CfgNode()
    for key in keys.values():
        node = tree
        for section in key.section.split(".") if key.section else ():
            node = node.setdefault(section, CfgNode())
        node[key.name.rpartition(".")[2]] = copy.copy(key.default)
    for old, new in RENAMED_KEYS.items():
        tree.register_renamed_key(old, new)
    for removed in REMOVED_KEYS:
        tree.register_deprecated_key(removed)
    return tree


DEFAULTS = _build_tree(KEYS)
