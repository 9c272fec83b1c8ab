"""Experiment on disk: config, own code in net.py, and the folder of its run."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dl_lib.cli.config_file import find_config_file
from dl_lib.config import CfgNode, ConfigError, apply_overrides, expand_paths, get_cfg
from dl_lib.utils.files import write_atomically
from dl_lib.utils.names import nearest_names
from dl_lib.utils.run_files import CONFIG_NAME, LAST_CHECKPOINT_NAME

if TYPE_CHECKING:
    from dl_lib.validation import Purpose

__all__ = [
    "Experiment",
    "check_run_folder",
    "check_weights",
    "copy_net",
    "import_net",
    "import_net_of",
    "load_experiment",
    "read_experiment",
    "register_parts",
    "start_processes",
]

NET_NAME = "net.py"


@dataclass(frozen=True)
class Experiment:
    """Config of a command, with its files.

    Args:
        cfg: Complete, valid and frozen config; `OUTPUT_DIR` is set.
        config_file: File that the config was read from.
        net_file: Code that registers the experiment's own components, or None.
    """

    cfg: CfgNode
    config_file: Path
    net_file: Path | None

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
    net_file = import_net_of(path)
    cfg = get_cfg()
    cfg.merge_from_file(path)
    if (path.parent / LAST_CHECKPOINT_NAME).is_file():
        cfg.OUTPUT_DIR = str(path.parent)  # the folder of the run may have been moved
    apply_overrides(cfg, opts)
    if not cfg.OUTPUT_DIR:
        cfg.OUTPUT_DIR = os.path.join(".", "output", _experiment_name(path))
    expand_paths(cfg)
    _register_folders(cfg)
    cfg.freeze()
    return Experiment(cfg, path, net_file)


def register_parts(experiment: Experiment) -> None:
    """Register the experiment's own components and datasets in a new process."""
    if experiment.net_file is not None:
        import_net(experiment.net_file)
    _register_folders(experiment.cfg)


def import_net_of(config_file: Path) -> Path | None:
    """Import the net.py next to a config file; return its path, or None if there is none."""
    net_file = config_file.parent / NET_NAME
    if not net_file.is_file():
        return None
    import_net(net_file)
    return net_file


def import_net(net_file: Path) -> None:
    """Import an experiment's code as the module `net`; a second call for the same code does nothing.

    Its folder is added to `sys.path`, so that the module can import others from there and data loader workers can find
    it.
    """
    resolved = net_file.resolve()
    loaded = sys.modules.get("net")
    if loaded is not None and loaded.__file__ and Path(loaded.__file__).read_bytes() == resolved.read_bytes():
        return  # the copy in the run folder, too
    spec = importlib.util.spec_from_file_location("net", resolved)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(resolved.parent))
    sys.modules["net"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules["net"]  # no partially initialized module
        raise


def check_run_folder(experiment: Experiment) -> None:
    """Check that the complete config.yaml, which training writes, does not overwrite a hand-written one.

    Raises:
        ConfigError: If the run folder is the folder of the config and that config is not a complete one.
    """
    target = experiment.output_dir / CONFIG_NAME
    if target.is_file() and target.samefile(experiment.config_file) and not _is_complete(target):
        raise ConfigError(
            f"OUTPUT_DIR: training writes a complete {CONFIG_NAME} into the run folder, which would overwrite "
            f"{experiment.config_file}; choose another folder. Received: OUTPUT_DIR={experiment.cfg.OUTPUT_DIR!r}"
        )


def check_weights(experiment: Experiment) -> None:
    """Check that the file of `MODEL.WEIGHTS` exists, before the run folder is changed; URLs are not checked.

    Raises:
        ConfigError: If there is no such file.
    """
    weights = experiment.cfg.MODEL.WEIGHTS
    path = Path(weights)
    if not weights or "://" in weights or path.is_file():
        return
    existing = [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
    raise ConfigError(
        f"MODEL.WEIGHTS: no such checkpoint ({nearest_names(path.name, existing)} in the same folder). "
        f"Received: MODEL.WEIGHTS={weights!r}"
    )


def copy_net(experiment: Experiment) -> None:
    """Copy the experiment's own code into the run folder, so that the config there can be run again."""
    target = experiment.output_dir / NET_NAME
    if experiment.net_file is not None and not (target.exists() and target.samefile(experiment.net_file)):
        write_atomically(target, experiment.net_file.read_bytes())


def start_processes(
    function: Callable[..., None], arguments: argparse.Namespace, experiment: Experiment, *args: Any
) -> None:
    """Call `function(experiment, *args)` in every process of the run, on the device of the config."""
    from dl_lib.launch.launch import launch  # imports torch; --help and config errors do not wait for it

    launch(
        function,
        arguments.processes,
        device=experiment.cfg.MODEL.DEVICE,
        timeout_seconds=experiment.cfg.PROCESS_TIMEOUT_SECONDS,
        args=(experiment, *args),
    )


def _register_folders(cfg: CfgNode) -> None:
    from dl_lib.data import register_folders  # imports torch; a misspelt key is reported without it

    register_folders(cfg.DATASETS.FOLDERS)


def _is_complete(path: Path) -> bool:
    """Return whether a config file sets every key, as the files written by training and evaluation do."""
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    return isinstance(given, dict) and get_cfg().flat().keys() <= CfgNode(given).flat().keys()


def _experiment_name(path: Path) -> str:
    """Return the name of the folder of a config.yaml, or the stem of a config file with another name."""
    return path.resolve().parent.name if path.name == CONFIG_NAME else path.stem
