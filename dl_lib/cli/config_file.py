"""Lookup of `--config-file`: paths and shipped experiments."""

from __future__ import annotations

from pathlib import Path

from dl_lib.config import ConfigError
from dl_lib.config.shipped import shipped_playground
from dl_lib.utils.names import nearest_names
from dl_lib.utils.run_files import CONFIG_NAME

__all__ = ["find_config_file", "shipped_experiments"]

_MAX_LISTED = 8


def find_config_file(config_file: str | None) -> Path:
    """Return the path of a config file; an existing path takes precedence over a shipped experiment.

    Args:
        config_file: A YAML file, a folder with a config.yaml, or the name of a shipped experiment such as
            `Dynamic/Seg.Layer16`, whose last component is enough where it is unique. None is the current folder.

    Raises:
        ConfigError: If there is no such file and no such experiment, or several experiments have the name.
    """
    path = _expanded(config_file if config_file is not None else ".")
    if path.is_file():
        return path
    if path.is_dir():
        return _config_in(path, is_given=config_file is not None)
    assert config_file is not None
    return _find_shipped(config_file)


def shipped_experiments() -> dict[str, Path]:
    """Return the config files of the shipped experiments by name, such as `Zoo/Digits.SAC`."""
    playground = shipped_playground()
    files = {path.parent.relative_to(playground): path for path in sorted(playground.rglob(CONFIG_NAME))}
    # In a checkout, finished runs may lie in an experiment's folder.
    return {name.as_posix(): path for name, path in files.items() if "output" not in name.parts}


def _expanded(text: str) -> Path:
    """Return a path with `~` replaced by the home folder, or unchanged if there is no such user."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _config_in(folder: Path, *, is_given: bool) -> Path:
    path = folder / CONFIG_NAME
    if path.is_file():
        return path
    if is_given:
        raise ConfigError(
            f"--config-file: the folder contains no {CONFIG_NAME}{_nearby(folder)}. Received: --config-file={folder}"
        )
    raise ConfigError(
        f"no {CONFIG_NAME} in the current folder; change to the folder of an experiment, or name a file, a folder or a "
        f"shipped experiment with --config-file (dl_lib config --list lists them). Received: {Path.cwd()}"
    )


def _find_shipped(name: str) -> Path:
    experiments = shipped_experiments()
    wanted = name.rstrip("/")
    matches = [known for known in experiments if wanted == known or wanted == known.rpartition("/")[2]]
    if wanted in experiments:
        return experiments[wanted]
    if len(matches) == 1:
        return experiments[matches[0]]
    if matches:
        raise ConfigError(
            f"--config-file: several shipped experiments have this name; use one of {', '.join(matches)}. "
            f"Received: --config-file={name}"
        )
    names = {*experiments, *(known.rpartition("/")[2] for known in experiments)}
    raise ConfigError(
        f"--config-file: no such file, folder or shipped experiment{_nearby(_expanded(name))}; "
        f"shipped experiments ({nearest_names(wanted, names)}). Received: --config-file={name}"
    )


def _nearby(path: Path) -> str:
    """Return a clause that lists the config files close to a path."""
    folder = path
    while not folder.is_dir():
        folder = folder.parent
    found = sorted({*folder.glob("[!.]*.yaml"), *folder.glob(f"[!.]*/{CONFIG_NAME}")})[:_MAX_LISTED]
    return f"; config files nearby: {', '.join(map(str, found))}" if found else ""
