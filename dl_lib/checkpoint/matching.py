"""What a file's weights and a model's have in common, and an error that lists what they have not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from dl_lib.checkpoint.files import CheckpointError

__all__ = ["CheckpointMismatchError", "Mismatch", "describe_share", "find_mismatch", "keys_by_part"]

BATCH_COUNTER = "num_batches_tracked"
MAX_LINES = 20  # of one side in an error's text; the error's `mismatch` has all of them


@dataclass(frozen=True)
class Mismatch:
    """What is left over on both sides; falsy if nothing is.

    Attributes:
        missing: keys that only the model has.
        unexpected: keys that only the file has, by the model's names.
        shapes: key -> (shape in the file, shape in the model).
        untranslated: the file's own keys that have no name in the model -> why.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    untranslated: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes or self.untranslated)


class CheckpointMismatchError(CheckpointError):
    """A checkpoint's weights and the model's differ by name or shape; `mismatch` holds all differences."""

    def __init__(self, mismatch: Mismatch, *, path: str, original_names: Mapping[str, str] | None = None) -> None:
        self.mismatch = mismatch
        names = original_names or {}
        only_in_file = _grouped(names.get(key, key) for key in mismatch.unexpected)
        untranslated = [f"{key}  ({why})" for key, why in mismatch.untranslated.items()]
        shapes = [f"{key}: {file} in the file, {model} in the model" for key, (file, model) in mismatch.shapes.items()]
        sections = (
            ("only in the file", len(mismatch.unexpected), only_in_file),
            ("only in the file, and without a name in the model", len(untranslated), untranslated),
            ("only in the model", len(mismatch.missing), _grouped(mismatch.missing)),
            ("of another shape", len(shapes), shapes),
        )
        text = "the checkpoint does not fit the model; nothing was loaded.\n"
        text += "".join(f"  Hint: {hint}\n" for hint in _hints(mismatch))
        text += "".join(_section(title, count, lines) for title, count, lines in sections if count)
        super().__init__(f"{text}Received: path={path!r}")


def find_mismatch(file: Mapping[str, Tensor], *, model: Mapping[str, Tensor]) -> Mismatch:
    """Compares two state dicts by names and shapes.

    A batch norm's counter of batches may be absent on one side, as it is with frozen norms and old files: nothing is
    computed from it, as momentum is fixed.
    """
    missing = (key for key in model if key not in file and not _is_spare_counter(key, model, file))
    unexpected = (key for key in file if key not in model and not _is_spare_counter(key, model, file))
    shapes = {key: (tuple(file[key].shape), tuple(model[key].shape)) for key in file if key in model}
    return Mismatch(
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        shapes={key: (ours, theirs) for key, (ours, theirs) in shapes.items() if ours != theirs},
    )


def keys_by_part(keys: Iterable[str], *, parts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The keys of each part that has any.

    Args:
        keys: dotted, of a state dict.
        parts: components of keys, as "gate" or "sem_seg_head", at any place in them; several joined by dots if need be.
    """
    keys = tuple(keys)
    by_part = {part: tuple(key for key in keys if f".{part}." in f".{key}.") for part in parts}
    return {part: found for part, found in by_part.items() if found}


def describe_share(keys: Sequence[str], *, part: str, model: Iterable[str]) -> str:
    """How many of the model's keys of a part these are, and which if not all."""
    whole = len(keys_by_part(model, parts=[part])[part])
    if len(keys) == whole:
        return f"all {whole} keys of {part!r}"
    return f"{len(keys)} of {whole} keys of {part!r}\n" + _section("these are", len(keys), _grouped(keys)).rstrip()


def _is_spare_counter(key: str, *sides: Mapping[str, Tensor]) -> bool:
    module, _, name = key.rpartition(".")
    return name == BATCH_COUNTER and all(f"{module}.running_var" in side for side in sides)


def _hints(mismatch: Mismatch) -> Iterable[str]:
    more, fewer = _whole_cells(mismatch.unexpected), _whole_cells(mismatch.missing)
    if more or fewer:
        sides = (f"{len(cells)} only in the {side}" for side, cells in (("file", more), ("model", fewer)) if cells)
        yield f"different cells, {', '.join(sides)}: MODEL.BACKBONE.LAYER_NUM and CELL_NUM_LIST"
    in_file, in_model = _has_gates(mismatch.unexpected, outside=more), _has_gates(mismatch.missing, outside=fewer)
    if in_model and not in_file:
        yield (
            "the file has no gates, the model has: MODEL.GATE.GATE_ON is False for such a file, "
            "or MODEL.WEIGHTS_MAY_LACK=[gate] lets them start from the initialisation"
        )
    if in_file and not in_model:
        yield "the file has gates, the model has none: MODEL.GATE.GATE_ON is True for such a file"
    classes = mismatch.shapes.get("sem_seg_head.predictor.bias")
    if classes:
        yield f"the file predicts {classes[0][0]} classes, the model {classes[1][0]}: MODEL.SEM_SEG_HEAD.NUM_CLASSES"


def _whole_cells(keys: Iterable[str]) -> set[str]:
    """Names of the cells of which even the operation is on one side only."""
    return {key.split(".")[2] for key in keys if key.startswith("backbone.cells.") and ".operation." in key}


def _has_gates(keys: Iterable[str], *, outside: set[str]) -> bool:
    """Whether a gate stands on one side only in a cell that both sides have."""
    return any(".gate." in key and key.split(".")[2] not in outside for key in keys)


def _grouped(keys: Iterable[str]) -> list[str]:
    """One line for each module: `stem.conv1.norm.{bias, weight}`."""
    leaves: dict[str, list[str]] = {}
    for key in keys:
        module, _, leaf = key.rpartition(".")
        leaves.setdefault(module, []).append(leaf)
    return [
        ".".join(filter(None, (module, names[0] if len(names) == 1 else f"{{{', '.join(sorted(names))}}}")))
        for module, names in leaves.items()
    ]


def _section(title: str, count: int, lines: list[str]) -> str:
    shown = [*lines[:MAX_LINES], *([f"... and {len(lines) - MAX_LINES} lines more"] if len(lines) > MAX_LINES else [])]
    return f"  {title} ({count}):\n" + "".join(f"    {line}\n" for line in shown)
