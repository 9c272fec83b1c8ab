"""Default configuration, built from the declarations of the keys."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dl_lib.config.config_node import CfgNode
from dl_lib.config.declarations import KEYS
from dl_lib.config.errors import REMOVED_KEYS, RENAMED_KEYS, ConfigError, numbered
from dl_lib.config.key import ConfigKey
from dl_lib.utils.files import write_atomically
from dl_lib.utils.run_files import CONFIG_NAME

__all__ = ["DEFAULTS", "add_keys", "get_cfg", "write_config"]


_NAME = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z][A-Z0-9_]*)*")
_TYPES = (bool, int, float, str, list)


def add_keys(*keys: ConfigKey) -> None:
    """Declare the config keys of an experiment, for example in its net.py; they then behave like all others.

    Must be called before `get_cfg`. A second, equal declaration of a key changes nothing.

    Args:
        keys: Declarations, made by `dl_lib.config.key.key`.

    Raises:
        ConfigError: If a name is malformed or taken, or a default has a type that config files cannot represent; no
            key is added then.
    """
    new = {key.name: key for key in keys if KEYS.get(key.name) != key}
    problems = [problem for key in new.values() for problem in _declaration_problems(key, {**KEYS, **new})]
    if problems:
        raise ConfigError(numbered("config keys cannot be added", problems))
    KEYS.update(new)
    for key in new.values():
        _insert(DEFAULTS, key)


def get_cfg() -> CfgNode:
    """Return a new copy of the defaults, to merge files and overrides into."""
    return DEFAULTS.clone()


def write_config(cfg: CfgNode, output_dir: str | os.PathLike[str]) -> Path:
    """Write all keys to `config.yaml` in the run folder, so that the run can be repeated; return its path."""
    path = Path(output_dir) / CONFIG_NAME
    write_atomically(path, cfg.dump())
    return path


def _declaration_problems(key: ConfigKey, known: Mapping[str, ConfigKey]) -> Iterator[str]:
    received = f"Received: {key.name}={key.default!r}"
    if not _NAME.fullmatch(key.name):
        yield f"the name of a config key must be upper case, such as MODEL.MY_HEAD.WIDTH. {received}"
    elif key.name in KEYS or key.name in RENAMED_KEYS or key.name in REMOVED_KEYS:
        yield f"{key.name} is the name of another config key; choose a different one. {received}"
    else:
        sections = [name for name in known if key.name.startswith(f"{name}.") or name.startswith(f"{key.name}.")]
        if sections:
            yield f"{key.name} must not contain a key, or be part of one: {', '.join(sections)}. {received}"
    if type(key.default) not in _TYPES:
        yield f"the default of {key.name} must be a bool, int, float, str or list. {received}"


def _build_tree(keys: Mapping[str, ConfigKey]) -> CfgNode:
    tree = CfgNode()
    for key in keys.values():
        _insert(tree, key)
    for old, new in RENAMED_KEYS.items():
        tree.register_renamed_key(old, new)
    for removed in REMOVED_KEYS:
        tree.register_deprecated_key(removed)
    return tree


def _insert(tree: CfgNode, key: ConfigKey) -> None:
    node = tree
    for section in key.section.split(".") if key.section else ():
        node = node.setdefault(section, CfgNode())
    node[key.name.rpartition(".")[2]] = copy.copy(key.default)


DEFAULTS = _build_tree(KEYS)
