"""An experiment on disk: its configuration, its own code beside it, and the folder that its run fills."""

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
    "load_experiment",
    "read_experiment",
    "register_parts",
    "start_processes",
]

NET_NAME = "net.py"


@dataclass(frozen=True)
class Experiment:
    """What a command works on.

    Args:
        cfg: complete, valid and frozen; `OUTPUT_DIR` is set.
        config_file: where it was read from.
        net_file: code that registers the experiment's own parts; None if there is none.
    """

    cfg: CfgNode
    config_file: Path
    net_file: Path | None

    @property
    def output_dir(self) -> Path:
        """The run's folder."""
        return Path(self.cfg.OUTPUT_DIR)


def load_experiment(
    config_file: str | None, opts: Sequence[str], *, world_size: int = 1, purpose: Purpose = "training"
) -> Experiment:
    """Read an experiment, register its own parts, and check its configuration.

    Args:
        config_file: a YAML file or a folder with a config.yaml; None is the current folder.
        opts: overrides, `KEY VALUE` and `KEY=VALUE`.
        world_size: number of processes that will work on it together.
        purpose: what for.

    Raises:
        ConfigError: if a file is missing or the configuration cannot be used.
    """
    experiment = read_experiment(config_file, opts)
    from dl_lib.validation import validate_config  # imports torch, which a misspelt key need not wait for

    validate_config(experiment.cfg, world_size=world_size, purpose=purpose)
    return experiment


def read_experiment(config_file: str | None, opts: Sequence[str]) -> Experiment:
    """As `load_experiment`, but whether the configuration can be trained or evaluated with is not looked at."""
    path = _find_config(config_file)
    net_file = path.parent / NET_NAME
    has_net = net_file.is_file()
    if has_net:
        import_net(net_file)
    cfg = get_cfg()
    cfg.merge_from_file(path)
    if (path.parent / LAST_CHECKPOINT_NAME).is_file():
        cfg.OUTPUT_DIR = str(path.parent)  # a run's folder may have been moved since
    apply_overrides(cfg, opts)
    if not cfg.OUTPUT_DIR:
        cfg.OUTPUT_DIR = os.path.join(".", "output", _name(path))
    expand_paths(cfg)
    _register_folders(cfg)
    cfg.freeze()
    return Experiment(cfg, path, net_file if has_net else None)


def register_parts(experiment: Experiment) -> None:
    """Make the experiment's own parts and data sets known in this process, if it is a new one."""
    if experiment.net_file is not None:
        import_net(experiment.net_file)
    _register_folders(experiment.cfg)


def import_net(net_file: Path) -> None:
    """Import the code beside a configuration, as the module `net`; a second call for the same file does nothing.

    Its folder joins `sys.path`, so that it can import its neighbours and that processes which load data find it.
    """
    resolved = net_file.resolve()
    loaded = sys.modules.get("net")
    if loaded is not None and getattr(loaded, "__file__", None) == str(resolved):
        return
    spec = importlib.util.spec_from_file_location("net", resolved)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(resolved.parent))
    sys.modules["net"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules["net"]  # half of it is worse than nothing
        raise


def check_run_folder(experiment: Experiment) -> None:
    """Make sure that the resolved config.yaml, which a training writes, overwrites nothing that a person wrote.

    Raises:
        ConfigError: if the run's folder is the folder of the configuration and that is not a resolved one.
    """
    target = experiment.output_dir / CONFIG_NAME
    if target.is_file() and target.samefile(experiment.config_file) and not _is_resolved(target):
        raise ConfigError(
            "the run's folder gets a config.yaml of its own, which would overwrite this one; choose another folder. "
            f"Received: OUTPUT_DIR={experiment.cfg.OUTPUT_DIR!r} with {experiment.config_file}"
        )


def check_weights(experiment: Experiment) -> None:
    """Make sure that `MODEL.WEIGHTS` is there, before a run's folder is touched; addresses are not looked up.

    Raises:
        ConfigError: if there is no such file.
    """
    weights = experiment.cfg.MODEL.WEIGHTS
    path = Path(weights)
    if not weights or "://" in weights or path.is_file():
        return
    there = [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
    raise ConfigError(
        f"there is no such checkpoint; of the names in that folder, {nearest_names(path.name, there)}. "
        f"Received: MODEL.WEIGHTS={weights!r}"
    )


def copy_net(experiment: Experiment) -> None:
    """Put the experiment's own code into the run's folder, so that the configuration there can be run again."""
    target = experiment.output_dir / NET_NAME
    if experiment.net_file is not None and not (target.exists() and target.samefile(experiment.net_file)):
        write_atomically(target, experiment.net_file.read_bytes())


def start_processes(
    function: Callable[..., None], arguments: argparse.Namespace, experiment: Experiment, *args: Any
) -> None:
    """Call `function(experiment, *args)` in every process of the run, on the device of the configuration."""
    from dl_lib.launch.launch import launch  # imports torch; --help and config errors do not wait for it

    launch(
        function,
        arguments.processes,
        device=experiment.cfg.MODEL.DEVICE,
        timeout_seconds=experiment.cfg.PROCESS_TIMEOUT_SECONDS,
        args=(experiment, *args),
    )


def _register_folders(cfg: CfgNode) -> None:
    from dl_lib.data import register_folders  # imports torch, which a misspelt key need not wait for

    register_folders(cfg.DATASETS.FOLDERS)


def _is_resolved(path: Path) -> bool:
    """Whether a file gives every key itself, as only a command writes it."""
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    return isinstance(given, dict) and get_cfg().flat().keys() <= CfgNode(given).flat().keys()


def _find_config(config_file: str | None) -> Path:
    path = Path(config_file if config_file is not None else ".").expanduser()
    if path.is_dir():
        path = path / CONFIG_NAME
    if path.is_file():
        return path
    if config_file is None:
        raise ConfigError(
            "there is no config.yaml in this folder; go to an experiment's folder such as playground/Quickstart, or "
            f"name one with --config-file. Received: {Path.cwd()}"
        )
    raise ConfigError(f"there is no such configuration{_similar_nearby(path)}. Received: --config-file {config_file}")


def _similar_nearby(path: Path) -> str:
    """The existing configurations next to where one was looked for."""
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    found = sorted({*folder.glob("*.yaml"), *folder.glob(f"*/{CONFIG_NAME}")})[:8]
    return f"; near it are: {', '.join(map(str, found))}" if found else f", and none near it in {folder.resolve()}"


def _name(path: Path) -> str:
    """What the run is called: the experiment's folder, or a configuration file of another name."""
    return path.resolve().parent.name if path.name == CONFIG_NAME else path.stem
