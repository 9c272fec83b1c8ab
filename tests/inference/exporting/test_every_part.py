"""Exported networks of every cell operation, backbone, head and convolution type compute the outputs of the model."""

import onnx
import onnxruntime
import pytest
import torch

from dl_lib.config import get_cfg
from dl_lib.inference.exporting.network import ExportedNetwork
from dl_lib.inference.exporting.onnx_file import to_onnx
from dl_lib.inference.exporting.tracing import trace
from dl_lib.layers import SAConv2d
from dl_lib.modeling import BACKBONE_REGISTRY, CELL_OPERATIONS, build_model
from dl_lib.modeling.backbones.conv_replacement import CONV_TYPES
from dl_lib.modeling.build import SEM_SEG_HEADS_REGISTRY
from dl_lib.modeling.dynamic.forced_gates import gates_of
from dl_lib.modeling.dynamic.routing import Unreached
from tests.helpers.routes import randomize_norms
from tests.helpers.tiny_model import model_of, random_image

SIZE = (61, 80)  # not a multiple of the strides
ROUTED = [
    *("MODEL.BACKBONE.LAYER_NUM", 1, "MODEL.BACKBONE.CELL_NUM_LIST", [1], "MODEL.BACKBONE.MAX_STRIDE", 4),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0"]),
]
# Backbone, head, and type and kernels of the replaced convolutions.
STATIC = [
    ("rexnet", "SemanticFPNHead", "CondConv", "1x1"),
    ("rexnet_lite", "ASPPHead", None, None),
    ("resnet18", "SemSegDecoderHead", "SAC", "larger"),
    ("resnet34", "SemanticFPNHead", "ConvAWS", "larger"),
    ("resnet50", "ASPPHead", "SPConv", "larger"),
    ("resnet101", "SemSegDecoderHead", None, None),
    ("mobilenet_v3_small", "SemanticFPNHead", "DynamicConv", "larger"),
    ("mobilenet_v3_large", "SemSegDecoderHead", "SAC", "larger"),
]
NAMES = {*dict(CELL_OPERATIONS)}
MIXED = {name for name in NAMES if name.startswith(("cond_", "dyn_"))}  # temperature 30
LARGER = {name for name in NAMES if name.endswith(("5x5", "7x7"))}
OPERATIONS = {"plain": (NAMES - MIXED - LARGER, "BN"), "mixed": (MIXED, "BN"), "larger": (LARGER, "SyncBN")}
# Fixed and learned gates in one cell, a closed edge, and a cell that passes its input on.
PARTLY_LEARNED = ["layer0_stride4.keep=0.25", "layer0_stride4.down=gate", "layer1_stride4.keep=gate"]
PARTLY_LEARNED += ["layer1_stride8.up=gate", "layer1_stride8.keep=0.5", "layer2_stride4.pass", "layer2_stride8.keep"]


def test_every_registered_part_is_tested():
    backbones, heads, convs, _ = map(set, zip(*STATIC, strict=True))
    assert backbones | {"DynamicNetwork"} == set(dict(BACKBONE_REGISTRY))
    assert heads == set(dict(SEM_SEG_HEADS_REGISTRY))
    assert convs - {None} == set(CONV_TYPES)


@pytest.mark.parametrize(("operations", "norm"), OPERATIONS.values(), ids=OPERATIONS)
def test_cell_operations(operations, norm):
    check(model_of(*ROUTED, "MODEL.BACKBONE.CELL_TYPE", sorted(operations), "MODEL.BACKBONE.NORM", norm))


@pytest.mark.parametrize("policy", [policy.value for policy in Unreached])
def test_partly_learned_routes(policy):
    route = ["MODEL.BACKBONE.LAYER_NUM", 2, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3], "MODEL.BACKBONE.MAX_STRIDE", 16]
    route += ["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1"], "MODEL.BACKBONE.ROUTE", PARTLY_LEARNED]
    model = model_of(*route, "MODEL.GATE.UNREACHED", policy)
    for gate in gates_of(model.backbone):
        torch.nn.init.normal_(gate.predict.bias)
    check(model)


@pytest.mark.parametrize(("backbone", "head", "conv", "kernels"), STATIC)
def test_static_networks(backbone, head, conv, kernels):
    # The mean of a feature map is a single value, which GN cannot normalize.
    features, head_norm = (["c3"], "BN") if head == "ASPPHead" else (["c2", "c3"], "GN")
    overrides = [
        *("MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.DEVICE", "cpu", "MODEL.BUDGET.CONSTRAIN", False),
        *("MODEL.BACKBONE.NAME", backbone, "MODEL.BACKBONE.NORM", "BN", "MODEL.SEM_SEG_HEAD.NAME", head),
        *("MODEL.SEM_SEG_HEAD.IN_FEATURES", features, "MODEL.SEM_SEG_HEAD.NORM", head_norm),
        *("MODEL.SEM_SEG_HEAD.CHANNELS", 16),
    ]
    if conv:
        overrides += ["MODEL.CONV.TYPE", conv, "MODEL.CONV.STAGES", ["c3"], "MODEL.CONV.KERNELS", [kernels]]
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_list(overrides)
    check(build_model(cfg))


def test_deformable_convolutions():
    model = model_of(*ROUTED)
    model.backbone.stem.conv2 = conv = SAConv2d(64, 64, 3, padding=1, use_deform=True)
    for offset in (conv.offset_s, conv.offset_l):
        torch.nn.init.normal_(offset.weight, std=0.1)
    check(model)


def check(model):
    """Compare a model with its exported network in ONNX Runtime."""
    randomize_norms(model.eval())
    network = ExportedNetwork(model)
    exported = to_onnx(trace(network, SIZE), output_names=network.output_names)
    onnx.checker.check_model(exported)
    inputs = random_image(*SIZE)
    with torch.no_grad():
        (expected,) = model([inputs])
    normalized = (inputs["image"] - model.pixel_mean) / model.pixel_std
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    (found,) = session.run(None, {"image": normalized[None].numpy()})
    scale = expected["sem_seg"].abs().max().item()
    torch.testing.assert_close(torch.from_numpy(found[0]), expected["sem_seg"], rtol=0, atol=1e-4 * scale)
