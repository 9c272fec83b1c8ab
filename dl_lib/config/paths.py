"""Rule for paths: expansion of `~` and environment variables, and the folders of relative paths.

Data paths are relative to the dataset root, or else to the folder of the config; `OUTPUT_DIR`, `MODEL.WEIGHTS` and
`MODEL.BUDGET.LATENCY_TABLE` are relative to the current directory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from string import Template

from dl_lib.config.errors import ConfigError, shown
from dl_lib.utils.output_path import check_local

__all__ = ["DATASETS_VARIABLE", "config_folder", "datasets_root", "escape_path", "expand_path", "locate_data"]

DATASETS_VARIABLE = "DL_DATASETS"
_DEFAULT_ROOT = "datasets"

_config_folder: ContextVar[Path | None] = ContextVar("config_folder", default=None)


def expand_path(path: str | os.PathLike[str], *, key: str) -> str:
    """Replace a leading `~` or `~user`, `$VARIABLE` and `${VARIABLE}` in a path or URL; `$$` is a literal `$`.

    Args:
        path: Value from a config, a command line, a function argument or an environment variable.
        key: Name of the value in messages, such as `OUTPUT_DIR`.

    Raises:
        ConfigError: If a variable or the home folder is not defined, or the path has a null character.
    """
    text = os.fspath(path)
    received = f"Received: {key}={shown(text)}"
    if "\0" in text:
        raise ConfigError(f"{key} must be a path without null characters. {received}")
    try:
        expanded = Template(text).substitute(os.environ)
    except KeyError as error:
        raise ConfigError(
            f"{key} contains the environment variable {error.args[0]}, which is not set; export it, or write $$ for a "
            f"literal $. {received}"
        ) from None
    except ValueError:
        raise ConfigError(
            f"{key} has a $ that begins neither $VARIABLE nor ${{VARIABLE}}; write $$ for a literal $. {received}"
        ) from None
    home = os.path.expanduser(expanded)
    if home.startswith("~"):
        user = home.partition("/")[0]
        raise ConfigError(f"{key} starts with {user}, which has no home folder; write ./{user} for a file. {received}")
    return home


def escape_path(path: str) -> str:
    """Return a text that `expand_path` turns into the path; a relative path with a leading `~` gets a `./`."""
    return ("./" if path.startswith("~") else "") + path.replace("$", "$$")


def datasets_root() -> Path:
    """Return the folder given by the environment variable `DL_DATASETS`, by default `./datasets`; it need not exist.

    Raises:
        ConfigError: If the variable contains another one that is not set.
        OutputPathError: If it is a URL.
    """
    root = expand_path(os.environ.get(DATASETS_VARIABLE) or _DEFAULT_ROOT, key=DATASETS_VARIABLE)
    check_local(root, key=DATASETS_VARIABLE)
    return Path(root)


@contextlib.contextmanager
def config_folder(folder: Path) -> Iterator[None]:
    """Context in which relative data paths are also searched in the folder of a config or of its net.py."""
    token = _config_folder.set(folder)
    try:
        yield
    finally:
        _config_folder.reset(token)


def locate_data(path: str | os.PathLike[str], *, key: str) -> str:
    """Expand a data path; a relative one that exists only in the folder of the config becomes absolute.

    Other relative paths stay as they are: they are relative to the dataset root, which may differ between machines.
    """
    expanded, folder = expand_path(path, key=key), _config_folder.get()
    if folder is None or os.path.isabs(expanded) or os.path.exists(datasets_root() / expanded):
        return expanded
    local = os.path.join(folder.absolute(), expanded)
    return local if os.path.exists(local) else expanded
