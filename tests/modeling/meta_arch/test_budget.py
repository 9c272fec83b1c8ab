"""Budget losses of `DynamicNet4Seg`: reference costs, targets, accumulated batches."""

import pytest
import torch

from dl_lib.config import ConfigError
from dl_lib.modeling.dynamic.gate import Gate
from tests.helpers.tiny_model import model_of, random_image

TARGET_BUDGET = [
    *("MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.CONTROL", "target", "MODEL.BUDGET.TARGET", 0.5),
    *("MODEL.BUDGET.UNUPDATE_RATE", 0.3),
]


def test_dense_cost_of_the_budget_is_measured_at_the_crop():
    crop = ["INPUT.CROP_SIZE", [128, 256], "MODEL.BUDGET.CONSTRAIN", True]
    model = model_of(*crop)
    assert model.budget.all_open_madds == model.costs.table(128, 256).expected_all_open
    assert model_of(*crop, "MODEL.BUDGET.FLOPS_ALL", 26300).budget.all_open_madds == 26300e6
    with pytest.raises(ValueError, match=r"MODEL\.BUDGET\.FLOPS_ALL=0 .*INPUT\.CROP_SIZE"):
        model_of(*crop, "INPUT.CROP_SIZE", [])
    with pytest.raises(ValueError, match=r"INPUT\.CROP_SIZE must be measured .*default_setup"):
        model_of(*crop, "INPUT.CROP_SIZE", [0, 0])


@pytest.mark.parametrize("unit", ["ratio", "gflops"])
def test_cost_of_a_budget_with_a_target(unit):
    """The cost is the real one; the loss has the gradient of the expected cost at the size of the batch."""
    model = model_of(*TARGET_BUDGET, "MODEL.BUDGET.TARGET_UNIT", unit, "MODEL.BUDGET.TARGET", 0.04).double().train()
    batch = [random_image(64, 64, sem_seg=torch.zeros(64, 64, dtype=torch.uint8)) for _ in range(2)]
    assert "loss_budget" not in model(batch, step_rate=0.2)[0]
    model.budget.weight = -2.0
    losses, logged = model(batch, step_rate=0.5)
    table = model.costs.table(64, 64)
    assert losses["loss_budget"].item() == pytest.approx(-2e6 * logged["expt_flops"].item() / table.expected_all_open)
    cells = (logged["real_flops"].item() * 1e6 - table.unrouted) / table.expected_all_open
    cost = cells if unit == "ratio" else logged["real_flops_complete"].item() / 1e3
    assert logged["budget_cost"].item() == pytest.approx(cost, rel=1e-12)
    gates = [p for name, p in model.named_parameters() if ".gate.predict.bias" in name]
    found = torch.autograd.grad(losses["loss_budget"], gates, retain_graph=True, allow_unused=True)
    expected = torch.autograd.grad(logged["expt_flops"], gates, allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, None if b is None else -2e6 * b / table.expected_all_open)


@pytest.mark.parametrize("policy", ["skip", "run"])
def test_lowest_cost_of_a_partly_fixed_route_is_that_with_closed_learned_gates(policy):
    """Fixed gates never close: with all learned gates closed, their cells and transitions still run."""
    fixed = ["layer0_stride4.down", "layer1_stride8.keep=0.5", "layer2_stride8.pass", "layer3_stride8.pass"]
    learned = ["layer0_stride4.keep=gate", "layer1_stride4.keep=gate", "layer2_stride4.pass", "layer3_stride4.pass"]
    route = [*fixed, *learned, "layer4_stride4.pass", "layer4_stride8.keep=gate"]
    options = ["MODEL.GATE.UNREACHED", policy, "MODEL.BUDGET.TARGET_UNIT", "gflops", "MODEL.BACKBONE.ROUTE", route]
    model = model_of(*TARGET_BUDGET, *options, "MODEL.BUDGET.TARGET", 0.036).eval()
    with torch.no_grad():
        for gate in (module for module in model.modules() if isinstance(module, Gate)):
            gate.predict.weight.zero_()
            gate.predict.bias.fill_(-1.0)
        (output,) = model([random_image(128, 128)])
    assert model.budget.reachable[0] == pytest.approx(output["flops"]["real_flops_complete"] / 1e3)


