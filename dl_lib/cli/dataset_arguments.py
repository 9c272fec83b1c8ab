"""What the commands that look at a single data set have in common."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from dl_lib.cli.experiment import read_experiment
from dl_lib.config import CfgNode, ConfigError, apply_overrides, get_cfg
from dl_lib.config.errors import numbered

if TYPE_CHECKING:
    from dl_lib.data.catalog import DatasetMeta

__all__ = ["dataset_parser", "read_dataset_config"]

_EPILOG = """
data sets:
  a name from the catalog (datasets/README.md), or one that the experiment named with --config-file brings itself,
  in its net.py or under DATASETS.FOLDERS
overrides:
  every key of the configuration can be set as KEY VALUE or KEY=VALUE
"""


def dataset_parser(*, prog: str, description: str) -> argparse.ArgumentParser:
    """A parser that knows the data set's name, --config-file and overrides."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="the data set, such as cityscapes_fine_sem_seg_train")
    parser.add_argument("--config-file", metavar="PATH", help="an experiment whose own data sets and keys are used")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides of the configuration, see below")
    return parser


def read_dataset_config(arguments: argparse.Namespace) -> tuple[CfgNode, DatasetMeta]:
    """The configuration, after the experiment's own data sets are registered, and what the data set's classes are.

    Raises:
        ConfigError: if the experiment, an override or an entry of DATASETS.FOLDERS cannot be used.
        UnknownDatasetError: if no data set has the name.
    """
    from dl_lib.data import DatasetCatalog, register_folders
    from dl_lib.data.datasets.configured import parse_folders

    if arguments.config_file is None:
        cfg = get_cfg()
        apply_overrides(cfg, arguments.opts)
        register_folders(cfg.DATASETS.FOLDERS)
    else:
        cfg = read_experiment(arguments.config_file, arguments.opts).cfg
    if problems := parse_folders(cfg.DATASETS.FOLDERS).problems:
        raise ConfigError(numbered("these data sets cannot be used", problems))
    return cfg, DatasetCatalog.meta(arguments.name)
