"""Hard gates: values and gradients, and the same decisions in every way of running the network."""

import pytest
import torch
from torch import nn

from dl_lib.config import get_cfg
from dl_lib.engine.hooks import recompute_norm_statistics
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.gate import HardGate

TINY = [
    *("MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NORM", "BN", "MODEL.SEM_SEG_HEAD.NORM", "BN", "MODEL.GATE.KIND", "hard"),
    *("MODEL.BACKBONE.LAYER_NUM", 3, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3, 3], "MODEL.BACKBONE.INIT_CHANNEL", 8),
    *("MODEL.BACKBONE.MAX_STRIDE", 16, "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1", "layer_2"]),
    *("MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.UNUPDATE_RATE", 0.0, "INPUT.CROP_SIZE", [64, 64]),
]


def make_model(*overrides):
    """Return a model whose gates differ between images and edges."""
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, *overrides])
    model = build_model(cfg).double()
    for module in model.modules():
        if isinstance(module, HardGate):
            nn.init.normal_(module.predict.weight, std=3)
            nn.init.normal_(module.predict.bias)
    recompute_norm_statistics(model, batches=[make_batch()], num_batches=1)
    return model


def make_batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=generator)
    images *= torch.eye(3, dtype=torch.uint8)[:, :, None, None]  # each image in a color of its own
    label = torch.randint(0, 19, (64, 64), generator=generator)
    return [{"image": image, "sem_seg": label} for image in images]


@pytest.fixture
def gate():
    return HardGate(4, 3, norm="BN", init_bias=0.0)


@pytest.mark.parametrize("training", [True, False])
def test_values_are_1_where_the_logit_is_positive(gate, training):
    logits = torch.tensor([[-0.1, 0.0, 1e-30], [5.0, -7.0, 0.1]])
    assert gate.train(training).values(logits).tolist() == [[0, 0, 1], [1, 0, 1]]


def test_gradients_are_those_of_the_relaxed_objective(gate):
    """Central differences of Σ w sigmoid(logits)."""
    logits, weights = torch.randn(2, 5, 3, dtype=torch.float64)
    logits.requires_grad_()
    (weights * gate.values(logits)).sum().backward()

    def relaxed(shift):
        return weights * torch.sigmoid(logits.detach() + shift)

    torch.testing.assert_close(logits.grad, (relaxed(1e-5) - relaxed(-1e-5)) / 2e-5, rtol=1e-7, atol=1e-9)


def test_training_decides_as_evaluation_and_the_real_cost_is_the_expected_one():
    model = make_model()
    batch = make_batch()
    table = model.costs.table(64, 64)
    with torch.no_grad():
        evaluated = model.eval().run(model.preprocess_images(batch), step_rate=1.0)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        trained = model.run(model.preprocess_images(batch), step_rate=1.0)
    assert torch.equal(evaluated.gates_BE, trained.gates_BE)
    assert set(evaluated.gates_BE.unique().tolist()) == {0.0, 1.0}
    assert len(evaluated.gates_BE.unique(dim=0)) > 1, "the images take different routes"
    torch.testing.assert_close(trained.logits, evaluated.logits, rtol=1e-9, atol=1e-9)
    for output in (evaluated, trained):
        fixed = table.stem + table.head + sum(madds for node, madds in table.gates.items() if node.layer)
        assert torch.equal(output.costs.expected + fixed, output.costs.real)
    assert torch.equal(evaluated.costs.executed, evaluated.costs.real_complete)


@pytest.mark.parametrize("policy", ["skip", "run", "published"])
def test_sparse_equals_dense(policy):
    model = make_model("MODEL.GATE.UNREACHED", policy).eval()
    outputs = []
    for sparse in (True, False):
        model.backbone.sparse = sparse
        with torch.no_grad():
            outputs.append(model(make_batch()))
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one["sem_seg"], other["sem_seg"], rtol=1e-9, atol=1e-9)
        assert torch.equal(one["gates"], other["gates"])
        assert one["flops"]["executed_flops"] == one["flops"]["real_flops_complete"]
        assert one["flops"]["expt_flops"] == other["flops"]["expt_flops"]


def test_closed_cells_receive_gradients_by_which_they_can_open_again():
    model = make_model().train()
    cell = model.backbone.cell(model.backbone.lattice.layers[1][0])
    nn.init.constant_(cell.gate.predict.bias, -50.0)
    losses, _ = model(make_batch(), step_rate=1.0)
    losses["loss_sem_seg"].backward()
    assert cell.gate(torch.zeros(2, 8, 4, 4, dtype=torch.float64)).sum() == 0
    assert cell.gate.predict.bias.grad.abs().max() > 0
