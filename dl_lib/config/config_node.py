"""Configuration tree: fvcore's `CfgNode` with safe, strict and atomic merging.

Differences from fvcore and yacs: YAML is always loaded safely; a merge lists all problems and changes nothing if there
are any; the error for an unknown key names similar ones; an int is accepted for a float and a tuple for a list; text
for a key of type str is taken literally.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as _FvcoreNode

from dl_lib.config.elements import list_key_of, with_element
from dl_lib.config.errors import ConfigError, numbered, renamed_key, renamed_value, unknown_key
from dl_lib.config.layers import ConfigLayer, read_layers
from dl_lib.config.overrides import parse_overrides
from dl_lib.config.paths import config_folder
from dl_lib.config.values import escape_value, expand_value, fit_value

__all__ = ["CfgNode"]

_MAX_PROBLEMS = 100


class CfgNode(_FvcoreNode):
    """Section of the configuration: keys are attributes, sections nest, `freeze()` makes it read-only."""

    def merge_from_file(self, cfg_filename: str | Path, allow_unsafe: bool = False) -> None:
        """Merge a YAML file and its bases, see `read_layers`.

        Raises:
            ConfigError: If a file cannot be read, or contains unknown keys or values of the wrong type.
        """
        if allow_unsafe:
            raise ConfigError("allow_unsafe must be False: configs are never executed. Received: allow_unsafe=True")
        self.merge_from_layers(read_layers(cfg_filename))

    def merge_from_layers(self, layers: Sequence[ConfigLayer]) -> None:
        """Merge config files in the given order; raises ConfigError like `merge_from_file`."""
        fitted, problems, values = [], [], self.flat()
        for layer in layers:
            with config_folder(layer.folder):
                try:
                    fitted += self._fit_all(list(_given(layer.values, self, ())), source=layer.path, values=values)
                except ConfigError as error:
                    problems.append(str(error))
        if problems:
            raise ConfigError("\n".join(dict.fromkeys(problems)))
        self._assign(fitted)

    def merge_from_other_cfg(self, cfg_other: Mapping[str, Any]) -> None:
        """Merge another tree or nested dicts; raises ConfigError like `merge_from_file`."""
        self._assign(self._fit_all(list(_given(cfg_other, self, ())), source="the other config"))

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Merge overrides, each `KEY, VALUE` or `KEY=VALUE`.

        Raises:
            ConfigError: If an override has no value, an unknown key or a value of the wrong type.
        """
        self._assign(self._fit_all(parse_overrides(cfg_list), source="the overrides"))

    def dump(self, **kwargs: Any) -> str:
        """Return YAML that `merge_from_file` reads back to equal values; `kwargs` are those of `yaml.safe_dump`."""
        escaped = self.with_values({key: escape_value(value, key=key) for key, value in self.flat().items()})
        return super(CfgNode, escaped).dump(allow_unicode=True, **kwargs)

    def with_values(self, values: Mapping[str, Any]) -> CfgNode:
        """Return a frozen copy with other values, by full key, of the types of the keys; paths are not expanded."""
        assert values.keys() <= self.flat().keys()
        copy: CfgNode = self.clone()
        copy._assign(values.items())
        copy.freeze()
        return copy

    def flat(self) -> dict[str, Any]:
        """Return all values by full key, such as `SOLVER.OPTIMIZER.BASE_LR`."""
        return dict(leaves(self))

    def _fit_all(
        self, pairs: Sequence[tuple[str, Any]], *, source: str, values: dict[str, Any] | None = None
    ) -> list[tuple[str, Any]]:
        """Return keys with values of their types and expanded paths; raise ConfigError listing all problems.

        `values` are those of all keys so far, by default those of this tree; the fitted values are added to them.
        """
        if self.is_frozen():
            raise ConfigError(f"a frozen config cannot be changed; clone() and defrost() it. Received: {source}")
        values = self.flat() if values is None else values
        problems: list[str] = []
        fitted: list[tuple[str, Any]] = []
        for key, value in pairs:
            if len(problems) > _MAX_PROBLEMS:  # the search for similar names takes time
                break
            list_key = None if key in values else list_key_of(key, values)
            if key in values or list_key is not None:
                try:
                    fitted.append(_fitted(key, value, list_key=list_key, values=values))
                    values.update(fitted[-1:])
                except ConfigError as error:
                    problems.append(str(error))
                if problem := renamed_value(key, value):
                    problems.append(problem)
            elif self.key_is_renamed(key):
                problems.append(renamed_key(key, value))
            elif not self.key_is_deprecated(key):  # yacs logs a warning
                problems.append(unknown_key(key, value, values))
        if problems:
            raise ConfigError(numbered(f"{source} cannot be merged", problems))
        return fitted

    def _assign(self, fitted: Iterable[tuple[str, Any]]) -> None:
        for key, value in fitted:
            section, _, name = key.rpartition(".")
            self._section(section)[name] = value

    def _section(self, path: str) -> CfgNode:
        node = self
        for name in path.split(".") if path else ():
            node = node[name]
        return node


def _fitted(key: str, value: Any, *, list_key: str | None, values: Mapping[str, Any]) -> tuple[str, Any]:
    """Return a key and its value; for an element of the list `list_key`, that key and the whole list."""
    if list_key is not None:
        elements = escape_value(values[list_key], key=list_key)  # expanded again below
        key, value = list_key, with_element(elements, value, key=key, list_key=list_key)
    return key, expand_value(fit_value(value, values[key], key=key), key=key)


def leaves(node: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield all values of nested mappings by full key; `path` are the keys of the mappings around."""
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, str(name)))
        else:
            yield ".".join((*path, str(name))), value


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
