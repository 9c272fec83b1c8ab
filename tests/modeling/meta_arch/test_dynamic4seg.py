"""Public interface of `DynamicNet4Seg`: inputs of any size, outputs at the requested size, costs per image."""

import json
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dl_lib.config import ConfigError, get_cfg
from dl_lib.engine.hooks import recompute_norm_statistics
from dl_lib.engine.training.ema import ModelEMA
from dl_lib.engine.training.precision import PRECISIONS, Precision
from dl_lib.layers import CondConv2d, DynamicConv2d, KernelAttention, SAConv2d
from dl_lib.modeling import DynamicNet4Seg, build_model
from dl_lib.modeling.dynamic.gate import SoftGate
from tests.helpers.published import REFERENCE, SETTINGS, batch_of, build_case

TINY = [*SETTINGS["tiny"], "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NORM", "BN", "MODEL.SEM_SEG_HEAD.NORM", "BN"]
TINY += ["INPUT.CROP_SIZE", [128, 128]]
FLOPS = {"expt_flops", "real_flops", "real_flops_complete", "executed_flops"}


def model_of(*overrides):
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, *overrides])
    return build_model(cfg)


def random_image(height, width, **more):
    return {"image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8), **more}


@pytest.mark.parametrize("name", ["Seg.Layer16", "Seg.Layer33.ImageNet"])
def test_parameter_counts_by_part(name):
    published = json.loads((REFERENCE / "models.json").read_text())[name]
    cfg = get_cfg()
    cfg.merge_from_list([*SETTINGS[name], "MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        model = build_model(cfg)
    counts = {"total": 0, "stem": 0, "init_layer": 0, "cells": 0, "head": 0, "gates": 0, "cell_ops": 0}
    counts |= {"res_up": 0, "res_down": 0, "norm": 0}
    for key, parameter in model.named_parameters():
        size = parameter.numel()
        source, inner = ".cells.layer0_" in key, ".cells." in key and ".cells.layer0_" not in key
        counts["total"] += size
        counts["stem"] += size * (".stem." in key)
        counts["init_layer"] += size * source
        counts["cells"] += size * inner
        counts["head"] += size * key.startswith("sem_seg_head.")
        counts["gates"] += size * (".gate." in key)
        counts["cell_ops"] += size * (".operation." in key)
        counts["res_up"] += size * (".transitions.up." in key)
        counts["res_down"] += size * (".transitions.down." in key)
        counts["norm"] += size * (".norm." in key)
    assert counts == {part: published[f"params_{part}"] for part in counts}


def test_outputs_have_the_requested_size():
    model = model_of().eval()
    inputs = [random_image(100, 150), random_image(33, 64) | {"height": 40, "width": 90}]
    with torch.no_grad():
        outputs = model(inputs)
    assert [tuple(o["sem_seg"].shape) for o in outputs] == [(19, 100, 150), (19, 40, 90)]
    for output in outputs:
        assert set(output["flops"]) == FLOPS
        assert all(isinstance(value, float) for value in output["flops"].values())
        assert output["gates"].shape == (len(model.backbone.lattice.edges),)


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("execution", ["sparse", "dense"])
def test_gradients_of_predictions(kind, execution):
    """Both executions compute in place only where autograd does not need the values."""
    model = model_of("TEST.EXECUTION", execution, "MODEL.GATE.KIND", kind).eval()
    (output,) = model([random_image(64, 64)])
    output["sem_seg"].square().mean().backward()
    assert model.backbone.stem.conv1.conv.weight.grad.abs().sum() > 0
    gates = [model.backbone.cell(node).gate for node in model.backbone.lattice.nodes]
    assert any(gate.predict.weight.grad is not None for gate in gates)


def test_executed_cost_equals_real_complete_exactly():
    model = build_case("tiny__mix3").eval()
    with torch.no_grad():
        (output,) = model(batch_of(0))
    assert output["flops"]["executed_flops"] == output["flops"]["real_flops_complete"]
    model.backbone.sparse = False
    with torch.no_grad():
        (dense,) = model(batch_of(0))
    assert dense["flops"]["executed_flops"] > output["flops"]["executed_flops"]
    assert dense["flops"]["real_flops_complete"] == output["flops"]["real_flops_complete"]


def test_costs_depend_on_the_input_size():
    model = model_of("MODEL.GATE.GATE_ON", False).eval()
    with torch.no_grad():
        small, large = (model([random_image(side, side)])[0]["flops"]["expt_flops"] for side in (64, 128))
    assert large == pytest.approx(4 * small, rel=1e-12)


def test_without_gates_there_are_no_gate_values():
    model = model_of("MODEL.GATE.GATE_ON", False)
    sample = random_image(64, 64, sem_seg=torch.zeros(64, 64, dtype=torch.int64))
    with torch.no_grad():
        _, logged = model.train()([sample] * 2, step_rate=0.0)
        (output,) = model.eval()([sample])
    assert set(logged) == FLOPS and "gates" not in output


def test_training_returns_losses_and_mean_costs():
    model = model_of("MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.LOSS_WEIGHT", 0.5, "MODEL.BUDGET.UNUPDATE_RATE", 0.3)
    model.train()
    batch = [random_image(64, 64, sem_seg=torch.randint(0, 19, (64, 64))) for _ in range(2)]
    losses, logged = model(batch, step_rate=0.1)
    assert set(losses) == {"loss_sem_seg"}
    assert set(logged) == FLOPS | {f"gate_stride_{stride}" for stride in (4, 8, 16, 32)}
    losses, _ = model(batch, step_rate=0.5)
    assert set(losses) == {"loss_sem_seg", "loss_budget"}
    losses["loss_budget"].backward()
    moved = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(".gate." in key for key in moved), "the budget acts on the gates"
    assert not any("sem_seg_head" in key for key in moved)


def test_dense_cost_of_the_budget_is_measured_at_the_crop():
    crop = ["INPUT.CROP_SIZE", [128, 256], "MODEL.BUDGET.CONSTRAIN", True]
    model = model_of(*crop)
    assert model.budget.all_open_madds == model.costs.table(128, 256).expected_all_open
    assert model_of(*crop, "MODEL.BUDGET.FLOPS_ALL", 26300).budget.all_open_madds == 26300e6
    with pytest.raises(ValueError, match=r"MODEL\.BUDGET\.FLOPS_ALL=0 .*INPUT\.CROP_SIZE"):
        model_of(*crop, "INPUT.CROP_SIZE", [])
    with pytest.raises(ValueError, match=r"INPUT\.CROP_SIZE must be measured .*default_setup"):
        model_of(*crop, "INPUT.CROP_SIZE", [0, 0])


def test_ignored_pixels_do_not_contribute():
    model = model_of().train()
    label = torch.randint(0, 19, (64, 64))
    label[:, 32:] = 255
    other = label.clone()
    image = random_image(64, 64)
    losses = [model([image | {"sem_seg": x}, image | {"sem_seg": x}])[0]["loss_sem_seg"].item() for x in (label, other)]
    assert losses[0] == losses[1]
    logits_loss = math.log(19)
    assert 0.2 * logits_loss < losses[0] < 5 * logits_loss


def test_training_continues_after_an_evaluation_of_the_same_size():
    model = model_of().eval()
    with torch.inference_mode():
        model([random_image(64, 64)])
    model.train()
    batch = [random_image(64, 64, sem_seg=torch.zeros(64, 64, dtype=torch.long)) for _ in range(2)]
    losses, flops = model(batch)
    (losses["loss_sem_seg"] + flops["expt_flops"]).backward()


class TensorsFromNumbers(TorchDispatchMode):
    """Mode that records tensors created from Python numbers, each of which would synchronize with a GPU."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.lift_fresh.default:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


def test_constant_tensors_are_created_in_the_first_step_only():
    model = model_of("MODEL.BACKBONE.DROP_PROB", 0.2, "MODEL.LOSS.CLASS_WEIGHTS", [0.5] * 19).train()
    batch = [random_image(64, 64, sem_seg=torch.zeros(64, 64, dtype=torch.uint8)) for _ in range(2)]
    model(batch, step_rate=0.5, step_means=model.step_means([batch]))
    with TensorsFromNumbers() as made:
        model(batch, step_rate=0.6, step_means=model.step_means([batch]))
    assert made.shapes == [(2,)], "only the executed costs, which stay on the host"


@pytest.mark.parametrize(
    ("overrides", "training", "size", "message"),
    [
        (["MODEL.GATE.SMALL_GATE", True], False, (96, 160), "smallest valid size is 128x128"),
        ([], True, (32, 32), "32x64, or 32x32 with a batch of two or more"),
        (["MODEL.GATE.SMALL_GATE", True], True, (128, 128), "128x256, or 128x128 with a batch of two or more"),
    ],
)
def test_invalid_sizes(overrides, training, size, message):
    model = model_of(*overrides).train(training)
    with pytest.raises(ValueError, match=message):
        model([random_image(*size, sem_seg=torch.zeros(size, dtype=torch.long))])


def test_labels_of_another_size_than_the_image_are_rejected():
    with pytest.raises(ValueError, match=r"sem_seg\.shape=\(64, 48\), image\.shape=\(3, 48, 64\)"):
        model_of().train()([random_image(48, 64, sem_seg=torch.zeros((64, 48), dtype=torch.long))] * 2)


@pytest.mark.parametrize("size", [(1, 1), (20, 50)])
def test_small_images_are_padded(size):
    with torch.no_grad():
        assert model_of().eval()([random_image(*size)])[0]["sem_seg"].shape == (19, *size)


def test_size_error_of_the_backbone():
    with pytest.raises(ValueError, match=r"multiples of 32\b.*at least 32x32"):
        model_of().backbone(torch.zeros(1, 3, 30, 64))


def test_unavailable_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"use cpu, or auto .*MODEL\.DEVICE=cuda"):
        model_of("MODEL.DEVICE", "cuda")
    assert model_of("MODEL.DEVICE", "auto").device.type == "cpu"


def test_construction_without_config():
    built = model_of()
    model = DynamicNet4Seg(
        built.backbone, sem_seg_head=built.sem_seg_head, loss=built.loss, pixel_mean=[0, 0, 0], pixel_std=[1, 1, 1]
    ).eval()
    with torch.no_grad():
        assert model([random_image(32, 32)])[0]["sem_seg"].shape == (19, 32, 32)


def test_configured_losses():
    overrides = ["MODEL.LOSS.DICE_WEIGHT", 0.5, "MODEL.LOSS.LOVASZ_WEIGHT", 2.0]
    model = model_of(*overrides, "MODEL.AUXILIARY_HEADS.IN_FEATURES", ["layer_2"]).train()
    batch = [random_image(64, 64, sem_seg=torch.randint(0, 19, (64, 64))) for _ in range(2)]
    losses, flops = model(batch)
    assert set(losses) == {"loss_sem_seg", "loss_dice", "loss_lovasz", "loss_auxiliary_layer_2"}
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.auxiliary_heads.parameters())
    assert flops["executed_flops"] == model_of().train()(batch)[1]["executed_flops"], (
        "in training only, and not counted"
    )


TARGET_BUDGET = [
    *("MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.CONTROL", "target", "MODEL.BUDGET.TARGET", 0.5),
    *("MODEL.BUDGET.UNUPDATE_RATE", 0.3),
]


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
def test_unreachable_target_is_an_error(policy):
    gflops = [*TARGET_BUDGET, "MODEL.GATE.UNREACHED", policy, "MODEL.BUDGET.TARGET_UNIT", "gflops"]
    gflops += ["MODEL.BUDGET.TARGET"]
    table = model_of().costs.table(128, 128)
    model = model_of(*gflops, 0.04)
    lowest = table.all_closed(runs_unreached=policy == "run")
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


def test_temperature_anneals_in_training_and_is_in_the_state_dict():
    cell = ["MODEL.BACKBONE.CELL_TYPE", ["dyn_conv_3x3", "dyn_sep_conv_3x3"], "MODEL.TEMP_ANNEAL_RATE", 0.5]
    model = model_of(*cell)
    inputs = [random_image(64, 64, sem_seg=torch.zeros(64, 64, dtype=torch.uint8)) for _ in range(2)]

    def temperatures(model):
        return {value.item() for key, value in model.state_dict().items() if key.endswith("temperature")}

    assert temperatures(model) == {30.0}
    for step_rate, expected in ((0.0, 30.0), (0.25, 15.5), (0.5, 1.0), (1.0, 1.0), (0.25, 15.5)):
        model.train()(inputs, step_rate=step_rate)
        assert temperatures(model) == {expected}
    recompute_norm_statistics(model, batches=[inputs], num_batches=1)
    model.eval()(inputs)
    reloaded = model_of(*cell).eval()
    reloaded.load_state_dict(model.state_dict())
    assert temperatures(model) == temperatures(reloaded) == {15.5}


def test_ema_has_the_current_temperature():
    model = model_of("MODEL.BACKBONE.CELL_TYPE", ["dyn_conv_3x3"], "MODEL.TEMP_ANNEAL_RATE", 0.5)
    inputs = [random_image(64, 64, sem_seg=torch.zeros(64, 64, dtype=torch.uint8)) for _ in range(2)]
    ema = ModelEMA(model, decay=0.9)
    for step_rate in (0.0, 0.25, 1.0):
        model.train()(inputs, step_rate=step_rate)
        ema.update(model)
    assert {m.temperature.item() for m in ema.model.modules() if isinstance(m, KernelAttention)} == {1.0}


def test_conditional_layers_keep_their_initialization():
    model = model_of("MODEL.BACKBONE.CELL_TYPE", ["sac_3x3", "cond_conv_3x3", "dyn_conv_3x3"])
    seen = set()
    for module in model.backbone.modules():
        if isinstance(module, SAConv2d):
            assert module.switch.bias.item() == 1
            for zeros in (module.weight_diff, module.switch.weight, *module.pre_context.parameters()):
                assert not zeros.any()
            assert not any(p.any() for p in module.post_context.parameters())
            torch.testing.assert_close(module.standardized_weight(), module.weight)
        elif isinstance(module, CondConv2d | DynamicConv2d):
            fan_in, slope = math.prod(module.weight.shape[2:]), 5**0.5 if isinstance(module, CondConv2d) else 0
            bound = (6 / ((1 + slope**2) * fan_in)) ** 0.5  # He uniform initialization
            for kernel in module.weight:
                assert 0.8 * bound < kernel.abs().max() <= bound
        else:
            continue
        seen.add(type(module))
    assert seen == {SAConv2d, CondConv2d, DynamicConv2d}


@pytest.mark.parametrize(("precision", "similarity"), [("bf16", 0.9), ("fp16", 0.99)])  # 8 and 11 bits of precision
def test_mixed_precision_keeps_gates_costs_losses_and_states_in_float32(precision, similarity):
    """Losses and gradients are close to those in float32."""
    budget = ["MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.LOSS_WEIGHT", 0.5, "MODEL.BUDGET.UNUPDATE_RATE", 0.0]
    more = ["MODEL.LOSS.DICE_WEIGHT", 0.5, "MODEL.AUXILIARY_HEADS.IN_FEATURES", ["layer_2"]]
    half, single = (model_of(*budget, *more).train() for _ in range(2))
    batch = [random_image(64, 64, sem_seg=torch.randint(0, 19, (64, 64))) for _ in range(2)]
    logits_of_gates = []
    for gate in (module.predict for module in half.modules() if isinstance(module, SoftGate)):
        gate.register_forward_hook(lambda _, x, y: logits_of_gates.append((x[0].dtype, y.dtype)))
    ran_in = set()
    half.backbone.stem.conv1.register_forward_hook(lambda _, x, y: ran_in.add(y.dtype))
    with Precision(precision, device=torch.device("cpu")).autocast():
        found = half(batch, step_rate=0.5)
    expected = single(batch, step_rate=0.5)
    assert ran_in == {PRECISIONS[precision]}
    assert set(logits_of_gates) == {(torch.float32, torch.float32)}
    assert {loss.dtype for loss in found[0].values()} == {torch.float32} | {torch.float64}
    assert {value.dtype for name, value in found[1].items() if "flops" in name} == {torch.float64}
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-2)
    for losses, _ in (found, expected):
        sum(losses.values()).backward()
    assert {p.grad.dtype for p in half.parameters()} == {torch.float32}
    assert {b.dtype for b in half.buffers() if b.is_floating_point()} == {torch.float32}
    gradients = [torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (half, single)]
    assert torch.cosine_similarity(*gradients, dim=0) > similarity
