"""Sweep of gate thresholds: equal to the evaluation at the default, and closed forms of gates and costs."""

from itertools import islice

import pytest
import torch
from torch import nn

from dl_lib.config import ConfigError, get_cfg
from dl_lib.data import DatasetCatalog
from dl_lib.engine.hooks import recompute_norm_statistics
from dl_lib.evaluation import evaluate_datasets
from dl_lib.evaluation.runner.threshold_sweep import check_gates, sweep_thresholds
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.gate import GATE_KINDS, Gate
from tests.helpers.small_run import DATASET, SMALL, register


def gates_of(model):
    return [module for module in model.modules() if isinstance(module, Gate)]


def make_model(*overrides):
    """Return a config and a model whose gates differ between images and edges."""
    register()
    cfg = get_cfg()
    cfg.merge_from_list([*SMALL, "MODEL.BUDGET.CONSTRAIN", False, *overrides])
    torch.manual_seed(0)
    model = build_model(cfg)
    for gate in gates_of(model):
        nn.init.normal_(gate.predict.weight, std=2)
        nn.init.normal_(gate.predict.bias)
    recompute_norm_statistics(model, batches=[list(islice(scenes(), 3))], num_batches=1)
    return cfg, model.eval()


def scenes():
    for sample in DatasetCatalog.get(DATASET):
        yield {
            "image": torch.from_numpy(sample["image"].transpose(2, 0, 1)),
            "sem_seg": torch.from_numpy(sample["sem_seg"]).long(),
        }


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_the_default_threshold_gives_the_results_of_the_evaluation(kind, tmp_path, monkeypatch):
    cfg, model = make_model("MODEL.GATE.KIND", kind)
    default = gates_of(model)[0].threshold
    sweep = sweep_thresholds(cfg, model, DATASET, thresholds=[0.9, default, 0.9])
    monkeypatch.setattr("dl_lib.evaluation.report.write._draw", lambda *args, **settings: {})
    expected = evaluate_datasets(cfg, model, tmp_path)[DATASET]
    found, closed = (point.result for point in sweep.points)
    assert [point.threshold for point in sweep.points] == [default, 0.9]
    assert sweep.default_threshold == default
    assert found.metrics == expected.metrics
    assert found.costs == expected.costs
    assert torch.equal(found.gates, expected.gates)
    assert 0 < (closed.gates > 0).sum() < (found.gates > 0).sum()
    assert closed.gates[closed.gates > 0].min() > 0.9
    assert {gate.threshold for gate in gates_of(model)} == {default}
    assert all(len(point.seconds) == 2 and min(point.seconds) > 0 for point in sweep.points)


@pytest.mark.parametrize("kind", sorted(GATE_KINDS))
def test_sparse_equals_dense_at_a_threshold(kind):
    _, model = make_model("MODEL.GATE.KIND", kind)
    for gate in gates_of(model):
        gate.threshold = 0.4
    outputs = []
    for sparse in (True, False):
        model.backbone.sparse = sparse
        with torch.no_grad():
            outputs.append(model(list(islice(scenes(), 2))))
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one["sem_seg"], other["sem_seg"], rtol=1e-4, atol=1e-4)
        assert torch.equal(one["gates"], other["gates"])
        assert one["flops"]["executed_flops"] == one["flops"]["real_flops_complete"]
        assert one["flops"]["real_flops"] == pytest.approx(other["flops"]["real_flops"])
        assert 0 < (one["gates"] > 0).sum() < len(one["gates"])


def test_costs_of_soft_gates_fall_as_the_threshold_closes_one_cell_after_the_other():
    """With one value per cell, no closed cell reaches another one by passing its input on."""
    cfg, model = make_model("TEST.OPTIMIZE", False)
    values = torch.linspace(0.1, 0.9, len(gates_of(model)))[torch.randperm(len(gates_of(model)))]
    for gate, value in zip(gates_of(model), values.tolist(), strict=True):
        nn.init.zeros_(gate.predict.weight)
        nn.init.constant_(gate.predict.bias, torch.tensor(value).atanh().item())
    sweep = sweep_thresholds(cfg, model, DATASET, thresholds=[0.0, 0.25, 0.5, 0.75, 0.95])
    costs = [point.result.costs.average.real for point in sweep.points]
    assert costs == sorted(costs, reverse=True) and len(set(costs)) > 3
    sizes = [size for image in sweep.points[0].result.images for size in image.input_sizes]
    assert costs[0] == pytest.approx(sum(model.costs.table(*size).real_all_open for size in sizes) / len(sizes))
    assert not sweep.points[-1].result.gates.any()


@pytest.mark.parametrize(
    "overrides",
    [
        ["MODEL.GATE.GATE_ON", False],
        ["MODEL.BACKBONE.ROUTE", ["single_path"]],
        [
            *("MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.BACKBONE.NAME", "rexnet_lite"),
            *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c4", "c5"], "MODEL.BACKBONE.DROP_PROB", 0.0),
        ],
    ],
    ids=["open", "fixed route", "static"],
)
def test_networks_without_gates_are_refused(overrides):
    _, model = make_model(*overrides)
    with pytest.raises(ConfigError, match=r"^RUN must be a routed network with learned gates.*Received: "):
        check_gates(model)
