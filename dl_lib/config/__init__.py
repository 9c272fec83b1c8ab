"""Configuration: `get_cfg()` gives the defaults, `validate_config` says what is wrong before anything is built."""

from dl_lib.config.checks.report import Purpose
from dl_lib.config.config_node import CfgNode
from dl_lib.config.configurable import configurable
from dl_lib.config.defaults import DEFAULTS
from dl_lib.config.errors import ConfigError
from dl_lib.config.files import expand_paths, write_config
from dl_lib.config.overrides import apply_overrides
from dl_lib.config.validate import validate_config

__all__ = [
    "CfgNode",
    "ConfigError",
    "Purpose",
    "apply_overrides",
    "configurable",
    "expand_paths",
    "get_cfg",
    "validate_config",
    "write_config",
]


def get_cfg() -> CfgNode:
    """A copy of the defaults of one's own, to merge files and overrides into."""
    return DEFAULTS.clone()
