"""Experiment on disk: config, own code in net.py, and the folder of its run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.config import CfgNode, ConfigError, apply_overrides, get_cfg
from dl_lib.config.crop_size import AUTOMATIC_CROP, has_automatic_crop
from dl_lib.config.layers import read_layers
from dl_lib.config.paths import config_folder
from dl_lib.config.yaml_text import parse_yaml
from dl_lib.experiment.config_file import find_config_file
from dl_lib.experiment.net_files import import_nets, import_nets_of
from dl_lib.utils.run_files import CONFIG_NAME, LAST_CHECKPOINT_NAME

if TYPE_CHECKING:
    from dl_lib.validation import Purpose

__all__ = [
    "Experiment",
    "check_run_folder",
    "check_weights",
    "keep_crop",
    "load_experiment",
    "read_experiment",
    "register_parts",
]


@dataclass(frozen=True)
class Experiment:
    """Config of a command, with its files.

    Args:
        cfg: Complete, valid and frozen config; `OUTPUT_DIR` is set.
        config_file: File that the config was read from.
        net_files: Code that registers the experiment's own components: net.py files, those of base configs first.
    """

    cfg: CfgNode
    config_file: Path
    net_files: tuple[Path, ...] = ()

    @property
    def output_dir(self) -> Path:
        """Folder of the run."""
        return Path(self.cfg.OUTPUT_DIR)


def load_experiment(
    config_file: str | None, opts: Sequence[str], *, world_size: int = 1, purpose: Purpose = "training"
) -> Experiment:
    """Read an experiment, register its own components and validate its config.

    Args:
        config_file: See `find_config_file`.
        opts: Overrides, as `KEY VALUE` and `KEY=VALUE`.
        world_size: Number of processes of the run.
        purpose: Purpose to validate the config for.

    Raises:
        ConfigError: If a file is missing or the config is invalid.
    """
    experiment = read_experiment(config_file, opts)
    from dl_lib.validation import validate_config  # imports torch; a misspelt key is reported without it

    validate_config(experiment.cfg, world_size=world_size, purpose=purpose)
    return experiment


def read_experiment(config_file: str | None, opts: Sequence[str]) -> Experiment:
    """Read an experiment and register its own components, without validation; see `load_experiment`."""
    path = find_config_file(config_file)
    layers = read_layers(path)
    net_files = import_nets_of(layers)
    cfg = get_cfg()
    cfg.merge_from_layers(layers)
    if os.path.lexists(path.parent / LAST_CHECKPOINT_NAME):
        cfg.OUTPUT_DIR = str(path.parent)  # the folder of the run may have been moved
    with config_folder(path.parent):
        apply_overrides(cfg, opts)
    if not cfg.OUTPUT_DIR:
        cfg.OUTPUT_DIR = os.path.join(".", "output", _experiment_name(path))
    _register_folders(cfg)
    if cfg.MODEL.BACKBONE.ROUTE:
        from dl_lib.modeling.dynamic.configured_route import embed_route_file  # imports torch

        embed_route_file(cfg)
    if cfg.MODEL.BUDGET.LATENCY_TABLE:
        cfg.MODEL.BUDGET.LATENCY_TABLE = os.path.abspath(cfg.MODEL.BUDGET.LATENCY_TABLE)  # resuming reads it again
    cfg.freeze()
    return Experiment(cfg, path, net_files)


def register_parts(experiment: Experiment) -> None:
    """Register the experiment's own components and datasets in a new process."""
    import_nets(experiment.net_files)
    _register_folders(experiment.cfg)


def check_run_folder(experiment: Experiment) -> None:
    """Check that the complete config.yaml, which training writes, does not overwrite a hand-written one.

    Raises:
        ConfigError: If the run folder is the folder of the config and that config is not a complete one.
    """
    target = experiment.output_dir / CONFIG_NAME
    if os.path.isfile(target) and target.samefile(experiment.config_file) and not _is_complete(target):
        raise ConfigError(
            f"OUTPUT_DIR: training writes a complete {CONFIG_NAME} into the run folder, which would overwrite "
            f"{experiment.config_file}; choose another folder. Received: OUTPUT_DIR={experiment.cfg.OUTPUT_DIR!r}"
        )


def check_weights(experiment: Experiment) -> None:
    """Check that the file of `MODEL.WEIGHTS` exists, before the run folder is changed; an address is downloaded.

    Raises:
        ConfigError: If there is no such file, or the download fails.
    """
    from dl_lib.checkpoint import CheckpointError, local_weights  # imports torch; config errors do not wait for it

    if experiment.cfg.MODEL.WEIGHTS:
        try:
            local_weights(experiment.cfg.MODEL.WEIGHTS)
        except CheckpointError as error:
            raise ConfigError(f"MODEL.WEIGHTS: {error}") from error


def keep_crop(experiment: Experiment, folder: Path, *, default: Sequence[int] = AUTOMATIC_CROP) -> Experiment:
    """Return the experiment with an automatic `INPUT.CROP_SIZE` replaced by that of the run in a folder.

    A resumed or evaluated run keeps its crop and budget, even if its datasets have changed. If the folder contains no
    run, the crop is the `default`.
    """
    if not has_automatic_crop(experiment.cfg):
        return experiment
    earlier = get_cfg()
    earlier.INPUT.CROP_SIZE = list(default)
    with suppress(ConfigError):
        earlier.merge_from_file(folder / CONFIG_NAME)
    return replace(experiment, cfg=experiment.cfg.with_values({"INPUT.CROP_SIZE": earlier.INPUT.CROP_SIZE}))


def _register_folders(cfg: CfgNode) -> None:
    from dl_lib.data import register_folders  # imports torch; a misspelt key is reported without it

    register_folders(cfg.DATASETS.FOLDERS)


def _is_complete(path: Path) -> bool:
    """Return whether a config file sets every key, as the files written by training and evaluation do."""
    given = parse_yaml(path.read_text(encoding="utf-8"), name=str(path))
    return isinstance(given, dict) and get_cfg().flat().keys() <= CfgNode(given).flat().keys()


def _experiment_name(path: Path) -> str:
    """Return the name of the folder of a config.yaml, or the stem of a config file with another name."""
    return path.resolve().parent.name or path.stem if path.name == CONFIG_NAME else path.stem
