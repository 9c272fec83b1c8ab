"""Configuration: `get_cfg()` gives the defaults, files and command lines override them."""

from dl_lib.config.config_node import CfgNode
from dl_lib.config.configurable import configurable
from dl_lib.config.defaults import DEFAULTS
from dl_lib.config.errors import ConfigError
from dl_lib.config.files import expand_paths, write_config
from dl_lib.config.overrides import apply_overrides

__all__ = [
    "CfgNode",
    "ConfigError",
    "apply_overrides",
    "configurable",
    "expand_paths",
    "get_cfg",
    "write_config",
]


def get_cfg() -> CfgNode:
    """A copy of the defaults of one's own, to merge files and overrides into."""
    return DEFAULTS.clone()
