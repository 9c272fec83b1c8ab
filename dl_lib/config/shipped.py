"""Configuration files that come with the library: base configs and playground experiments.

A wheel holds them in `dl_lib/model_zoo/{configs,playground}`, a checkout of the repository in `configs/` and
`playground/` at its root.
"""

from __future__ import annotations

from pathlib import Path

from dl_lib.config.errors import ConfigError

__all__ = ["SHIPPED_SCHEME", "resolve_shipped", "shipped_configs", "shipped_playground"]

SHIPPED_SCHEME = "dl_lib://"  # prefix of a `_BASE_` inside the folder of base configs
_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_configs() -> Path:
    """Return the folder of the base configs, such as `Base-DynamicNet4Seg.yaml`; ConfigError if it is missing."""
    return _shipped_folder("configs")


def shipped_playground() -> Path:
    """Return the folder of the experiments, such as `Quickstart/config.yaml`; ConfigError if it is missing."""
    return _shipped_folder("playground")


def resolve_shipped(reference: str) -> Path:
    """Return the path of a base config given as `dl_lib://<path inside the folder>`.

    Raises:
        ConfigError: If the path is absolute, contains `..` or a symbolic link, or names no file.
    """
    folder = shipped_configs()
    relative = Path(reference.removeprefix(SHIPPED_SCHEME))
    path = folder / relative
    # An absolute path replaces the folder; `..` and symbolic links change the resolved path.
    if relative.is_absolute() or ".." in relative.parts or path.resolve() != folder.resolve() / relative:
        raise ConfigError(
            f"_BASE_: a {SHIPPED_SCHEME} path must stay inside the shipped configs, without `..` or symbolic links; "
            f"use a plain path for other files. Received: _BASE_={reference!r}"
        )
    if not path.is_file():
        names = ", ".join(file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*.yaml")))
        raise ConfigError(f"_BASE_: no such shipped config; expected one of {names}. Received: _BASE_={reference!r}")
    return path


def _shipped_folder(name: str) -> Path:
    candidates = (_PACKAGE / "model_zoo" / name, _PACKAGE.parent / name)
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise ConfigError(
        f"the {name} folder is missing from this installation of dl_lib; reinstall it. "
        f"Received: {' and '.join(map(str, candidates))}"
    )
