"""Mismatches between the state dict of a checkpoint and that of a model, and their error message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from torch import Tensor

from dl_lib.checkpoint.errors import CheckpointError

__all__ = ["CheckpointMismatchError", "Mismatch", "Shapes", "find_mismatch", "format_keys", "format_shapes"]

BATCH_COUNTER = "num_batches_tracked"
MAX_LINES = 20  # per list in a message

_MAX_SUGGESTIONS = 12

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]  # key -> (shape in the file, shape in the model)


@dataclass(frozen=True)
class Mismatch:
    """Differences between two state dicts by key and shape; falsy if there are none.

    Attributes:
        missing: Keys that exist only in the model.
        unexpected: Keys that exist only in the file, under the model's names.
        shapes: Key -> (shape in the file, shape in the model).
        untranslated: Keys of the file, under its own names, without a counterpart in the model -> reason.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: Shapes = field(default_factory=dict)
    untranslated: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes or self.untranslated)


class CheckpointMismatchError(CheckpointError):
    """Missing keys, unexpected keys or size mismatches between a checkpoint and the model.

    Args:
        mismatch: All differences; the message shows the first ones of each kind.
        path: Checkpoint file.
        original_names: Translated key -> key in the file.
        model_keys: All keys of the model, for a suggestion of `MODEL.ALLOW_MISSING_KEYS`.
        file_keys: All keys of the file, for a suggestion of `MODEL.ALLOW_UNEXPECTED_KEYS`.
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
        unexpected = [names.get(key, key) for key in mismatch.unexpected]
        untranslated = [f"{key}  ({reason})" for key, reason in mismatch.untranslated.items()]
        sections = (
            ("Unexpected keys, only in the file", len(unexpected), format_keys(unexpected)),
            ("Unexpected keys without a counterpart in the model", len(untranslated), _format_lines(untranslated)),
            ("Missing keys, only in the model", len(mismatch.missing), format_keys(mismatch.missing)),
            ("Size mismatch", len(mismatch.shapes), format_shapes(mismatch.shapes)),
        )
        text = "the checkpoint does not match the model; nothing was loaded.\n"
        allow_unexpected = _suggestion([*unexpected, *mismatch.untranslated], of=file_keys)
        allow_missing = _suggestion(mismatch.missing, of=model_keys)
        hints = _hints(mismatch, allow_unexpected=allow_unexpected, allow_missing=allow_missing)
        text += "".join(f"  Hint: {hint}\n" for hint in hints)
        text += "".join(f"  {title} ({count}):\n{lines}\n" for title, count, lines in sections if count)
        super().__init__(f"{text}Received: path={path!r}")


def find_mismatch(file: Mapping[str, Tensor], *, model: Mapping[str, Tensor]) -> Mismatch:
    """Compare two state dicts by key and shape.

    `num_batches_tracked` of a batch norm may be absent on either side, as in frozen norms and old files: it has no
    effect with a fixed momentum.
    """
    missing = (key for key in model if key not in file and not _is_optional_counter(key, model, file))
    unexpected = (key for key in file if key not in model and not _is_optional_counter(key, model, file))
    shapes = {key: (tuple(file[key].shape), tuple(model[key].shape)) for key in file if key in model}
    return Mismatch(
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        shapes={key: (in_file, in_model) for key, (in_file, in_model) in shapes.items() if in_file != in_model},
    )


def format_keys(keys: Iterable[str]) -> str:
    """Return one indented line per module, such as `stem.conv1.norm.{bias, weight}`."""
    leaves: dict[str, list[str]] = {}
    for key in keys:
        module, _, leaf = key.rpartition(".")
        leaves.setdefault(module, []).append(leaf)
    return _format_lines(
        [
            ".".join(filter(None, (module, names[0] if len(names) == 1 else f"{{{', '.join(sorted(names))}}}")))
            for module, names in leaves.items()
        ]
    )


def format_shapes(shapes: Shapes) -> str:
    """Return one indented line per key with the shapes in the file and in the model."""
    return _format_lines([f"{key}: {file} in the file, {model} in the model" for key, (file, model) in shapes.items()])


def _format_lines(lines: Sequence[str]) -> str:
    """Indent the lines and truncate a long list."""
    more = [f"... and {len(lines) - MAX_LINES} more lines"] if len(lines) > MAX_LINES else []
    return "\n".join(f"    {line}" for line in [*lines[:MAX_LINES], *more])


def _is_optional_counter(key: str, *state_dicts: Mapping[str, Tensor]) -> bool:
    module, _, name = key.rpartition(".")
    return name == BATCH_COUNTER and all(f"{module}.running_var" in state_dict for state_dict in state_dicts)


def _hints(mismatch: Mismatch, *, allow_unexpected: str, allow_missing: str) -> Iterable[str]:
    if prefix := _common_prefix(mismatch):
        yield f"all keys of the file begin with {prefix!r}; save the weights under the keys without it"
        return
    if _is_optimized(mismatch.missing, unlike=mismatch.unexpected):
        yield (
            "the model may be an optimized copy, which cannot load weights; load them into the model itself and "
            "optimize it again"
        )
        return
    if _is_optimized(mismatch.unexpected, unlike=mismatch.missing):
        yield "the file may be of an optimized copy; use a checkpoint of the model itself"
        return
    extra_cells, absent_cells = _whole_cells(mismatch.unexpected), _whole_cells(mismatch.missing)
    if extra_cells or absent_cells:
        sides = (("file", extra_cells), ("model", absent_cells))
        counts = ", ".join(f"{len(cells)} only in the {side}" for side, cells in sides if cells)
        yield (
            f"different cells, {counts}; check MODEL.BACKBONE.LAYER_NUM, MODEL.BACKBONE.CELL_NUM_LIST and "
            "MODEL.BACKBONE.ROUTE; dl_lib freeze-route carries the weights of a network over to a route of it"
        )
    file_has_gates = _has_gates(mismatch.unexpected, outside=extra_cells)
    model_has_gates = _has_gates(mismatch.missing, outside=absent_cells)
    if model_has_gates and not file_has_gates:
        yield (
            "the file has no gates, but the model has; set MODEL.GATE.GATE_ON=False or the MODEL.BACKBONE.ROUTE of the "
            "file, or MODEL.ALLOW_MISSING_KEYS=[gate] to keep their initialization"
        )
    if file_has_gates and not model_has_gates:
        yield (
            "the file has gates, but the model has none; check that MODEL.GATE.GATE_ON is True, and that "
            "MODEL.BACKBONE.ROUTE is empty or has learned gates"
        )
    classes = mismatch.shapes.get("sem_seg_head.predictor.bias")
    if classes:
        yield (
            f"the file predicts {classes[0][0]} classes, the model {classes[1][0]}; set "
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES={classes[0][0]}, or MODEL.ALLOW_MISSING_KEYS=[predictor] to keep the "
            "predictor's initialization"
        )
    if allow_unexpected and not extra_cells and not file_has_gates:
        yield f"to ignore unexpected keys, set MODEL.ALLOW_UNEXPECTED_KEYS, e.g. {allow_unexpected}"
    if allow_missing and not absent_cells and not model_has_gates:
        yield f"to keep the initialization of missing keys, set MODEL.ALLOW_MISSING_KEYS, e.g. {allow_missing}"


def _common_prefix(mismatch: Mismatch) -> str:
    """Return the prefix without which all keys of the file are the model's; "" if there is none."""
    first = next(iter(mismatch.unexpected), "")
    prefixes = (first.removesuffix(key) for key in mismatch.missing if first.endswith(f".{key}"))
    prefix = max(prefixes, key=len, default="")
    renamed = {f"{prefix}{key}" for key in mismatch.missing}
    return prefix if set(mismatch.unexpected) <= renamed else ""


