"""Partial loading of weights: `MODEL.ALLOW_MISSING_KEYS` and `MODEL.ALLOW_UNEXPECTED_KEYS`.

An entry names one or several consecutive components of a key at any position, such as "gate" or
"sem_seg_head.predictor". All other keys must match exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dl_lib.checkpoint.matching import Mismatch, Shapes, format_keys, format_shapes
from dl_lib.config import CfgNode

__all__ = ["AllowedMismatch", "allowed_keys", "describe_allowed_mismatch", "split_mismatch"]


@dataclass(frozen=True)
class AllowedMismatch:
    """Mismatch that the configuration permits, grouped by the entry that permits it.

    Attributes:
        missing: Entry of `ALLOW_MISSING_KEYS` -> keys of the model that the file does not have.
        shapes: Entry of `ALLOW_MISSING_KEYS` -> keys of different shape in the file.
        unexpected: Entry of `ALLOW_UNEXPECTED_KEYS` -> keys of the file, under its own names, that the model does not
            have.
    """

    missing: Mapping[str, tuple[str, ...]]
    shapes: Mapping[str, Shapes]
    unexpected: Mapping[str, tuple[str, ...]]


def allowed_keys(cfg: CfgNode) -> dict[str, Sequence[str]]:
    """Return the arguments of `Checkpointer.load` and `resume_or_load` for the allowed keys of a config."""
    model = cfg.MODEL
    return {"allow_missing_keys": model.ALLOW_MISSING_KEYS, "allow_unexpected_keys": model.ALLOW_UNEXPECTED_KEYS}


def split_mismatch(
    mismatch: Mismatch,
    *,
    allow_missing_keys: Iterable[str],
    allow_unexpected_keys: Iterable[str],
    original_names: Mapping[str, str],
) -> tuple[Mismatch, AllowedMismatch]:
    """Split a mismatch into a forbidden and an allowed part; `original_names` maps translated keys to file keys."""
    names = original_names
    allowed = AllowedMismatch(
        missing=_by_component(mismatch.missing, components=allow_missing_keys),
        shapes={
            component: {key: mismatch.shapes[key] for key in keys}
            for component, keys in _by_component(mismatch.shapes, components=allow_missing_keys).items()
        },
        unexpected=_by_component(
            (*(names.get(key, key) for key in mismatch.unexpected), *mismatch.untranslated),
            components=allow_unexpected_keys,
        ),
    )
    in_model = {key for groups in (allowed.missing, allowed.shapes) for keys in groups.values() for key in keys}
    in_file = {key for keys in allowed.unexpected.values() for key in keys}
    forbidden = dataclasses.replace(
        mismatch,
        missing=tuple(key for key in mismatch.missing if key not in in_model),
        unexpected=tuple(key for key in mismatch.unexpected if names.get(key, key) not in in_file),
        shapes={key: shapes for key, shapes in mismatch.shapes.items() if key not in in_model},
        untranslated={key: reason for key, reason in mismatch.untranslated.items() if key not in in_file},
    )
    return forbidden, allowed


def describe_allowed_mismatch(
    allowed: AllowedMismatch, *, model_keys: Iterable[str], file_keys: Iterable[str]
) -> list[str]:
    """Return one log message per entry and kind of mismatch; `file_keys` are the keys before translation."""
    model_keys, file_keys = tuple(model_keys), tuple(file_keys)
    missing = (_count_and_keys(keys, component, model_keys) for component, keys in allowed.missing.items())
    shapes = (
        f"{_count(shapes, component, model_keys)}\n{format_shapes(shapes)}"
        for component, shapes in allowed.shapes.items()
    )
    unexpected = (_count_and_keys(keys, component, file_keys) for component, keys in allowed.unexpected.items())
    return [
        *(f"Missing keys keep their initialization: {text}" for text in missing),
        *(f"Keys with size mismatch keep their initialization: {text}" for text in shapes),
        *(f"Unexpected keys are ignored: {text}" for text in unexpected),
    ]


def _by_component(keys: Iterable[str], *, components: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Group keys by the component that they contain; components without keys are omitted."""
    keys = tuple(keys)
    groups = {component: tuple(key for key in keys if f".{component}." in f".{key}.") for component in components}
    return {component: found for component, found in groups.items() if found}


def _count_and_keys(keys: Collection[str], component: str, all_keys: Iterable[str]) -> str:
    """Return the number of a component's keys that are given, followed by these keys unless all are given."""
    count = _count(keys, component, all_keys)
    return count if count.startswith("all") else f"{count}\n{format_keys(keys)}"


def _count(keys: Collection[str], component: str, all_keys: Iterable[str]) -> str:
    total = len(_by_component(all_keys, components=[component])[component])
    return (
        f"all {total} keys of {component!r}" if len(keys) == total else f"{len(keys)} of {total} keys of {component!r}"
    )