@pytest.mark.parametrize("policy", ["skip", "run"])
def test_unreachable_target_is_an_error(policy):
    gflops = [*TARGET_BUDGET, "MODEL.GATE.UNREACHED", policy, "MODEL.BUDGET.TARGET_UNIT", "gflops"]
    gflops += ["MODEL.BUDGET.TARGET"]
    table = model_of().costs.table(128, 128)
    model = model_of(*gflops, 0.04)
    lowest = table.all_closed(model.backbone.route, runs_unreached=policy == "run")
    assert model.budget.reachable == (lowest / 1e9, table.dense / 1e9)
    assert model.budget.lattice_cost == table.expected_all_open / 1e9
    for target in (0.99 * model.budget.reachable[0], 1.01 * model.budget.reachable[1]):
        with pytest.raises(ConfigError, match=r"MODEL\.BUDGET\.TARGET must be from .*Received: MODEL\.BUDGET\.TARGET="):
            model_of(*gflops, target)


@pytest.mark.parametrize("weights", [[], [1.0 + c for c in range(19)]])
def test_accumulated_gradients_equal_those_of_the_whole_batch(weights):
    """Cross-entropy, auxiliary head and budget with a target on unequally labelled batches, with GN."""
    model = model_of(
        *(
            "MODEL.BACKBONE.NORM",
            "GN",
            "MODEL.SEM_SEG_HEAD.NORM",
            "GN",
            "MODEL.AUXILIARY_HEADS.IN_FEATURES",
            ["layer_1"],
        ),
        *(*TARGET_BUDGET, "MODEL.LOSS.CLASS_WEIGHTS", weights, "MODEL.LOSS.LOVASZ_WEIGHT", 0.5),
    ).double()
    model.train()
    model.budget.weight = -0.7
    batch = [random_image(64, 64, sem_seg=torch.randint(0, 19, (64, 64))) for _ in range(4)]
    for image, labelled in zip(batch, (64, 30, 1, 0), strict=True):
        image["sem_seg"][labelled:] = 255

    def gradients(parts):
        model.zero_grad()
        means = model.step_means(parts)
        totals = {}
        for part in parts:
            losses, _ = model(part, step_rate=0.5, step_means=means)
            (sum(losses.values()) / len(parts)).backward()
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0) + loss.item() / len(parts)
        return totals, [parameter.grad.clone() for parameter in model.parameters()]

    whole, expected = gradients([batch])
    plain, _ = model(batch, step_rate=0.5)
    assert {name: loss.item() for name, loss in plain.items()} == pytest.approx(whole)
    accumulated, found = gradients([batch[:2], batch[2:]])
    assert accumulated == pytest.approx(whole, rel=1e-9)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-12)


def test_accumulated_penalty_refers_to_the_mean_cost_so_far():
    model = model_of("MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.LOSS_WEIGHT", 0.5, "MODEL.BUDGET.WARM_UP", False)
    model.double().train()
    parts = [[random_image(64, 64, sem_seg=torch.zeros(64, 64, dtype=torch.uint8)) for _ in range(2)] for _ in range(2)]
    means = model.step_means(parts)
    (first, _), (second, _) = outputs = [model(part, step_rate=0.5, step_means=means) for part in parts]
    costs = [logged["expt_flops"].item() * 1e6 for _, logged in outputs]
    assert costs[0] != costs[1]
    for losses, mean in ((first, costs[0]), (second, sum(costs) / 2)):
        assert losses["loss_budget"].item() == pytest.approx(0.5 * (mean / model.budget.all_open_madds) ** 2, rel=1e-9)
