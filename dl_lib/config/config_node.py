"""The configuration tree: fvcore's node with stricter merging and messages that say what to do.

What differs from fvcore and yacs: YAML is loaded safely, always; a merge is all or nothing and lists everything that is
wrong at once; an unknown key is answered with the nearest known ones; an int passes for a float, a tuple for a list,
and text where text is expected is taken as it stands.
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

from dl_lib.config.errors import ConfigError, numbered, unknown_key
from dl_lib.config.overrides import parse_overrides
from dl_lib.config.shipped import SHIPPED_SCHEME, resolve_shipped
from dl_lib.config.values import fit_value

__all__ = ["CfgNode"]


class CfgNode(_FvcoreNode):
    """A section of the configuration; keys are attributes, sections nest, `freeze()` makes it read-only."""

    @classmethod
    def load_yaml_with_base(cls, filename: str | Path, allow_unsafe: bool = False) -> dict[str, Any]:
        """Read a YAML file over the files that its `_BASE_` names, paths being relative to the file itself.

        Args:
            filename: path of the file, local or of any kind that iopath's path manager knows.
            allow_unsafe: only False is accepted; the argument exists because fvcore has it.

        Raises:
            ConfigError: if a file is missing, is not YAML of plain values, or is its own base.
        """
        if allow_unsafe:
            raise ConfigError("a configuration is data and is never executed. Received: allow_unsafe=True")
        filename = str(filename)
        try:
            return dict(super().load_yaml_with_base(filename))
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"cannot read the configuration file: {reason}. Received: {filename}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{filename} is not YAML of plain values (safe tags only): {error}") from error
        except RecursionError:
            raise ConfigError(f"a configuration cannot be its own base. Received: {BASE_KEY} in {filename}") from None
        except AssertionError as error:  # fvcore's way to say it
            raise ConfigError(
                f"a section and a plain value cannot stand for the same key, in {filename} and its base: {error}"
            ) from None

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        """What fvcore reads of a file: the same, checked, and with empty sections as such: None would undo a base."""
        return io.StringIO(yaml.safe_dump(_without_none(_read_yaml(filename)), sort_keys=False))

    def merge_from_file(self, cfg_filename: str | Path, allow_unsafe: bool = False) -> None:
        """Merge a YAML file and its bases into this tree.

        Raises:
            ConfigError: if the file cannot be read, or holds keys or values that this tree has no place for.
        """
        self._merge(self.load_yaml_with_base(cfg_filename, allow_unsafe), source=str(cfg_filename))

    def merge_from_other_cfg(self, cfg_other: Mapping[str, Any]) -> None:
        """Merge another tree (or plain nested dicts) into this one; raises ConfigError like `merge_from_file`."""
        self._merge(cfg_other, source="the configuration merged in")

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Merge overrides, each as `KEY, VALUE` or as `KEY=VALUE`, in any mixture.

        Values that are text are read as Python literals or else as YAML; nothing is executed.

        Raises:
            ConfigError: if an override is incomplete, its key is unknown or its value of the wrong type.
        """
        self._set_all(parse_overrides(cfg_list), source="the overrides")

    def flat(self) -> dict[str, Any]:
        """All values by their full key, such as `SOLVER.OPTIMIZER.BASE_LR`."""
        return dict(_leaves(self, ()))

    def _merge(self, other: Mapping[str, Any], *, source: str) -> None:
        self._set_all(list(_given(other, self, ())), source=source)

    def _set_all(self, pairs: Sequence[tuple[str, Any]], *, source: str) -> None:
        if self.is_frozen():
            raise ConfigError(f"a frozen configuration cannot be changed; clone() and defrost() it. Received: {source}")
        known = self.flat()
        problems: list[str] = []
        fitted: list[tuple[str, Any]] = []
        for key, value in pairs:
            if key in known:
                try:
                    fitted.append((key, fit_value(value, known[key], key=key)))
                except ConfigError as error:
                    problems.append(str(error))
            elif not self.key_is_deprecated(key):  # yacs logs the warning
                problems.append(unknown_key(key, value, known))
        if problems:
            raise ConfigError(numbered(f"cannot merge {source}", problems))
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
    node: Mapping[str, Any], place: Mapping[str, Any] | None, path: tuple[str, ...]
) -> Iterator[tuple[str, Any]]:
    """The leaves of what a file gives; a mapping given where `place` holds a plain value stays one value."""
    for name, value in node.items():
        here = place.get(name) if place is not None else None
        below = (*path, str(name))
        plain_expected = place is not None and name in place and not isinstance(here, Mapping)
        if isinstance(value, Mapping) and value and not plain_expected:
            yield from _given(value, here, below)
        elif not (isinstance(here, Mapping) and (value is None or value == {})):  # an empty section changes nothing
            yield ".".join(below), value


def _read_yaml(filename: str) -> dict[str, Any]:
    with g_pathmgr.open(filename, "r") as file:
        loaded = yaml.safe_load(file)
    if loaded is None:  # nothing but comments
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{filename} must hold `KEY: value` lines. Received: {type(loaded).__name__} {loaded!r:.80}")
    bases = loaded.get(BASE_KEY, [])
    if not (isinstance(bases, str) or (isinstance(bases, list) and all(isinstance(base, str) for base in bases))):
        raise ConfigError(
            f"{BASE_KEY} must be a path or a list of paths, in {filename}. Received: {BASE_KEY}={bases!r}"
        )
    if BASE_KEY in loaded:
        loaded[BASE_KEY] = _base_path(bases) if isinstance(bases, str) else [_base_path(base) for base in bases]
    return loaded


def _base_path(base: str) -> str:
    return str(resolve_shipped(base)) if base.startswith(SHIPPED_SCHEME) else base


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: {} if below is None else _without_none(below) for name, below in value.items()}
    return value
