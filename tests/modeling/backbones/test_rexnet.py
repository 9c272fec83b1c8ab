"""ReXNet against reference values of the public implementation (github.com/clovaai/rexnet 61debcc) and against timm.

Figures: float64 on a CPU, torch 2.13.0; weights and inputs by formula, see tests/helpers/layer_references.py.
"""

import json

import pytest
import timm
import torch
from torch import nn

from dl_lib.checkpoint.conversion.classifiers import translate_classifier
from dl_lib.checkpoint.weights import load_weights
from dl_lib.modeling.backbones.rexnet import ReXNet
from dl_lib.modeling.backbones.rexnet_classifier import ReXNetClassifier
from dl_lib.modeling.backbones.rexnet_plan import plan_rexnet
from dl_lib.modeling.costs.counters import count_madds
from tests.helpers.layer_references import OPS, figures, fill, input_of

CONFIGS = json.loads((OPS / "rexnet" / "configs.json").read_text())
STRIDES = {"c1": "s2", "c2": "s4", "c3": "s8", "c4": "s16", "c5": "s32"}


def published_weights(kind):
    shapes = json.loads((OPS / "rexnet" / "state_dict_w1.0.json").read_text())[kind]
    return {key: fill(key, shape) for key, shape in shapes.items()}


def filled(kind, **options):
    model = ReXNetClassifier(lite=kind == "lite", **options)
    load_weights(model, published_weights(kind), path="published")
    return model.double()


def convolution_madds(module, *shape):
    """Return the multiply-adds of convolutions only, as in the reference values."""
    total = 0

    def count(conv, x, y):
        nonlocal total
        total += count_madds(conv, x[0], y)

    handles = [conv.register_forward_hook(count) for conv in module.modules() if isinstance(conv, nn.Conv2d)]
    module.eval()(torch.empty(shape, device="meta"))
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize("name", CONFIGS)
def test_shapes_parameters_and_costs_of_every_width(name):
    expected, (kind, width) = CONFIGS[name], name.split("_")
    options = {"width": float(width), "lite": kind == "lite"}
    plan = plan_rexnet(**options)
    assert (plan.stem, plan.penultimate) == (expected["stem"], expected["pen"])
    assert [block.out_channels for block in plan.blocks] == expected["channels"]
    assert [block.expanded for block in plan.blocks] == expected["exp"]
    assert [block.squeezed or None for block in plan.blocks] == expected["se_hidden"]
    assert [block.stride for block in plan.blocks] == expected["strides"]
    assert [block.adds_input for block in plan.blocks] == expected["shortcut"]
    with torch.device("meta"):
        model = ReXNetClassifier(**options)
    pyramid = {STRIDES[name]: shape.channels for name, shape in model.backbone.output_shapes.items()}
    assert pyramid == expected["pyramid"]
    assert sum(p.numel() for p in model.parameters()) == expected["params"]
    assert sum(p.numel() for p in model.backbone.parameters()) == expected["backbone_params_no_pen"]
    assert convolution_madds(model, 1, 3, 224, 224) == expected["macs224"]
    assert convolution_madds(model.backbone, 1, 3, 224, 224) == expected["backbone_macs224_no_pen"]


