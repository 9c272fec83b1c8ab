"""Checks of `MODEL` that are about static networks: their features, what they can be built with, what they are not."""

from __future__ import annotations

from collections.abc import Iterable

from dl_lib.config import get_cfg
from dl_lib.layers import NORMS
from dl_lib.modeling.backbones.base import FEATURES, OUTPUT_STRIDES, feature_stride
from dl_lib.modeling.backbones.conv_replacement import CONV_KERNELS, CONV_TYPES
from dl_lib.modeling.backbones.torchvision_nets import TORCHVISION_NETS
from dl_lib.validation.norms import check_squeeze_norm
from dl_lib.validation.report import Report

__all__ = ["STATIC_MODEL", "check_static_model", "static_coarsest_stride", "static_logits_stride"]

STATIC_MODEL, ROUTED_MODEL, ROUTED_BACKBONE = "SemanticSegmentor", "DynamicNet4Seg", "DynamicNetwork"
STAGES = ("MODEL.BACKBONE.FROZEN_STAGES", "MODEL.CONV.STAGES")
CONV = ("MODEL.CONV.STAGES", "MODEL.CONV.TYPE", "MODEL.CONV.KERNELS")
REXNET_ONLY = tuple(f"MODEL.BACKBONE.{key}" for key in ("WIDTH_FACTOR", "DEPTH_FACTOR", "DROP_PROB", "SQUEEZE_NORM"))
REXNETS = ("rexnet", "rexnet_lite")
HEADS_OF_FINEST = ("SemSegDecoderHead", "SemanticFPNHead", "ASPPHead")  # predict at the first of their features
LOOKED_AT = ("MODEL.SEM_SEG_HEAD.IN_FEATURES", "MODEL.AUXILIARY_HEADS.IN_FEATURES")


def check_static_model(report: Report) -> None:
    """Note what is wrong with a static network; and a static backbone in a routed model."""
    backbone = report.value("MODEL.BACKBONE.NAME")
    architecture = report.value("MODEL.META_ARCHITECTURE")
    if architecture == ROUTED_MODEL and backbone in (*REXNETS, *TORCHVISION_NETS):
        report.add("MODEL.META_ARCHITECTURE", f"{backbone} has no routes", expected=STATIC_MODEL)
    if architecture != STATIC_MODEL:
        for key, default in _changed(report, CONV):
            report.add(key, "it is about static backbones; routed ones have CELL_TYPE", expected=repr(default))
        return
    if backbone == ROUTED_BACKBONE:
        report.add("MODEL.META_ARCHITECTURE", f"{backbone} is a routed network", expected=ROUTED_MODEL)
        return
    if report.value("MODEL.BUDGET.CONSTRAIN"):
        report.add("MODEL.BUDGET.CONSTRAIN", f"a budget is about routes, and {STATIC_MODEL} has none", expected="False")
    _check_features(report)
    _check_conv(report)
    _check_backbone(report, backbone=backbone)


def _changed(report: Report, keys: Iterable[str]) -> list[tuple[str, object]]:
    """The keys whose values are not the defaults, and these."""
    defaults = get_cfg().flat()
    return [(key, defaults[key]) for key in keys if report.value(key) != defaults[key]]


def static_coarsest_stride(report: Report) -> int | None:
    """Stride of the coarsest feature of a static network; None where it is not known."""
    built = _built_features(report)
    return _stride(report, built[-1]) if built else None


def static_logits_stride(report: Report) -> int | None:
    """Stride at which a static network's head predicts; None where it is not known."""
    names = report.value("MODEL.SEM_SEG_HEAD.IN_FEATURES")
    known = report.value("MODEL.SEM_SEG_HEAD.NAME") in HEADS_OF_FINEST and names and _built_features(report)
    return _stride(report, names[0]) if known else None


def _stride(report: Report, feature: str) -> int | None:
    return feature_stride(feature, output_stride=report.value("MODEL.BACKBONE.OUTPUT_STRIDE")) or None


