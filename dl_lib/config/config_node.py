"""The configuration tree: fvcore's node with stricter merging and messages that say what to do.

What differs from fvcore and yacs: YAML is loaded safely, always; a merge is all or nothing and lists everything that is
wrong at once; an unknown key is answered with the nearest known ones; an int passes for a float, a tuple for a list,
and text where text is expected is taken as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import BASE_KEY
from fvcore.common.config import CfgNode as _FvcoreNode
from iopath.common.file_io import g_pathmgr

from dl_lib.config.errors import ConfigError, nearest_keys, numbered
from dl_lib.config.overrides import parse_overrides
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
        return _load_over_bases(str(filename), ())

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
                problems.append(self._unknown(key, value, known))
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

    def _unknown(self, key: str, value: Any, known: Mapping[str, Any]) -> str:
        inside = [name for name in known if name.startswith(key + ".")]
        if inside:
            return f"{key} is a section, set its keys one by one: {', '.join(inside)}. Received: {key}={value!r}"
        near = nearest_keys(key, known)
        hint = f"Nearest known: {', '.join(near)}" if near else f"Known sections: {', '.join(self)}"
        return f"unknown key {key}. {hint}. Received: {key}={value!r}"


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


def _load_over_bases(filename: str, below: tuple[str, ...]) -> dict[str, Any]:
    identity = str(Path(filename).expanduser().resolve()) if "://" not in filename else filename
    if identity in below:
        raise ConfigError(f"a configuration cannot be its own base. Received: {BASE_KEY}={' -> '.join(below)}")
    loaded = _load_yaml(filename)
    bases = loaded.pop(BASE_KEY, [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        _lay_over(_load_over_bases(_beside(filename, base), (*below, identity)), merged, filename=filename)
    _lay_over(loaded, merged, filename=filename)
    return merged


def _load_yaml(filename: str) -> dict[str, Any]:
    try:
        with g_pathmgr.open(filename, "r") as file:
            loaded = yaml.safe_load(file)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"cannot read the configuration file: {reason}. Received: {filename}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{filename} is not YAML of plain values (safe tags only): {error}") from error
    if loaded is None:  # nothing but comments: the defaults as they are
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{filename} must hold `KEY: value` lines. Received: {type(loaded).__name__} {loaded!r:.80}")
    bases = loaded.get(BASE_KEY, [])
    if not (isinstance(bases, str) or (isinstance(bases, list) and all(isinstance(base, str) for base in bases))):
        raise ConfigError(
            f"{BASE_KEY} must be a path or a list of paths, in {filename}. Received: {BASE_KEY}={bases!r}"
        )
    return loaded


def _beside(filename: str, base: str) -> str:
    base = str(Path(base).expanduser()) if base.startswith("~") else base
    return base if "://" in base or Path(base).is_absolute() else str(Path(filename).parent / base)


def _lay_over(top: Mapping[str, Any], under: dict[str, Any], *, filename: str) -> None:
    """Merge `top` into `under` in place; sections are merged, values replaced."""
    for name, value in top.items():
        if isinstance(value, dict) and isinstance(under.get(name), dict):
            _lay_over(value, under[name], filename=filename)
        elif isinstance(under.get(name), dict) and value is None:
            continue  # a section header with nothing under it
        elif name in under and isinstance(value, dict) != isinstance(under[name], dict):
            raise ConfigError(
                f"a section and a plain value cannot stand for the same key, in {filename} and its base. "
                f"Received: {name}={value!r} over {under[name]!r}"
            )
        else:
            under[name] = value
