"""Batch-norm folding: equal outputs and costs."""

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from dl_lib.inference import fold_batch_norms
from dl_lib.modeling.costs.table import NetworkCosts
from tests.helpers.published import batch_of, build


def model_with_statistics(*overrides):
    """Build a tiny float64 model with norms far from the identity and some closed cells."""
    torch.manual_seed(0)
    model = build("tiny", device="cpu", overrides=["MODEL.GATE.GATE_INIT_BIAS", 0.2, *overrides]).double().eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm | FrozenBatchNorm2d | nn.GroupNorm):
            values = module.state_dict()
            for name in sorted(values.keys() - {"num_batches_tracked"}):  # the order of a set changes from run to run
                mean = 0.0 if name.endswith(("bias", "mean")) else 1.0
                values[name].uniform_(mean - 0.4, mean + 0.4)
    return model


def norms_of(model):
    return [m for m in model.modules() if isinstance(m, _BatchNorm | FrozenBatchNorm2d)]


def outputs_of(model, images):
    with torch.inference_mode():
        return model(images)


@pytest.mark.parametrize("norm", ["BN", "SyncBN", "FrozenBN"])
@pytest.mark.parametrize("cell_type", ["sep_conv_3x3", "MBConv_3x3"])
def test_folding_preserves_outputs_and_gates(norm, cell_type):
    model = model_with_statistics(
        *("MODEL.BACKBONE.NORM", norm, "MODEL.SEM_SEG_HEAD.NORM", norm),
        *("MODEL.BACKBONE.CELL_TYPE", [cell_type, "skip_connect"]),
    )
    num_norms, images = len(norms_of(model)), batch_of(1)
    (expected,) = outputs_of(model, images)
    folded = fold_batch_norms(model)
    (output,) = outputs_of(folded, images)
    torch.testing.assert_close(output["sem_seg"], expected["sem_seg"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output["gates"], expected["gates"], rtol=1e-9, atol=1e-9)
    assert 0 < (output["gates"] == 0).sum() < len(output["gates"]), "the case should have open and closed gates"
    assert num_norms == len(norms_of(model)) > 0
    assert norms_of(folded) == []
    assert not folded.training


def test_costs_are_those_of_the_model_with_norms():
    model = model_with_statistics()
    table = model.costs.table(128, 256)
    folded, route = fold_batch_norms(model), model.backbone.route
    for costs in (folded.costs, NetworkCosts(folded.backbone, folded.sem_seg_head)):
        again = costs.table(128, 256)
        assert [again.operations[node] for node in again.lattice.nodes] == list(table.operations.values())
        assert (again.dense, again.all_closed(route, runs_unreached=True)) == (
            table.dense,
            table.all_closed(route, runs_unreached=True),
        )
    for execution_is_sparse in (True, False):
        folded.backbone.sparse = model.backbone.sparse = execution_is_sparse
        flops = outputs_of(folded, batch_of(0))[0]["flops"]
        assert flops == outputs_of(model, batch_of(0))[0]["flops"]
        assert (flops["executed_flops"] == flops["real_flops_complete"]) == execution_is_sparse


def test_group_norms_are_not_folded():
    model = model_with_statistics("MODEL.BACKBONE.NORM", "GN", "MODEL.SEM_SEG_HEAD.NORM", "GN")
    images = batch_of(1)
    folded = fold_batch_norms(model)
    assert outputs_of(folded, images)[0]["sem_seg"].equal(outputs_of(model, images)[0]["sem_seg"])


def test_memory_format_is_preserved():
    folded = fold_batch_norms(model_with_statistics("MODEL.CHANNELS_LAST", True).to(memory_format=torch.channels_last))
    assert folded.backbone.stem.conv1.conv.weight.is_contiguous(memory_format=torch.channels_last)
