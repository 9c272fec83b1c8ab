"""Configuration: `get_cfg()` returns the defaults; files and command line overrides are merged into them."""

from dl_lib.config.config_node import CfgNode
from dl_lib.config.configurable import configurable
from dl_lib.config.defaults import add_keys, get_cfg, write_config
from dl_lib.config.errors import ConfigError
from dl_lib.config.overrides import apply_overrides

__all__ = [
    "CfgNode",
    "ConfigError",
    "add_keys",
    "apply_overrides",
    "configurable",
    "get_cfg",
    "write_config",
]