def _is_optimized(keys: Sequence[str], *, unlike: Iterable[str]) -> bool:
    """Return whether keys on one side are of a copy from `dl_lib.inference`, and those `unlike` them of its model."""
    if any(".links." in key for key in keys):
        return True
    are_biases = bool(keys) and all(key.endswith(".bias") for key in keys)
    return are_biases and any(key.endswith(".running_var") for key in unlike)  # batch norms are folded


def _suggestion(keys: Sequence[str], *, of: Iterable[str]) -> str:
    """Return the names of the largest modules without other keys than `keys`; "" if `of` has no others.

    A module is named by the end of its path, from the last component that is not a number.
    """
    others = {path for key in set(of).difference(keys) for path in _paths(key)}
    if not others:
        return ""
    names = dict.fromkeys(_name(next(path for path in _paths(key) if path not in others)) for key in keys)
    more = ["…"] if len(names) > _MAX_SUGGESTIONS else []
    return f"[{', '.join([*names][:_MAX_SUGGESTIONS] + more)}]" if names else ""


def _name(path: str) -> str:
    components = path.split(".")
    named = [position for position, component in enumerate(components) if not component.isdigit()]
    return ".".join(components[named[-1] if named else 0 :])


def _paths(key: str) -> Iterable[str]:
    """Return the paths of the modules that contain a key, outermost first, and the key itself."""
    return accumulate(key.split("."), "{}.{}".format)


def _whole_cells(keys: Iterable[str]) -> set[str]:
    """Return the names of the cells whose operation is among the keys, i.e. that exist on one side only."""
    return {key.split(".")[2] for key in keys if key.startswith("backbone.cells.") and ".operation." in key}


def _has_gates(keys: Iterable[str], *, outside: set[str]) -> bool:
    """Return whether the keys contain a gate of a cell other than those in `outside`."""
    return any(".gate." in key and key.split(".")[2] not in outside for key in keys)
