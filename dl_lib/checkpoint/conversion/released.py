"""Converter for weights of the published DynamicRouting code (github.com/yanwei-li/DynamicRouting).

The format is recognised by key names; names and shapes are those of the published code's state dicts.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from dl_lib.checkpoint.conversion.registry import ConversionError, Translation
from dl_lib.modeling.dynamic.lattice import Node

__all__ = ["RELEASED_CELL_TYPES", "ReleasedConverter", "is_released", "translate_released"]

RELEASED_CELL_TYPES = ("sep_conv_3x3", "skip_connect")  # CELL_TYPE of all seven published experiments

_SIGNATURE = re.compile(
    r"backbone\.(stem\.stem_\d|init_layer\.|all_cell_list\.\d+\.\d+\.)|sem_seg_head\.layer_decoder_list\."
)
_CELL = re.compile(r"backbone\.(?:init_layer|all_cell_list\.(?P<layer>\d+)\.(?P<scale>\d+))\.(?P<part>.+)")
_OPERATION = re.compile(r"cell_ops\._ops\.(?P<position>\d+)\.op\.(?P<part>.+)")
_FIXED_GATE = "gate_weights_beta"  # constant one in each cell of a network without gates; not needed here

_log = logging.getLogger(__name__)

Rules = tuple[tuple[re.Pattern[str], str], ...]


def _rules(*pairs: tuple[str, str]) -> Rules:
    return tuple((re.compile(pattern), name) for pattern, name in pairs)


_OUTSIDE_CELLS = _rules(
    (r"backbone\.stem\.stem_(\d)\.weight", r"backbone.stem.conv\1.conv.weight"),
    (r"backbone\.stem\.stem_(\d)\.(norm\.\w+)", r"backbone.stem.conv\1.\2"),
    (r"backbone\.stem\.stem_(\d)\.0\.weight", r"backbone.stem.conv\1.depthwise.weight"),
    (r"backbone\.stem\.stem_(\d)\.1\.weight", r"backbone.stem.conv\1.pointwise.weight"),
    (r"backbone\.stem\.stem_(\d)\.1\.(norm\.\w+)", r"backbone.stem.conv\1.\2"),
    (r"sem_seg_head\.layer_decoder_list\.(\d+)\.weight", r"sem_seg_head.projections.layer_\1.conv.weight"),
    (r"sem_seg_head\.layer_decoder_list\.(\d+)\.(norm\.\w+)", r"sem_seg_head.projections.layer_\1.\2"),
    (r"sem_seg_head\.predictor\.(weight|bias)", r"sem_seg_head.predictor.\1"),
)
_IN_CELL = _rules(
    (r"gate_conv_beta\.0\.weight", r"gate.reduce.conv.weight"),
    (r"gate_conv_beta\.0\.(norm\.\w+)", r"gate.reduce.\1"),
    (r"gate_conv_beta\.2\.(weight|bias)", r"gate.predict.\1"),
    (r"res_(up|down)\.1\.weight", r"transitions.\1.conv.weight"),
    (r"res_(up|down)\.1\.(norm\.\w+)", r"transitions.\1.\2"),
)
_STACKED_CONVOLUTIONS = _rules((r"(\d+)\.weight", r"\1.conv.weight"), (r"(\d+)\.(norm\.\w+)", r"\1.\2"))
_IN_OPERATION: Mapping[str, Rules] = {
    "conv_3x3_basic": _rules((r"weight", r"conv.weight"), (r"(norm\.\w+)", r"\1")),
    "dil_conv": _rules(
        (r"0\.weight", r"depthwise.weight"), (r"1\.weight", r"pointwise.weight"), (r"1\.(norm\.\w+)", r"\1")
    ),
    "Bottleneck": _STACKED_CONVOLUTIONS,
    # Alternating depthwise and pointwise convolutions, at most three pairs (sep_conv_heavy).
    "sep_conv": _rules(
        *(
            rule
            for pair in range(3)
            for rule in (
                (rf"{2 * pair}\.weight", rf"{pair}.depthwise.weight"),
                (rf"{2 * pair + 1}\.weight", rf"{pair}.pointwise.weight"),
                (rf"{2 * pair + 1}\.(norm\.\w+)", rf"{pair}.\1"),
            )
        )
    ),
}


class ReleasedConverter:
    """Converter for the published DynamicRouting code, see `translate_released`."""

    def recognises(self, weights: Mapping[str, Tensor], *, model: nn.Module) -> bool:
        return is_released(weights)

    def translate(self, file: Translation, *, model: nn.Module) -> Translation:
        cell_types = getattr(getattr(model, "backbone", None), "cell_types", None)
        if cell_types is None:
            raise ConversionError(
                f"weights of the published code fit only models with a routed backbone; use MODEL.BACKBONE.NAME="
                f"DynamicNetwork. Received: model={type(model).__name__}"
            )
        translation = translate_released(file.weights, cell_types=cell_types)
        _log.info("Translated keys of the published code: %d", len(translation.original_names))
        return translation


def is_released(keys: Iterable[str]) -> bool:
    """Return whether a state dict (or its keys) contains a key name of the published code."""
    return any(_SIGNATURE.match(key) for key in keys)


def translate_released(state_dict: Mapping[str, Tensor], *, cell_types: Sequence[str]) -> Translation:
    """Translate a state dict of the published code, whose keys only number the operations of `CELL_TYPE`.

    Every key is used once, except for the constant gates of networks without gates, which are dropped.
    """
    weights: dict[str, Tensor] = {}
    original_names: dict[str, str] = {}
    untranslated: dict[str, str] = {}
    for key, value in state_dict.items():
        if key.rpartition(".")[2] == _FIXED_GATE and _CELL.fullmatch(key):
            if not bool((value == 1).all()):
                untranslated[key] = "a constant gate other than one"
            continue
        try:
            name = _translate(key, cell_types)
        except _NoCounterpartError as error:
            untranslated[key] = str(error)
            continue
        if name in weights:
            untranslated[key] = f"duplicate of {original_names[name]}"
            continue
        weights[name], original_names[name] = value, key
    return Translation(weights, original_names, untranslated)


class _NoCounterpartError(Exception):
    """Reason why a published key has no counterpart."""


def _translate(key: str, cell_types: Sequence[str]) -> str:
    cell = _CELL.fullmatch(key)
    if cell is None:
        return _apply(_OUTSIDE_CELLS, key)
    node = Node(int(cell["layer"]) + 1, int(cell["scale"])) if cell["layer"] else Node(0, 0)
    operation = _OPERATION.fullmatch(cell["part"])
    if operation is None:
        return f"backbone.cells.{node}.{_apply(_IN_CELL, cell['part'])}"
    name = _translate_operation(int(operation["position"]), operation["part"], cell_types=cell_types)
    return f"backbone.cells.{node}.operation.{name}"


def _translate_operation(position: int, part: str, *, cell_types: Sequence[str]) -> str:
    if position >= len(cell_types):
        raise _NoCounterpartError(
            f"there is no operation {position}: CELL_TYPE has {len(cell_types)}, {list(cell_types)}"
        )
    name = cell_types[position]
    if name.startswith("MBConv"):
        raise _NoCounterpartError("the published code could not build MBConv, so its key names are unknown")
    rules = next((rules for kind, rules in _IN_OPERATION.items() if name.startswith(kind)), None)
    if rules is None:
        raise _NoCounterpartError(f"operation {position} of CELL_TYPE is {name}, which has no published parameters")
    occurrence = list(cell_types[: position + 1]).count(name)
    module = name if occurrence == 1 else f"{name}_{occurrence}"
    return f"{module}.{_apply(rules, part, otherwise=f'not a key of {name}, operation {position} of CELL_TYPE')}"


def _apply(rules: Rules, key: str, *, otherwise: str = "not a key of the published code") -> str:
    for pattern, name in rules:
        match = pattern.fullmatch(key)
        if match:
            return match.expand(name)
    raise _NoCounterpartError(otherwise)
