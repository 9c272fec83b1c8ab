"""Which parameters share a learning rate and a weight decay.

Few groups instead of one for each parameter: the optimizer's foreach kernels work through a group at once.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from tabulate import tabulate
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from dl_lib.solver.group_rules import GroupRule, first_match, refuse_idle_rules

__all__ = ["NORM_TYPES", "format_groups", "group_parameters"]

NORM_TYPES = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # _NormBase: batch, synchronised batch and instance norms


class _Kind(enum.IntEnum):
    """What a parameter is; those of norms are norms, their biases too."""

    WEIGHTS = 0
    BIASES = 1
    NORMS = 2


class _Key(NamedTuple):
    """What the parameters of a group have in common; sorts the groups.

    Attributes:
        rule: position of the rule that they go by; -1 for none, so that the base learning rate comes first.
        is_gate: whether they belong to gates.
        kind: what they are.
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
    """Sorts every trainable parameter of a model into one group, in the form that torch's optimizers take.

    A network's groups are the same whatever their settings are, so that a run can go on with others: gates or not,
    weights, biases or norms, and which rule holds. A parameter that several modules share counts once, as what it is in
    the first of them.

    Args:
        model: whose parameters are sorted.
        base_lr: learning rate.
        weight_decay: for everything but norms and biases.
        weight_decay_norm: for scale and shift of norms.
        weight_decay_bias: for the biases of everything else; None takes `weight_decay`.
        gate_types: modules whose parameters, those of their norms included, learn at another rate.
        gate_lr_multiplier: that rate, as a multiple of `base_lr`.
        rules: by name; the first that fits a parameter comes before all else, in what it says.

    Returns:
        At most six groups, and as many for each rule, with `name`, `params` (pairs of name and parameter), `lr` and
        `weight_decay`; those of no rule first.

    Raises:
        ValueError: if the model has no trainable parameter.
        ConfigError: if a rule fits none.
    """
    norms = {id(p) for module in model.modules() if isinstance(module, NORM_TYPES) for p in module.parameters()}
    gates = {id(p) for module in model.modules() if isinstance(module, gate_types) for p in module.parameters()}
    decays = {
        _Kind.WEIGHTS: weight_decay,
        _Kind.BIASES: weight_decay if weight_decay_bias is None else weight_decay_bias,
        _Kind.NORMS: weight_decay_norm,
    }
    groups: dict[_Key, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():  # names a shared parameter once
        if parameter.requires_grad:
            rule = first_match(name, rules=rules)
            kind = _Kind.NORMS if id(parameter) in norms else _kind_by_name(name)
            key = _Key(-1 if rule is None else rule, id(parameter) in gates, kind)
            groups.setdefault(key, []).append((name, parameter))
    if not groups:
        raise ValueError(f"the model has no trainable parameter. Received: model={type(model).__name__}")
    names = [name for named in groups.values() for name, _ in named]
    refuse_idle_rules(rules, names=names, used=[key.rule for key in groups])
    return [
        {
            "name": _name(key, rules=rules),
            "params": groups[key],
            "lr": base_lr * _multiplier(key, rules=rules, gate_lr_multiplier=gate_lr_multiplier),
            "weight_decay": _decay(key, rules=rules, decays=decays),
        }
        for key in sorted(groups)
    ]


def format_groups(optimizer: torch.optim.Optimizer) -> str:
    """A table of an optimizer's groups, as made by `group_parameters`: how many values have which rate and decay."""
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
    headers = ["parameters", "tensors", "values", "learning rate", "weight decay"]
    align = ("left", "right", "right", "right", "right")
    return tabulate(rows, headers=headers, colalign=align, disable_numparse=True)


def _kind_by_name(name: str) -> _Kind:
    return _Kind.BIASES if name.rpartition(".")[2] == "bias" else _Kind.WEIGHTS


def _name(key: _Key, *, rules: Sequence[GroupRule]) -> str:
    name = f"{'gate ' if key.is_gate else ''}{key.kind.name.lower()}"
    return name if key.rule < 0 else f"{rules[key.rule].params}: {name}"


def _multiplier(key: _Key, *, rules: Sequence[GroupRule], gate_lr_multiplier: float) -> float:
    given = rules[key.rule].lr_multi if key.rule >= 0 else None
    if given is not None:
        return given
    return gate_lr_multiplier if key.is_gate else 1.0


def _decay(key: _Key, *, rules: Sequence[GroupRule], decays: dict[_Kind, float]) -> float:
    given = rules[key.rule].weight_decay if key.rule >= 0 else None
    return decays[key.kind] if given is None else given
