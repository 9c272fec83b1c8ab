"""Parameter groups with their learning rates and weight decays.

There are few groups rather than one per parameter, because the optimizer's foreach kernels update a group at once.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from tabulate import tabulate
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from dl_lib.solver.group_rules import GroupRule, check_rules_match, first_match

__all__ = ["NORM_TYPES", "format_groups", "group_parameters"]

NORM_TYPES = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # _NormBase: batch, synchronized batch and instance norms


class _Kind(enum.IntEnum):
    """Kind of a parameter; scale and bias of norms are both NORMS."""

    WEIGHTS = 0
    BIASES = 1
    NORMS = 2


class _Key(NamedTuple):
    """Key that the parameters of a group share; also the sort order of groups.

    Attributes:
        rule: Index of the rule that applies, or -1 for none, which sorts the base learning rate first.
        is_gate: Whether the parameters belong to gates.
        kind: Kind of the parameters.
    """

    rule: int
    is_gate: bool
    kind: _Kind


def group_parameters(
    model: nn.Module,
    *,
    base_lr: float,
    weight_decay: float,
    weight_decay_norm: float,
    weight_decay_bias: float | None = None,
    gate_types: tuple[type[nn.Module], ...] = (),
    gate_lr_multiplier: float = 1.0,
    rules: Sequence[GroupRule] = (),
) -> list[dict[str, Any]]:
    """Return parameter groups with every trainable parameter of a model, for an optimizer of torch.

    The grouping depends on the model and the expressions of the rules, not on rates and decays, so a run can be resumed
    with other values. A parameter shared by several modules is counted once, under its first name.

    Args:
        model: Model whose parameters are grouped.
        base_lr: Base learning rate.
        weight_decay: Weight decay of everything but norms and biases.
        weight_decay_norm: Weight decay of scale and bias of norms.
        weight_decay_bias: Weight decay of all other biases; None uses `weight_decay`.
        gate_types: Types of gate modules, whose parameters, including norms, have a different learning rate.
        gate_lr_multiplier: Learning rate of gates as a multiple of `base_lr`.
        rules: Rules by name; the first match applies and takes precedence in the settings that it has.

    Returns:
        At most six groups, plus six per rule, each with `name`, `params` (pairs of name and parameter), `lr` and
        `weight_decay`; groups without a rule come first.

    Raises:
        ValueError: If the model has no trainable parameter.
        ConfigError: If a rule applies to no parameter.
    """
    norms = {id(p) for module in model.modules() if isinstance(module, NORM_TYPES) for p in module.parameters()}
    gates = {id(p) for module in model.modules() if isinstance(module, gate_types) for p in module.parameters()}
    decays = {
        _Kind.WEIGHTS: weight_decay,
        _Kind.BIASES: weight_decay if weight_decay_bias is None else weight_decay_bias,
        _Kind.NORMS: weight_decay_norm,
    }
    groups: dict[_Key, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():  # yields a shared parameter once
        if parameter.requires_grad:
            rule = first_match(name, rules=rules)
            kind = _Kind.NORMS if id(parameter) in norms else _kind_by_name(name)
            key = _Key(-1 if rule is None else rule, id(parameter) in gates, kind)
            groups.setdefault(key, []).append((name, parameter))
    if not groups:
        raise ValueError(f"model must have a trainable parameter. Received: model={type(model).__name__}")
    names = [name for named in groups.values() for name, _ in named]
    check_rules_match(rules, names=names, used=[key.rule for key in groups])
    return [
        {
            "name": _group_name(key, rules=rules),
            "params": groups[key],
            "lr": base_lr * _lr_multiplier(key, rules=rules, gate_lr_multiplier=gate_lr_multiplier),
            "weight_decay": _weight_decay(key, rules=rules, decays=decays),
        }
        for key in sorted(groups)
    ]


def format_groups(optimizer: torch.optim.Optimizer) -> str:
    """Return a table of an optimizer's groups, made by `group_parameters`, with their sizes and settings."""
    rows = [
        (
            group["name"],
            f"{len(group['params']):,}",
            f"{sum(parameter.numel() for parameter in group['params']):,}",
            f"{group.get('initial_lr', group['lr']):g}",
            f"{group['weight_decay']:g}",
        )
        for group in optimizer.param_groups
    ]
    headers = ["group", "tensors", "parameters", "learning rate", "weight decay"]
    align = ("left", "right", "right", "right", "right")
    return tabulate(rows, headers=headers, colalign=align, disable_numparse=True)


def _kind_by_name(name: str) -> _Kind:
    return _Kind.BIASES if name.rpartition(".")[2] == "bias" else _Kind.WEIGHTS


def _group_name(key: _Key, *, rules: Sequence[GroupRule]) -> str:
    name = f"{'gate ' if key.is_gate else ''}{key.kind.name.lower()}"
    return name if key.rule < 0 else f"{rules[key.rule].params}: {name}"


def _lr_multiplier(key: _Key, *, rules: Sequence[GroupRule], gate_lr_multiplier: float) -> float:
    from_rule = rules[key.rule].lr_multi if key.rule >= 0 else None
    if from_rule is not None:
        return from_rule
    return gate_lr_multiplier if key.is_gate else 1.0


def _weight_decay(key: _Key, *, rules: Sequence[GroupRule], decays: dict[_Kind, float]) -> float:
    from_rule = rules[key.rule].weight_decay if key.rule >= 0 else None
    return decays[key.kind] if from_rule is None else from_rule
