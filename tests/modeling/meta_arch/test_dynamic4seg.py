"""Public interface of `DynamicNet4Seg`: parts, outputs at the requested size, costs per image, losses, precision."""

import json
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dl_lib.config import get_cfg
from dl_lib.engine.training.precision import PRECISIONS, Precision
from dl_lib.modeling import DynamicNet4Seg, build_model
from dl_lib.modeling.dynamic.gate import SoftGate
from tests.helpers.published import REFERENCE, SETTINGS, batch_of, build_case
from tests.helpers.tiny_model import model_of, random_image

FLOPS = {"expt_flops", "real_flops", "real_flops_complete", "executed_flops"}


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
