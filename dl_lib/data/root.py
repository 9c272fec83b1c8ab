"""Where data sets lie: below one folder, which the environment names."""

from __future__ import annotations

import os
from pathlib import Path

from dl_lib.data.errors import MissingDataError

__all__ = ["DEFAULT_ROOT", "ROOT_VARIABLE", "datasets_root", "require_path", "under_root"]

ROOT_VARIABLE = "DL_DATASETS"
DEFAULT_ROOT = "datasets"


def datasets_root() -> Path:
    """The folder that the environment variable `DL_DATASETS` names, else `./datasets`; it need not exist."""
    return Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT).expanduser()


def under_root(path: str | os.PathLike[str]) -> Path:
    """A path as a user gives it: relative to the data sets' root, unless it is absolute or starts with `~`."""
    return datasets_root() / Path(path).expanduser()


def require_path(path: Path, *, layout: str) -> Path:
    """The path of a file or folder that has to be there.

    Args:
        path: what is looked for.
        layout: what the data set should look like, for the message.

    Raises:
        MissingDataError: if there is nothing; names the path, the layout and where the layouts are described.
    """
    if path.exists():
        return path
    raise MissingDataError(
        f"there is no {path}. Expected {layout}; datasets/README.md describes the layouts and where to get the data. "
        f"If the data sets lie elsewhere, set the environment variable {ROOT_VARIABLE}. "
        f"Received: {ROOT_VARIABLE}={os.environ.get(ROOT_VARIABLE)!r}, path={str(path.absolute())!r}"
    )