def _built_features(report: Report) -> tuple[str, ...]:
    """What the backbone is built up to: the last feature that a head looks at; none where names are wrong."""
    names = {name for key in LOOKED_AT for name in report.value(key)}
    if not names or not names <= set(FEATURES):
        return ()  # noted elsewhere
    return FEATURES[: 1 + max(map(FEATURES.index, names))]


def _check_features(report: Report) -> None:
    for key in (*LOOKED_AT, *STAGES):
        names = list(report.value(key))
        if names != [name for name in FEATURES if name in names]:
            known = set(names) <= set(FEATURES)
            wrong = "they have an order, and each its place once" if known else "static backbones have other ones"
            report.add(key, wrong, expected=f"some of {list(FEATURES)}, in this order")
    built = _built_features(report)
    for key in STAGES:
        beyond = [name for name in report.value(key) if built and name in FEATURES and name not in built]
        if beyond:
            report.add(
                key,
                f"no head looks at {beyond[0]} or what follows from it, so that it is not built",
                expected=f"some of {list(built)}",
                mend=f"or name {beyond[-1]} in MODEL.SEM_SEG_HEAD.IN_FEATURES",
            )
    head, features = report.value("MODEL.SEM_SEG_HEAD.NAME"), report.value("MODEL.SEM_SEG_HEAD.IN_FEATURES")
    if head == "ASPPHead":
        if len(features) != 1:
            report.add("MODEL.SEM_SEG_HEAD.IN_FEATURES", "ASPPHead looks at one feature", expected="one, such as [c5]")
        check_squeeze_norm(report, "MODEL.SEM_SEG_HEAD.NORM", inside=head)
    elif not features:
        report.add("MODEL.SEM_SEG_HEAD.IN_FEATURES", "a head looks at a feature at least", expected=str(list(FEATURES)))


def _check_conv(report: Report) -> None:
    stages, conv_type = report.value("MODEL.CONV.STAGES"), report.value("MODEL.CONV.TYPE")
    if stages:
        report.one_of("MODEL.CONV.TYPE", CONV_TYPES, what="type of convolution")
    elif conv_type:
        report.add("MODEL.CONV.TYPE", "MODEL.CONV.STAGES=[] replaces nothing", mend="name stages, such as [c4, c5]")
    kernels = report.value("MODEL.CONV.KERNELS")
    unknown = [name for name in kernels if name not in CONV_KERNELS]
    if unknown or not kernels or len(set(kernels)) < len(kernels):
        wrong = (
            f"there are no convolutions called {unknown[0]}" if unknown else "each kind is named once, and one at least"
        )
        report.add("MODEL.CONV.KERNELS", wrong, expected=f"some of {list(CONV_KERNELS)}")
    elif not stages and _changed(report, ["MODEL.CONV.KERNELS"]):
        report.add("MODEL.CONV.KERNELS", "MODEL.CONV.STAGES=[] replaces nothing", mend="name stages, such as [c4, c5]")
    if conv_type == "SPConv" and "squeeze" in kernels:
        check_squeeze_norm(report, "MODEL.BACKBONE.NORM", inside="SPConv in squeeze-and-excitation")


def _check_backbone(report: Report, *, backbone: str) -> None:
    net = TORCHVISION_NETS.get(backbone)
    strides = OUTPUT_STRIDES if net is None else net.output_strides
    if report.value("MODEL.BACKBONE.OUTPUT_STRIDE") not in strides:
        report.add("MODEL.BACKBONE.OUTPUT_STRIDE", f"{backbone} has none", expected=f"one of {list(strides)}")
    if net is not None:
        for key, default in _changed(report, REXNET_ONLY):
            report.add(key, f"{backbone} has nothing of the kind", expected=repr(default))
    if backbone == "rexnet":
        own = "MODEL.BACKBONE.SQUEEZE_NORM"
        if report.value(own):
            report.one_of(own, NORMS, what="norm")
        check_squeeze_norm(report, own if report.value(own) else "MODEL.BACKBONE.NORM", inside=backbone)
