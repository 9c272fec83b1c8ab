"""Configuration tree: fvcore's `CfgNode` with safe, strict and atomic merging.

Differences from fvcore and yacs: YAML is always loaded safely; a merge lists all problems and changes nothing if there
are any; the error for an unknown key names similar ones; an int is accepted for a float and a tuple for a list; text
for a key of type str is taken literally.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import yaml
from fvcore.common.config import BASE_KEY
from fvcore.common.config import CfgNode as _FvcoreNode
from iopath.common.file_io import g_pathmgr

from dl_lib.config.errors import ConfigError, numbered, renamed_key, renamed_value, unknown_key
from dl_lib.config.overrides import parse_overrides
from dl_lib.config.shipped import SHIPPED_SCHEME, resolve_shipped
from dl_lib.config.values import fit_value

__all__ = ["CfgNode"]


class CfgNode(_FvcoreNode):
    """Section of the configuration: keys are attributes, sections nest, `freeze()` makes it read-only."""

    @classmethod
    def load_yaml_with_base(cls, filename: str | Path, allow_unsafe: bool = False) -> dict[str, Any]:
        """Read a YAML file, at any path that iopath supports, and the files in its `_BASE_`, whose values it overrides.

        A base is a path relative to the file, an absolute path, or `dl_lib://` and the name of a shipped config.

        Raises:
            ConfigError: If a file is missing, is not safe YAML, or is its own base.
        """
        if allow_unsafe:
            raise ConfigError("allow_unsafe must be False: configs are never executed. Received: allow_unsafe=True")
        filename = str(filename)
        try:
            return dict(super().load_yaml_with_base(filename))
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"the config file cannot be read: {reason}. Received: {filename}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"config must be YAML without Python tags: {error}. Received: {filename}") from error
        except RecursionError:
            raise ConfigError(f"a config file must not be its own base. Received: {BASE_KEY} in {filename}") from None
        except AssertionError as error:  # raised by fvcore
            raise ConfigError(
                f"a key must be a section in both a config file and its base, or in neither: {error}. "
                f"Received: {filename}"
            ) from None

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        """Return the checked content of a file; empty sections become `{}`, as None would remove those of a base."""
        return io.StringIO(yaml.safe_dump(_without_none(_read_yaml(filename)), sort_keys=False))

    def merge_from_file(self, cfg_filename: str | Path, allow_unsafe: bool = False) -> None:
        """Merge a YAML file and its bases.

        Raises:
            ConfigError: If the file cannot be read, or contains unknown keys or values of the wrong type.
        """
        self._merge(self.load_yaml_with_base(cfg_filename, allow_unsafe), source=str(cfg_filename))

    def merge_from_other_cfg(self, cfg_other: Mapping[str, Any]) -> None:
        """Merge another tree or nested dicts; raises ConfigError like `merge_from_file`."""
        self._merge(cfg_other, source="the other config")

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Merge overrides, each `KEY, VALUE` or `KEY=VALUE`.

        Raises:
            ConfigError: If an override has no value, an unknown key or a value of the wrong type.
        """
        self._set_all(parse_overrides(cfg_list), source="the overrides")

    def flat(self) -> dict[str, Any]:
        """Return all values by full key, such as `SOLVER.OPTIMIZER.BASE_LR`."""
        return dict(_leaves(self, ()))

    def _merge(self, other: Mapping[str, Any], *, source: str) -> None:
        self._set_all(list(_given(other, self, ())), source=source)

    def _set_all(self, pairs: Sequence[tuple[str, Any]], *, source: str) -> None:
        if self.is_frozen():
            raise ConfigError(f"a frozen config cannot be changed; clone() and defrost() it. Received: {source}")
        known = self.flat()
        problems: list[str] = []
        fitted: list[tuple[str, Any]] = []
        for key, value in pairs:
            if key in known:
                try:
                    fitted.append((key, fit_value(value, known[key], key=key)))
                except ConfigError as error:
                    problems.append(str(error))
                if problem := renamed_value(key, value):
                    problems.append(problem)
            elif self.key_is_renamed(key):
                problems.append(renamed_key(key, value))
            elif not self.key_is_deprecated(key):  # yacs logs a warning
                problems.append(unknown_key(key, value, known))
        if problems:
            raise ConfigError(numbered(f"{source} cannot be merged", problems))
        for key, value in fitted:
            section, _, name = key.rpartition(".")
            self._section(section)[name] = value

    def _section(self, path: str) -> CfgNode:
        node = self
        for name in path.split(".") if path else ():
            node = node[name]
        return node


def _leaves(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield ".".join((*path, name)), value


def _given(
    node: Mapping[str, Any], target: Mapping[str, Any] | None, path: tuple[str, ...]
) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a file's content; a mapping counts as one leaf where `target` has a plain value."""
    for name, value in node.items():
        current = target.get(name) if target is not None else None
        below = (*path, str(name))
        plain_expected = target is not None and name in target and not isinstance(current, Mapping)
        if isinstance(value, Mapping) and value and not plain_expected:
            yield from _given(value, current, below)
        elif not (isinstance(current, Mapping) and (value is None or value == {})):  # an empty section changes nothing
            yield ".".join(below), value


def _read_yaml(filename: str) -> dict[str, Any]:
    with g_pathmgr.open(filename, "r") as file:
        loaded = yaml.safe_load(file)
    if loaded is None:  # comments only
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"{filename} must contain `KEY: value` lines. Received: {type(loaded).__name__} {loaded!r:.80}"
        )
    bases = loaded.get(BASE_KEY, [])
    if not (isinstance(bases, str) or (isinstance(bases, list) and all(isinstance(base, str) for base in bases))):
        raise ConfigError(
            f"{BASE_KEY} must be a path or a list of paths, in {filename}. Received: {BASE_KEY}={bases!r}"
        )
    if BASE_KEY in loaded:
        loaded[BASE_KEY] = _base_path(bases) if isinstance(bases, str) else [_base_path(base) for base in bases]
    return loaded


def _base_path(base: str) -> str:
    if "\0" in base:
        raise ConfigError(f"{BASE_KEY} must be a path without null characters. Received: {BASE_KEY}={base!r}")
    return str(resolve_shipped(base)) if base.startswith(SHIPPED_SCHEME) else base


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: {} if below is None else _without_none(below) for name, below in value.items()}
    return value
