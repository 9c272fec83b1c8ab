"""Lists of keys as the texts of errors and of the log hold them: indented, and cut where they would fill the screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Shapes", "listed", "listed_keys", "listed_shapes"]

MAX_LINES = 20  # of one list

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]  # key -> (shape in the file, shape in the model)


def listed(lines: Sequence[str]) -> str:
    """The lines, or the first of them and how many there are more."""
    more = [f"... and {len(lines) - MAX_LINES} lines more"] if len(lines) > MAX_LINES else []
    return "\n".join(f"    {line}" for line in [*lines[:MAX_LINES], *more])


def listed_keys(keys: Iterable[str]) -> str:
    """One line for each module: `stem.conv1.norm.{bias, weight}`."""
    leaves: dict[str, list[str]] = {}
    for key in keys:
        module, _, leaf = key.rpartition(".")
        leaves.setdefault(module, []).append(leaf)
    return listed(
        [
            ".".join(filter(None, (module, names[0] if len(names) == 1 else f"{{{', '.join(sorted(names))}}}")))
            for module, names in leaves.items()
        ]
    )


def listed_shapes(shapes: Shapes) -> str:
    """One line for each key, with both shapes."""
    return listed([f"{key}: {file} in the file, {model} in the model" for key, (file, model) in shapes.items()])
