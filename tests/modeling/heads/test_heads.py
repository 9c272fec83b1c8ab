"""Segmentation heads against reference costs and torchvision modules."""

import pytest
import torch
import torchvision

from dl_lib.layers import ShapeSpec
from dl_lib.modeling import ASPPHead, SemanticFPNHead, SemSegDecoderHead
from dl_lib.modeling.costs.counters import MaddsObserver

HEADS = {
    "decoder": lambda shapes: SemSegDecoderHead(shapes, num_classes=5, norm="BN"),
    "fpn": lambda shapes: SemanticFPNHead(shapes, num_classes=5, channels=8, norm="BN"),
    "aspp": lambda shapes: ASPPHead(shapes["c5"], in_feature="c5", num_classes=5, channels=8, norm="BN"),
}


def shapes_of(channels, strides=(4, 8, 16, 32)):
    names = ("c2", "c3", "c4", "c5")
    return {name: ShapeSpec(c, stride) for name, c, stride in zip(names, channels, strides, strict=True)}


def maps_of(shapes, height, width, **options):
    return {
        name: torch.randn(2, shape.channels, height // shape.stride, width // shape.stride, **options)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize(("channels", "madds"), [(64, 16_297_492_480), (128, 63_699_943_424)])
def test_cost_of_the_fpn_head(channels, madds):
    """The feature shapes are those of ReXNet 1.0."""
    shapes = shapes_of((38, 61, 128, 185))
    with torch.device("meta"):
        head = SemanticFPNHead(shapes, num_classes=19, channels=channels, norm="BN")
    with MaddsObserver(2) as observer:
        head(maps_of(shapes, 1024, 2048, device="meta"))
    assert observer.madds == [madds] * 2


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (4, 8, 8, 8)])
@pytest.mark.parametrize("name", HEADS)
def test_logits_have_the_head_stride_and_all_parameters_receive_gradients(name, strides):
    shapes = shapes_of((6, 8, 10, 12), strides)
    head = HEADS[name](shapes)
    logits = head(maps_of(shapes, 64, 96))
    assert head.stride == (strides[-1] if name == "aspp" else 4)
    assert logits.shape == (2, 5, 64 // head.stride, 96 // head.stride)
    assert head.to_input_size(logits).shape == (2, 5, 64, 96)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in head.parameters())


def test_fpn_head_matches_torchvision():
    """The reference is torchvision's feature pyramid, followed by the head's own levels."""
    shapes = shapes_of((6, 8, 10, 12))
    head = HEADS["fpn"](shapes).double().eval()
    peer = torchvision.ops.FeaturePyramidNetwork([6, 8, 10, 12], 8).double()
    for name, inner, layer in zip(shapes, peer.inner_blocks, peer.layer_blocks, strict=True):
        inner[0].load_state_dict(head.lateral[name].state_dict())
        layer[0].load_state_dict(head.output[name].state_dict())
    features = maps_of(shapes, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = sum(head.levels[name](x) for name, x in peer(features).items())
        torch.testing.assert_close(head(features), head.predictor(expected))


@pytest.mark.parametrize(("stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18))])
def test_aspp_head_matches_torchvision(stride, rates):
    head = ASPPHead(ShapeSpec(6, stride), in_feature="c5", num_classes=5, channels=256, norm="BN").double().eval()
    peer = torchvision.models.segmentation.deeplabv3.ASPP(6, rates).double().eval()
    peer.load_state_dict(dict(zip(peer.state_dict(), list(head.state_dict().values())[:-2], strict=True)))
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(head({"c5": x}), head.predictor(peer(x)))
