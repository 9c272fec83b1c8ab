"""Config files and the files in their `_BASE_`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvcore.common.config import BASE_KEY
from iopath.common.file_io import g_pathmgr

from dl_lib.config.errors import ConfigError, shown
from dl_lib.config.paths import expand_path
from dl_lib.config.shipped import SHIPPED_SCHEME, resolve_shipped
from dl_lib.config.yaml_text import MAX_CHARACTERS, parse_yaml

__all__ = ["ConfigLayer", "read_layers"]

_MAX_LAYERS = 100  # two bases in each of 30 files would be 2^30 layers


@dataclass(frozen=True)
class ConfigLayer:
    """Content of one config file, without that of its bases."""

    path: str
    values: dict[str, Any]

    @property
    def folder(self) -> Path:
        return Path(self.path).parent


def read_layers(path: str | Path) -> list[ConfigLayer]:
    """Read a YAML file, at any path that iopath supports, and the files in its `_BASE_`.

    A base is a path relative to the file, an absolute path, or `dl_lib://` and the name of a shipped config.

    Returns:
        The files in the order in which they are merged: bases first.

    Raises:
        ConfigError: If a file is missing, is not safe YAML in UTF-8 (see `parse_yaml`), or is its own base.
    """
    layers: list[ConfigLayer] = []
    for layer in _read(str(path), above=()):
        layers.append(layer)
        _check_number(len(layers), path=path)
    return layers


def _read(path: str, *, above: Sequence[str]) -> Iterator[ConfigLayer]:
    identity = path if "://" in path else os.path.realpath(path)
    if identity in above:
        raise ConfigError(f"a config file must not be its own base. Received: {BASE_KEY} in {path}")
    _check_number(len(above) + 1, path=path)
    values = _content(path, above=above)
    for base in _bases(values.pop(BASE_KEY, []), path=path):
        yield from _read(base, above=(*above, identity))
    yield ConfigLayer(path, values)


def _check_number(layers: int, *, path: str | Path) -> None:
    if layers > _MAX_LAYERS:
        raise ConfigError(
            f"a config must include at most {_MAX_LAYERS} files by {BASE_KEY}, directly and indirectly; merge some of "
            f"them. Received: {path}"
        )


def _content(path: str, *, above: Sequence[str]) -> dict[str, Any]:
    if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe or a device may never end
        raise ConfigError(f"a config must be a regular file. Received: {path}")
    try:
        with g_pathmgr.open(path, "rb") as file:
            raw = file.read(MAX_CHARACTERS + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        wanted = f", the {BASE_KEY} of {above[-1]}," if above else ""
        reason = error.strerror or error
        raise ConfigError(f"the config file{wanted} cannot be read: {reason}. Received: {path}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"config must be a text file in UTF-8: {error}. Received: {path}") from error
    if len(raw) > MAX_CHARACTERS:
        raise ConfigError(f"a config file must not be larger than {MAX_CHARACTERS} bytes. Received: {path}")
    content = parse_yaml(text, name=path)
    if content is None:  # comments only
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} must contain `KEY: value` lines. Received: {type(content).__name__} {shown(content)}"
        )
    return content


def _bases(given: Any, *, path: str) -> Iterator[str]:
    """Yield the paths of the bases of a file."""
    bases = [given] if isinstance(given, str) else given
    if not (isinstance(bases, list) and all(isinstance(base, str) for base in bases)):
        raise ConfigError(
            f"{BASE_KEY} must be a path or a list of paths, in {path}. Received: {BASE_KEY}={shown(given)}"
        )
    for base in bases:
        expanded = expand_path(base, key=f"{BASE_KEY} in {path}")
        if expanded.startswith(SHIPPED_SCHEME):
            yield str(resolve_shipped(expanded))
        else:
            yield expanded if "://" in expanded else os.path.join(os.path.dirname(path), expanded)
