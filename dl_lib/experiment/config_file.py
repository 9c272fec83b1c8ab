"""Lookup of `--config-file`: paths and shipped experiments."""

from __future__ import annotations

import os
from pathlib import Path

from dl_lib.config import ConfigError
from dl_lib.config.paths import expand_path
from dl_lib.config.shipped import shipped_playground
from dl_lib.utils.names import nearest_names
from dl_lib.utils.run_files import CHECKPOINT_SUFFIX, CONFIG_NAME, EXPORT_SUFFIXES

__all__ = ["find_config_file", "shipped_experiments"]

_MAX_LISTED = 8


def find_config_file(config_file: str | None, *, option: str = "--config-file") -> Path:
    """Return the path of a config file; an existing path takes precedence over a shipped experiment.

    Args:
        config_file: A YAML file, a folder with a config.yaml, or the name of a shipped experiment such as
            `Dynamic/Seg.Layer16`, whose last component is enough where it is unique. None is the current folder.
        option: Option that names the file, for messages.

    Raises:
        ConfigError: If there is no such file and no such experiment, or several experiments have the name.
    """
    given = "." if config_file is None else config_file
    expanded = given if os.path.exists(given) else expand_path(given, key=option)
    path = Path(expanded)
    if path.is_file():
        _check_no_model_file(path, option=option)
        return path
    if path.is_dir():
        return _config_in(path, option=None if config_file is None else option)
    if path.exists():
        raise ConfigError(f"{option} must be a file or folder, not a pipe, device or socket. Received: {option}={path}")
    return _find_shipped(expanded, option=option)


def shipped_experiments() -> dict[str, Path]:
    """Return the config files of the shipped experiments by name, such as `Zoo/Digits.SAC`."""
    playground = shipped_playground()
    files = {path.parent.relative_to(playground): path for path in sorted(playground.rglob(CONFIG_NAME))}
    # In a checkout, finished runs and hidden copies may lie in an experiment's folder.
    return {
        name.as_posix(): path
        for name, path in files.items()
        if not any(part == "output" or part.startswith(".") for part in name.parts)
    }


def _check_no_model_file(path: Path, *, option: str) -> None:
    if path.suffix in (CHECKPOINT_SUFFIX, EXPORT_SUFFIXES["weights"][0]):
        raise ConfigError(
            f"{option}: a checkpoint has no config; give its run folder, and choose the checkpoint by "
            f"MODEL.WEIGHTS={path}. Received: {option}={path}"
        )
    if any(path.suffix in suffixes for suffixes in EXPORT_SUFFIXES.values()):
        raise ConfigError(
            f"{option}: an exported file has no config; give the folder of the run it was exported from. "
            f"Received: {option}={path}"
        )


def _config_in(folder: Path, *, option: str | None) -> Path:
    path = folder / CONFIG_NAME
    if path.is_file():
        return path
    if option is not None:
        raise ConfigError(
            f"{option}: the folder contains no {CONFIG_NAME}{_nearby(folder)}. Received: {option}={folder}"
        )
    raise ConfigError(
        f"no {CONFIG_NAME} in the current folder; change to the folder of an experiment, or name a file, a folder or a "
        f"shipped experiment with --config-file (dl_lib config --list lists them). Received: {Path.cwd()}"
    )


def _find_shipped(name: str, *, option: str) -> Path:
    experiments = shipped_experiments()
    wanted = name.rstrip("/")
    matches = [known for known in experiments if wanted == known or wanted == known.rpartition("/")[2]]
    if wanted in experiments:
        return experiments[wanted]
    if len(matches) == 1:
        return experiments[matches[0]]
    if matches:
        raise ConfigError(
            f"{option}: several shipped experiments have this name; use one of {', '.join(matches)}. "
            f"Received: {option}={name}"
        )
    names = {*experiments, *(known.rpartition("/")[2] for known in experiments)}
    raise ConfigError(
        f"{option}: no such file, folder or shipped experiment ({nearest_names(wanted, names)}){_nearby(Path(name))}. "
        f"Received: {option}={name}"
    )


def _nearby(path: Path) -> str:
    """Return a clause that lists the config files close to a path."""
    folder = path
    while not folder.is_dir():
        folder = folder.parent
    found = sorted({*folder.glob("[!.]*.yaml"), *folder.glob(f"[!.]*/{CONFIG_NAME}")})[:_MAX_LISTED]
    return f"; config files nearby: {', '.join(map(str, found))}" if found else ""
