"""Copies of models for fast inference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

import torch
from torch import nn

from dl_lib.config.choices import InferencePrecision
from dl_lib.inference.conv_chain import ConvChain, Link, can_be_chained
from dl_lib.inference.folding import FoldedNorm, Model, fold_batch_norms, is_sequence
from dl_lib.inference.precision import BFLOAT16_DEVICES, has_bfloat16
from dl_lib.modeling.dynamic.cell import Cell
from dl_lib.modeling.dynamic.gate import Gate
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.heads.decoder import SemSegDecoderHead
from dl_lib.modeling.meta_arch.base import SegmentationModel
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg

__all__ = ["optimize", "reduce_precision"]


def optimize(model: Model, *, precision: InferencePrecision = "float32", compile: bool = False) -> Model:
    """Return a copy for fast inference: batch norms are folded, and convolutions run in chains (`ConvChain`).

    Outputs are equal up to rounding, and reported costs are those of the model.

    Args:
        model: Model to copy, with its final weights; it is not changed. Forward hooks of replaced modules are lost.
        precision: Precision of the weights and feature maps. Gates and logits are returned in float32.
        compile: Run all parts as one graph compiled by `torch.compile`, instead of chains. Routed networks use dense
            execution. Compilation takes 10 to 120 s for each input size; torch compiles for 8 sizes and runs others
            eagerly.

    Returns:
        The copy, in evaluation mode, for inference only: it computes no gradients, and its weights must not be changed.

    Raises:
        TypeError: If `model` is not a `SegmentationModel`.
        ConfigError: If `compile` is set and the model's class has no `network_function`.
        ValueError: If weights are not finite, since fused ReLUs would turn NaN into 0, or if `precision` is unknown or
            the model's device has no instructions for it.
    """
    if not isinstance(model, SegmentationModel):
        raise TypeError(
            "optimize accepts models that build_model returns; give it the whole model instead of a part or a wrapper. "
            f"Received: {type(model).__name__}"
        )
    _check_weights(model)
    if precision not in get_args(InferencePrecision):
        raise ValueError(f"precision must be float32 or bf16. Received: precision={precision}")
    if precision == "bf16" and not has_bfloat16(model.device):
        raise ValueError(
            f"precision must be float32: bf16 needs {BFLOAT16_DEVICES}. Received: precision=bf16, device={model.device}"
        )
    optimized = fold_batch_norms(model).requires_grad_(False)
    if isinstance(model, DynamicNet4Seg) and isinstance(optimized, DynamicNet4Seg):
        optimized.costs = model.costs.without_weights()
    if precision == "bf16":
        reduce_precision(optimized, torch.bfloat16)
    optimized.set_compiled(compile)
    if not compile:
        _chain(optimized)
    elif isinstance(optimized.backbone, DynamicNetwork):
        optimized.backbone.sparse = False
    return optimized.eval()


def _check_weights(model: nn.Module) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(
                "the weights must be finite to optimize a model; use weights from before training diverged. "
                f"Received: {name}"
            )


def reduce_precision(model: SegmentationModel, dtype: torch.dtype) -> None:
    """Convert the network except for the last convolution of each gate, whose logits decide the route."""
    model.network_dtype = dtype
    model.sem_seg_head.to(dtype)
    for part in model.backbone.to(dtype).modules():
        if isinstance(part, Gate):
            part.predict.float()


def _chain(model: SegmentationModel) -> None:
    """Replace convolutions, norms and ReLUs by chains."""
    backbone, head = model.backbone, model.sem_seg_head
    if isinstance(backbone, DynamicNetwork):
        _chain_children(backbone)
        for node in backbone.route.cells:
            cell = backbone.cell(node)
            for part in (cell.operation, cell.gate, cell.transitions):
                _chain_children(part)
            _fuse_sum_and_relu(cell)
    if isinstance(head, SemSegDecoderHead):
        _chain_children(head.projections)


def _chain_children(module: nn.Module | None) -> None:
    """Replace the convolutions in children that are sequences by chains."""
    for name, child in [] if module is None else list(module.named_children()):
        if is_sequence(child):
            setattr(module, name, _chained(child))


def _chained(sequence: nn.Sequential) -> nn.Module:
    """Return a module with the same output, in which chains replace convolutions, norms and ReLUs."""
    groups = list(_groups(_leaves(sequence)))
    if len(groups) == 1:
        return _chain_of(groups[0], replaced=sequence)
    if any(next(group[0].parameters(), None) is not None for group in groups if not can_be_chained(group[0])):
        return sequence  # other norms separate the convolutions, so that nothing would be gained
    return nn.Sequential(*(_chain_of(group, replaced=nn.Sequential(*group)) for group in groups))


def _leaves(sequence: nn.Sequential) -> Iterator[nn.Module]:
    for child in sequence:
        if is_sequence(child):
            yield from _leaves(child)
        else:
            yield child


def _groups(leaves: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    """Yield convolutions with the norms and ReLUs between and after them, and every other module alone."""
    group: list[nn.Module] = []
    for leaf in leaves:
        if can_be_chained(leaf) or (group and type(leaf) in (FoldedNorm, nn.ReLU)):
            group.append(leaf)
            continue
        if group:
            yield group
        group = []
        yield [leaf]
    if group:
        yield group


def _chain_of(group: Sequence[nn.Module], *, replaced: nn.Module) -> nn.Module:
    if not can_be_chained(group[0]):
        return group[0]
    convs: list[nn.Conv2d] = []
    relus: list[bool] = []
    for module in group:
        if isinstance(module, nn.Conv2d):
            convs.append(module)
            relus.append(False)
        elif isinstance(module, nn.ReLU):
            relus[-1] = True
    return ConvChain(convs, relus, replaced=replaced)


def _fuse_sum_and_relu(cell: Cell) -> None:
    """Fuse the sum with the identity and the transitions' ReLU into the last convolution of an operation's chain."""
    chains = [part for part in cell.operation.values() if isinstance(part, ConvChain)]
    identities = [name for name, part in cell.operation.items() if isinstance(part, nn.Identity)]
    if len(chains) != 1 or len(identities) > 1 or len(cell.operation) > 1 + len(identities):
        return
    (*_, last) = chains[0].links
    assert isinstance(last, Link)
    if identities and (last.relu or not last.preserves_size):
        return
    for name in identities:
        chains[0].adds_input = True
        del cell.operation[name]
    last.relu = True
    cell.has_fused_relu = True
