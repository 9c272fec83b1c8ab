"""Which parameters share a learning rate and a weight decay.

Few groups instead of one for each parameter: the optimizer's foreach kernels work through a group at once.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["NORM_TYPES", "group_parameters"]

NORM_TYPES = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # _NormBase: batch, synchronised batch and instance norms


def group_parameters(
    model: nn.Module,
    *,
    base_lr: float,
    weight_decay: float,
    weight_decay_norm: float,
    gate_types: tuple[type[nn.Module], ...] = (),
    gate_lr_multiplier: float = 1.0,
) -> list[dict[str, Any]]:
    """Sorts every trainable parameter of a model into one group, in the form that torch's optimizers take.

    A network's groups are the same whatever their settings are, so that a run can go on with others: gates or not,
    norms or not. A parameter that several modules share counts once, as what it is in the first of them.

    Args:
        model: whose parameters are sorted.
        base_lr: learning rate.
        weight_decay: for everything but norms; biases of convolutions included.
        weight_decay_norm: for scale and shift of norms.
        gate_types: modules whose parameters, those of their norms included, learn at another rate.
        gate_lr_multiplier: that rate, as a multiple of `base_lr`.

    Returns:
        At most four groups with `params` (pairs of name and parameter), `lr` and `weight_decay`.

    Raises:
        ValueError: if the model has no trainable parameter.
    """
    norms = {id(p) for module in model.modules() if isinstance(module, NORM_TYPES) for p in module.parameters()}
    gates = {id(p) for module in model.modules() if isinstance(module, gate_types) for p in module.parameters()}
    groups: dict[tuple[bool, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():  # names a shared parameter once
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in gates, id(parameter) in norms), []).append((name, parameter))
    if not groups:
        raise ValueError(f"the model has no trainable parameter. Received: model={type(model).__name__}")
    return [
        {
            "params": named,
            "lr": base_lr * gate_lr_multiplier if is_gate else base_lr,
            "weight_decay": weight_decay_norm if is_norm else weight_decay,
        }
        for (is_gate, is_norm), named in groups.items()
    ]
