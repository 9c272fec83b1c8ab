"""Arguments and config of the commands that read a single dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.cli.arguments import experiment_parser
from dl_lib.config import CfgNode, ConfigError, apply_overrides, get_cfg
from dl_lib.config.errors import numbered
from dl_lib.config.paths import config_folder
from dl_lib.experiment.experiment import read_experiment

if TYPE_CHECKING:
    from dl_lib.data.catalog import DatasetMeta

__all__ = ["dataset_parser", "read_dataset_config"]

_NOTES = """
datasets:
  names in the catalog (datasets/README.md), and the datasets that the experiment
  of --config-file registers in its net.py or lists in DATASETS.FOLDERS
"""


def dataset_parser(*, prog: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the name of a dataset and `--config-file`."""
    parser = experiment_parser(prog=prog, description=description, notes=_NOTES, default_config="none")
    parser.add_argument("name", metavar="NAME", help="name of the dataset, such as cityscapes_fine_sem_seg_train")
    return parser


def read_dataset_config(arguments: argparse.Namespace) -> tuple[CfgNode, DatasetMeta]:
    """Register the experiment's own datasets; return its config and the metadata of the dataset.

    Raises:
        ConfigError: If the experiment, an override or an entry of DATASETS.FOLDERS is invalid.
        UnknownDatasetError: If there is no dataset with this name.
    """
    from dl_lib.data import DatasetCatalog, register_folders
    from dl_lib.data.datasets.configured import parse_folders

    if arguments.config_file is None:
        cfg = get_cfg()
        with config_folder(Path.cwd()):
            apply_overrides(cfg, arguments.opts)
        register_folders(cfg.DATASETS.FOLDERS)
    else:
        cfg = read_experiment(arguments.config_file, arguments.opts).cfg
    if problems := parse_folders(cfg.DATASETS.FOLDERS).problems:
        raise ConfigError(numbered("invalid datasets", problems))
    return cfg, DatasetCatalog.meta(arguments.name)
