"""Optimized copies: outputs, routes and costs of the model."""

import functools
import gc
import shutil
import weakref

import pytest
import torch
from torch import nn

from dl_lib.inference import optimization, optimize
from dl_lib.inference.conv_chain import ConvChain
from dl_lib.layers import conv_norm_act
from dl_lib.modeling import CELL_OPERATIONS
from tests.helpers.published import batch_of
from tests.inference.test_folding import model_with_statistics, outputs_of

CELL_TYPES = [
    ["sep_conv_3x3"],
    ["conv_3x3_basic"],
    ["MBConv_3x3"],
    ["dil_conv_3x3"],
    ["skip_connect"],
    ["sep_conv_3x3", "skip_connect"],
    ["avg_pool_3x3", "Bottleneck_3x3"],
]


def assert_close_logits(output, expected, *, tolerance):
    """Assert that logits differ by at most this fraction of the largest one."""
    scale = expected["sem_seg"].abs().max()
    torch.testing.assert_close(output["sem_seg"] / scale, expected["sem_seg"] / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("execution", ["sparse", "dense"])
@pytest.mark.parametrize("cell_types", CELL_TYPES, ids="+".join)
def test_outputs_and_costs_are_those_of_the_model(cell_types, execution):
    overrides = ["MODEL.BACKBONE.CELL_TYPE", cell_types, "TEST.EXECUTION", execution, "MODEL.CHANNELS_LAST", True]
    model = model_with_statistics(*overrides)
    images = [*batch_of(1), *batch_of(0)]
    expected = outputs_of(model, images)
    outputs = outputs_of(optimize(model), images)
    for output, reference in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output["sem_seg"], reference["sem_seg"], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(output["gates"], reference["gates"], rtol=1e-9, atol=1e-9)
        flops, other = output["flops"], reference["flops"]
        assert flops["executed_flops"] == other["executed_flops"]
        assert flops["real_flops_complete"] == other["real_flops_complete"]
        assert (flops["executed_flops"] == flops["real_flops_complete"]) == (execution == "sparse")
        assert flops["expt_flops"] == pytest.approx(other["expt_flops"], rel=1e-9)
    assert sum(int((output["gates"] == 0).sum()) for output in outputs) > 0


class CustomOperation(nn.Module):
    """Operation that indexes its parts, and ends in ReLU."""

    def __init__(self, channels, *, norm):
        super().__init__()
        self.body = conv_norm_act(channels, channels, 3, norm=norm)

    def forward(self, x):
        return self.body[2](self.body[1](self.body[0](x)))


@pytest.mark.parametrize("make", [CustomOperation, lambda c, *, norm: conv_norm_act(c, c, 3, norm=norm)])
def test_custom_operations(make, monkeypatch):
    monkeypatch.setitem(CELL_OPERATIONS._obj_map, "custom", make)
    model = model_with_statistics("MODEL.BACKBONE.CELL_TYPE", ["custom", "skip_connect"])
    (expected,), (output,) = outputs_of(model, batch_of(1)), outputs_of(optimize(model), batch_of(1))
    torch.testing.assert_close(output["sem_seg"], expected["sem_seg"], rtol=1e-9, atol=1e-9)
    assert output["flops"] == pytest.approx(expected["flops"], rel=1e-12)


@pytest.mark.parametrize("norm", ["BN", "GN"])
def test_float32_with_other_norms(norm):
    model = model_with_statistics("MODEL.BACKBONE.NORM", norm, "MODEL.SEM_SEG_HEAD.NORM", norm).float()
    images = [{"image": batch_of(1)[0]["image"].float()}]
    (expected,), (output,) = outputs_of(model, images), outputs_of(optimize(model), images)
    assert_close_logits(output, expected, tolerance=1e-5)
    assert output["flops"]["executed_flops"] == expected["flops"]["executed_flops"]


def operation_with_repeated_relu(channels, *, norm):
    relu = nn.ReLU()
    convs = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
    return nn.Sequential(convs[0], relu, convs[1], relu, nn.BatchNorm2d(channels))


def test_norms_are_not_folded_over_repeated_modules(monkeypatch):
    monkeypatch.setitem(CELL_OPERATIONS._obj_map, "repeated", operation_with_repeated_relu)
    model = model_with_statistics("MODEL.BACKBONE.CELL_TYPE", ["repeated"])
    (expected,), (output,) = outputs_of(model, batch_of(1)), outputs_of(optimize(model), batch_of(1))
    torch.testing.assert_close(output["sem_seg"], expected["sem_seg"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_compiled_copies(precision, monkeypatch):
    # Test for graph breaks only; inductor is tested by torch.
    run_eagerly = functools.partial(torch.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", run_eagerly)
    monkeypatch.setattr(optimization, "has_bfloat16", lambda device: True)
    model = model_with_statistics().float()
    images = [{"image": batch_of(1)[0]["image"].float()}]
    (expected,), (output,) = (
        outputs_of(m, images) for m in (model, optimize(model, precision=precision, compile=True))
    )
    tolerance = 1e-5 if precision == "float32" else 0.05
    torch.testing.assert_close(output["gates"], expected["gates"], rtol=0, atol=tolerance)
    assert_close_logits(output, expected, tolerance=tolerance)
    assert output["flops"]["executed_flops"] > expected["flops"]["executed_flops"], "closed cells run, too"


CHAIN = [f"layer{layer}_stride4.keep" for layer in range(4)]


@pytest.mark.parametrize(
    "overrides",
    [
        ["MODEL.GATE.GATE_ON", False],
        ["MODEL.BACKBONE.ROUTE", [*CHAIN[:-1], "layer3_stride4.pass", "layer4_stride4.keep=0.5"]],
        ["MODEL.BACKBONE.ROUTE", [*CHAIN, "layer4_stride4.keep=gate"]],
    ],
    ids=["without gates", "fixed route", "partly learned route"],
)
def test_compiled_routes_have_no_graph_breaks(overrides, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True))
    model = model_with_statistics(*overrides).float()
    images = [{"image": batch_of(1)[0]["image"].float()}]
    (expected,), (output,) = outputs_of(model, images), outputs_of(optimize(model, compile=True), images)
    assert_close_logits(output, expected, tolerance=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_by_inductor():
    two_layers = ["MODEL.BACKBONE.CELL_NUM_LIST", [1, 2], "MODEL.BACKBONE.LAYER_NUM", 2]
    features = ["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1"]]
    model = model_with_statistics(*two_layers, *features).float()
    images = [{"image": batch_of(1)[0]["image"].float()}]
    (expected,), (output,) = outputs_of(model, images), outputs_of(optimize(model, compile=True), images)
    assert_close_logits(output, expected, tolerance=1e-5)


@pytest.mark.parametrize("cell_type", ["sep_conv_3x3", "dyn_conv_3x3", "sac_3x3", "rex_block_3x3"])
def test_bfloat16(cell_type, monkeypatch):
    monkeypatch.setattr(optimization, "has_bfloat16", lambda device: True)
    model = model_with_statistics("MODEL.BACKBONE.CELL_TYPE", [cell_type]).float()
    images = [{"image": image["image"].float()} for image in (*batch_of(0), *batch_of(1))]
    optimized = optimize(model, precision="bf16")
    for output, expected in zip(outputs_of(optimized, images), outputs_of(model, images), strict=True):
        assert output["sem_seg"].dtype == output["gates"].dtype == torch.float32
        torch.testing.assert_close(output["gates"], expected["gates"], rtol=0, atol=0.05)
        assert_close_logits(output, expected, tolerance=0.05)
        assert not (output["sem_seg"] == output["sem_seg"].bfloat16()).all(), "the logits are resized in float32"
    dtypes = {p.dtype: n for n, p in optimized.named_parameters()}
    assert set(dtypes) == {torch.float32, torch.bfloat16}
    assert "gate.predict" in dtypes[torch.float32]
    assert model.state_dict()["sem_seg_head.predictor.weight"].dtype == torch.float32


def test_bfloat16_is_refused_where_it_is_slow(monkeypatch):
    monkeypatch.setattr(optimization, "has_bfloat16", lambda device: False)
    with pytest.raises(ValueError, match=r"must be float32: bf16 needs .*Received: precision=bf16, device=cpu$"):
        optimize(model_with_statistics(), precision="bf16")


def test_unknown_precisions_are_refused():
    with pytest.raises(ValueError, match=r"must be float32 or bf16\. Received: precision=bfloat16$"):
        optimize(model_with_statistics(), precision="bfloat16")


def test_parts_of_models_are_refused():
    with pytest.raises(TypeError, match=r"give it the whole model.*Received: DynamicNetwork$"):
        optimize(model_with_statistics().backbone)


def test_the_copy_does_not_keep_the_model_alive():
    model = model_with_statistics()
    table, alive = model.costs.table(128, 256), weakref.ref(model.backbone)
    optimized = optimize(model)
    del model
    gc.collect()
    assert alive() is None
    assert optimized.costs.table(128, 256) is table
    assert optimized.costs.table(64, 128).dense < table.dense


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(value):
    model = model_with_statistics()
    name, parameter = list(model.named_parameters())[7]
    with torch.no_grad():
        parameter.view(-1)[-1] = value
    with pytest.raises(ValueError, match=f"must be finite.*Received: {name}"):
        optimize(model)


def test_the_model_is_unchanged_and_the_copy_is_fused():
    model = model_with_statistics()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    optimized = optimize(model)
    assert model.training and not any(module.training for module in optimized.modules())
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in optimized.parameters())
    assert isinstance(optimized.backbone.stem, ConvChain)
    # Only the class predictor and the last convolution of each gate are not in a chain.
    in_chains = sum(len(m.links) for m in optimized.modules() if isinstance(m, ConvChain))
    convs = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert convs - in_chains == 1 + len(model.backbone.cells)