def test_features_and_logits_match_reference_values():
    model, expected = filled("v1").eval(), figures("rexnet", "eval_v1_w1.0_64x96")
    with torch.no_grad():
        x = input_of("rexnet64x96", (1, 3, 64, 96)).double()
        features, logits = model.backbone(x), model(x)
    for name, values in features.items():
        torch.testing.assert_close(values.float(), expected[STRIDES[name]], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits.float(), expected["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["v1", "lite"])
def test_training_step_matches_reference_values(kind):
    expected = json.loads((OPS / "rexnet" / "train_w1.0.json").read_text())[kind]
    own_names = {
        reference: key for key, reference in translate_classifier(published_weights(kind)).original_names.items()
    }
    model = filled(kind, dropout=0.0).train()
    loss = model(input_of("rexnet_train", (4, 3, 64, 64)).double()).square().mean()
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-9)
    gradients = {key: p.grad.norm().item() for key, p in model.named_parameters()}
    assert {own_names[key] for key in expected["grad_l2"]} == set(gradients)
    for key, norm in expected["grad_l2"].items():
        assert gradients[own_names[key]] == pytest.approx(norm, rel=1e-7, abs=1e-12), key
    state = model.state_dict()
    for key, norm in expected["bn_after"].items():
        assert state[own_names[key]].double().norm().item() == pytest.approx(norm, rel=1e-9), key


def own_and_timm(width):
    """Return own and timm model with equal weights, in float64, without dropout."""
    reference = timm.create_model(f"rexnet_{width}", drop_rate=0.0).double()
    with torch.device("meta"):
        model = ReXNetClassifier(width=width / 100, dropout=0.0)
    model = model.double().to_empty(device="cpu")
    load_weights(model, reference.state_dict(), path="timm")
    return model, reference


@pytest.mark.parametrize("width", [100, 130, 150, 200, 300])
def test_timm_weights_load_and_logits_match(width):
    model, reference = own_and_timm(width)
    x = torch.randn(1, 3, 65, 33, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), reference.eval()(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("width", [100, 150])
def test_training_step_matches_timm(width):
    model, reference = own_and_timm(width)
    x = torch.randn(2, 3, 33, 31, dtype=torch.float64)
    losses = [one.train()(x).square().mean() for one in (model, reference)]
    torch.testing.assert_close(*losses, rtol=1e-9, atol=0.0)
    for loss in losses:
        loss.backward()
    names = translate_classifier(dict(reference.named_parameters())).original_names
    gradients = {key: p.grad for key, p in reference.named_parameters()}
    for key, p in model.named_parameters():
        torch.testing.assert_close(p.grad, gradients[names[key]].view_as(p), rtol=1e-6, atol=1e-9, msg=key)


@pytest.mark.parametrize(("output_stride", "gmacs"), [(32, 0.398), (16, 0.636), (8, 2.020)])
def test_costs_of_every_output_stride(output_stride, gmacs):
    with torch.device("meta"):
        model = ReXNetClassifier()
        plan = plan_rexnet(output_stride=output_stride)
        model.backbone = ReXNet(plan, output_stride=output_stride)
    assert convolution_madds(model, 1, 3, 224, 224) / 1e9 == pytest.approx(gmacs, abs=5e-4)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_features_match_timm(output_stride):
    reference = timm.create_model("rexnet_100", features_only=True, output_stride=output_stride).double().eval()
    model = ReXNet(plan_rexnet(output_stride=output_stride), output_stride=output_stride).double().eval()
    names = {key.replace("features_", "features."): value for key, value in reference.state_dict().items()}
    names = {key.replace("stem_", "stem."): value for key, value in names.items()}
    weights = translate_classifier(names).weights
    model.load_state_dict({key.removeprefix("backbone."): value for key, value in weights.items()})
    x = torch.randn(1, 3, 65, 97, dtype=torch.float64)
    with torch.no_grad():
        for features, other in zip(model(x).values(), reference(x), strict=True):
            torch.testing.assert_close(features, other, rtol=1e-10, atol=1e-10)


def test_depth_multiplier():
    plan = plan_rexnet(depth=1.5)
    assert len(plan.blocks) == 2 + 3 + 3 + 5 + 5 + 8
    assert plan.last_blocks == {"c1": 1, "c2": 4, "c3": 7, "c4": 17, "c5": 25}
    assert [block.expanded == block.in_channels for block in plan.blocks[:3]] == [True, True, False]


def test_drop_path_rises_with_depth_and_preserves_the_shortcut():
    model = ReXNet(plan_rexnet(width=0.25), drop_prob=0.999999)
    assert [block.drop_prob for block in model.blocks] == pytest.approx([0.999999 * i / 15 for i in range(16)])
    block = model.blocks[-1].train()
    x = torch.randn(4, block.plan.in_channels, 4, 4)
    y = block(x)
    torch.testing.assert_close(y[:, : x.shape[1]], x)
    assert not y[:, x.shape[1] :].any()
    model.truncate(["c4"])
    assert [block.drop_prob for block in model.blocks] == pytest.approx([0.999999 * i / 10 for i in range(11)])
