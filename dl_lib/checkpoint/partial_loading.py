"""What may be left out when weights are loaded: parts that the file may lack, and parts that it may hold beside.

A part is named by components of keys, as "gate" or "sem_seg_head", at any place in them; several joined by dots if need
be. What is not named has to fit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dl_lib.checkpoint.listing import Shapes, listed_keys, listed_shapes
from dl_lib.checkpoint.matching import Mismatch

__all__ = ["AllowedMismatch", "describe_allowed_mismatch", "split_mismatch"]


@dataclass(frozen=True)
class AllowedMismatch:
    """What is not taken over, and need not be.

    Attributes:
        missing: keys of the model that the file has not, by the part that may lack.
        shapes: keys that have another shape in the file, by the part that may lack.
        spare: the file's own keys that the model has no place for, by the part that the file may hold beside.
    """

    missing: Mapping[str, tuple[str, ...]]
    shapes: Mapping[str, Shapes]
    spare: Mapping[str, tuple[str, ...]]


def split_mismatch(
    mismatch: Mismatch,
    *,
    allow_missing_keys: Iterable[str],
    allow_unexpected_keys: Iterable[str],
    original_names: Mapping[str, str],
) -> tuple[Mismatch, AllowedMismatch]:
    """Divides what does not fit into what stays wrong and what is left out.

    Args:
        mismatch: all that does not fit.
        allow_missing_keys: parts of the model that need not come from the file: it has them not, or in another shape.
        allow_unexpected_keys: parts of the file, by its own names, that the model need not have a place for.
        original_names: the file's own names of keys that were translated.
    """
    names = original_names
    left = AllowedMismatch(
        missing=_by_part(mismatch.missing, parts=allow_missing_keys),
        shapes={
            part: {key: mismatch.shapes[key] for key in keys}
            for part, keys in _by_part(mismatch.shapes, parts=allow_missing_keys).items()
        },
        spare=_by_part(
            (*(names.get(key, key) for key in mismatch.unexpected), *mismatch.untranslated), parts=allow_unexpected_keys
        ),
    )
    model_side = {key for by_part in (left.missing, left.shapes) for keys in by_part.values() for key in keys}
    file_side = {key for keys in left.spare.values() for key in keys}
    wrong = dataclasses.replace(
        mismatch,
        missing=tuple(key for key in mismatch.missing if key not in model_side),
        unexpected=tuple(key for key in mismatch.unexpected if names.get(key, key) not in file_side),
        shapes={key: shapes for key, shapes in mismatch.shapes.items() if key not in model_side},
        untranslated={key: why for key, why in mismatch.untranslated.items() if key not in file_side},
    )
    return wrong, left


def describe_allowed_mismatch(
    left: AllowedMismatch, *, model_keys: Iterable[str], file_keys: Iterable[str]
) -> list[str]:
    """Texts for the log, one for each part and reason.

    Args:
        left: what was left out.
        model_keys: all of the model.
        file_keys: all of the file, by its own names.
    """
    model_keys, file_keys = tuple(model_keys), tuple(file_keys)
    stay = "so they keep their initialisation"
    return [
        *(f"not in the file, {stay}: {_share(keys, part, model_keys)}" for part, keys in left.missing.items()),
        *(
            f"of another shape in the file, {stay}: {_count(shapes, part, model_keys)}\n{listed_shapes(shapes)}"
            for part, shapes in left.shapes.items()
        ),
        *(
            f"without a place in the model, so they are left out: {_share(keys, part, file_keys)}"
            for part, keys in left.spare.items()
        ),
    ]


def _by_part(keys: Iterable[str], *, parts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The keys of each part that has any."""
    keys = tuple(keys)
    by_part = {part: tuple(key for key in keys if f".{part}." in f".{key}.") for part in parts}
    return {part: found for part, found in by_part.items() if found}


def _share(keys: Collection[str], part: str, side: Iterable[str]) -> str:
    """How many of a part's keys on one side these are, and which if not all."""
    count = _count(keys, part, side)
    return count if count.startswith("all") else f"{count}\n{listed_keys(keys)}"


def _count(keys: Collection[str], part: str, side: Iterable[str]) -> str:
    whole = len(_by_part(side, parts=[part])[part])
    return f"all {whole} keys of {part!r}" if len(keys) == whole else f"{len(keys)} of {whole} keys of {part!r}"
