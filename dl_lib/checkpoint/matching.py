"""Where a file's weights and a model's differ, and an error that lists it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from torch import Tensor

from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.checkpoint.listing import Shapes, listed, listed_keys, listed_shapes

__all__ = ["CheckpointMismatchError", "Mismatch", "find_mismatch"]

BATCH_COUNTER = "num_batches_tracked"

_SUGGESTED_PARTS = 12


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
    shapes: Shapes = field(default_factory=dict)
    untranslated: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes or self.untranslated)


class CheckpointMismatchError(CheckpointError):
    """A checkpoint's weights and the model's differ by name or shape.

    Args:
        mismatch: all differences; the text holds the first of each kind.
        path: of the file.
        original_names: the file's own names of keys that were translated.
        model_keys: all of the model's, where some may be lacking.
        file_keys: all of the file's own, where some may be left out.
    """

    def __init__(
        self,
        mismatch: Mismatch,
        *,
        path: str,
        original_names: Mapping[str, str] | None = None,
        model_keys: Iterable[str] = (),
        file_keys: Iterable[str] = (),
    ) -> None:
        self.mismatch = mismatch
        names = original_names or {}
        only_in_file = [names.get(key, key) for key in mismatch.unexpected]
        untranslated = [f"{key}  ({why})" for key, why in mismatch.untranslated.items()]
        sections = (
            ("only in the file", len(only_in_file), listed_keys(only_in_file)),
            ("only in the file, and without a name in the model", len(untranslated), listed(untranslated)),
            ("only in the model", len(mismatch.missing), listed_keys(mismatch.missing)),
            ("of another shape", len(mismatch.shapes), listed_shapes(mismatch.shapes)),
        )
        text = "the checkpoint does not fit the model; nothing was loaded.\n"
        spare = _suggestion([*only_in_file, *mismatch.untranslated], of=file_keys)
        hints = _hints(mismatch, spare=spare, new=_suggestion(mismatch.missing, of=model_keys))
        text += "".join(f"  Hint: {hint}\n" for hint in hints)
        text += "".join(f"  {title} ({count}):\n{lines}\n" for title, count, lines in sections if count)
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


def _is_spare_counter(key: str, *sides: Mapping[str, Tensor]) -> bool:
    module, _, name = key.rpartition(".")
    return name == BATCH_COUNTER and all(f"{module}.running_var" in side for side in sides)


def _hints(mismatch: Mismatch, *, spare: str, new: str) -> Iterable[str]:
    more, fewer = _whole_cells(mismatch.unexpected), _whole_cells(mismatch.missing)
    if more or fewer:
        sides = (f"{len(cells)} only in the {side}" for side, cells in (("file", more), ("model", fewer)) if cells)
        yield f"different cells, {', '.join(sides)}: MODEL.BACKBONE.LAYER_NUM and CELL_NUM_LIST"
    in_file, in_model = _has_gates(mismatch.unexpected, outside=more), _has_gates(mismatch.missing, outside=fewer)
    if in_model and not in_file:
        yield (
            "the file has no gates, the model has: MODEL.GATE.GATE_ON is False for such a file, "
            "or MODEL.ALLOW_MISSING_KEYS=[gate] lets them start from the initialisation"
        )
    if in_file and not in_model:
        yield "the file has gates, the model has none: MODEL.GATE.GATE_ON is True for such a file"
    classes = mismatch.shapes.get("sem_seg_head.predictor.bias")
    if classes:
        yield (
            f"the file predicts {classes[0][0]} classes, the model {classes[1][0]}: MODEL.SEM_SEG_HEAD.NUM_CLASSES, "
            "or MODEL.ALLOW_MISSING_KEYS=[predictor] lets the predictor start from the initialisation"
        )
    if spare and not more and not in_file:
        yield f"what only the file has is left out where MODEL.ALLOW_UNEXPECTED_KEYS names it, such as {spare}"
    if new and not fewer and not in_model:
        yield f"what only the model has keeps its initialisation where MODEL.ALLOW_MISSING_KEYS names it, such as {new}"


def _suggestion(keys: Sequence[str], *, of: Iterable[str]) -> str:
    """Names of the largest modules that have no other keys than these; of nothing, if there are no others at all.

    A name is the end of a path, from its last component on that is more than a number.
    """
    others = {path for key in set(of).difference(keys) for path in _paths(key)}
    if not others:
        return ""
    names = dict.fromkeys(_name(next(path for path in _paths(key) if path not in others)) for key in keys)
    more = ["…"] if len(names) > _SUGGESTED_PARTS else []
    return f"[{', '.join([*names][:_SUGGESTED_PARTS] + more)}]" if names else ""


def _name(path: str) -> str:
    parts = path.split(".")
    words = [position for position, part in enumerate(parts) if not part.isdigit()]
    return ".".join(parts[words[-1] if words else 0 :])


def _paths(key: str) -> Iterable[str]:
    """Of the modules that a key is in, the outermost first, and of itself."""
    return accumulate(key.split("."), "{}.{}".format)


def _whole_cells(keys: Iterable[str]) -> set[str]:
    """Names of the cells of which even the operation is on one side only."""
    return {key.split(".")[2] for key in keys if key.startswith("backbone.cells.") and ".operation." in key}


def _has_gates(keys: Iterable[str], *, outside: set[str]) -> bool:
    """Whether a gate stands on one side only in a cell that both sides have."""
    return any(".gate." in key and key.split(".")[2] not in outside for key in keys)
