"""Checks of `MODEL` that are about static networks: their features, what they can be built with, what they are not."""

from __future__ import annotations

from dl_lib.layers import NORMS
from dl_lib.modeling.backbones.base import FEATURES, OUTPUT_STRIDES
from dl_lib.modeling.backbones.torchvision_nets import TORCHVISION_NETS
from dl_lib.modeling.conv_replacement import CONV_TYPES
from dl_lib.validation.norms import check_squeeze_norm
from dl_lib.validation.report import Report

__all__ = ["STATIC_MODEL", "check_static_model"]

STATIC_MODEL, ROUTED_MODEL, ROUTED_BACKBONE = "SemanticSegmentor", "DynamicNet4Seg", "DynamicNetwork"
STAGES = ("MODEL.BACKBONE.FROZEN_STAGES", "MODEL.CONV.STAGES")
REXNETS = ("rexnet", "rexnet_lite")
ONLY_ROUTED = {  # key -> what it is about
    "MODEL.BUDGET.CONSTRAIN": "a budget is about routes",
    "MODEL.COMPILE": "only the lattice is compiled",
    "MODEL.ACTIVATION_CHECKPOINTING": "only the lattice's layers are computed twice",
}


def check_static_model(report: Report) -> None:
    """Note what is wrong with a static network; and a static backbone in a routed model."""
    backbone = report.value("MODEL.BACKBONE.NAME")
    architecture = report.value("MODEL.META_ARCHITECTURE")
    if architecture == ROUTED_MODEL and backbone in (*REXNETS, *TORCHVISION_NETS):
        report.add("MODEL.META_ARCHITECTURE", f"{backbone} has no routes", expected=STATIC_MODEL)
    if architecture != STATIC_MODEL:
        if report.value("MODEL.CONV.STAGES"):
            report.add("MODEL.CONV.STAGES", "it is about static backbones; routed ones have CELL_TYPE", expected="[]")
        return
    if backbone == ROUTED_BACKBONE:
        report.add("MODEL.META_ARCHITECTURE", f"{backbone} is a routed network", expected=ROUTED_MODEL)
        return
    for key, why in ONLY_ROUTED.items():
        if report.value(key):
            report.add(key, f"{why}, and {STATIC_MODEL} has none", expected="False")
    _check_features(report)
    _check_conv(report)
    _check_backbone(report, backbone=backbone)


def _check_features(report: Report) -> None:
    for key in ("MODEL.SEM_SEG_HEAD.IN_FEATURES", "MODEL.AUXILIARY_HEADS.IN_FEATURES", *STAGES):
        names = list(report.value(key))
        if names != [name for name in FEATURES if name in names]:
            report.add(key, "static backbones have other ones", expected=f"some of {list(FEATURES)}, in this order")
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


def _check_backbone(report: Report, *, backbone: str) -> None:
    net = TORCHVISION_NETS.get(backbone)
    strides = OUTPUT_STRIDES if net is None else net.output_strides
    if report.value("MODEL.BACKBONE.OUTPUT_STRIDE") not in strides:
        report.add("MODEL.BACKBONE.OUTPUT_STRIDE", f"{backbone} has none", expected=f"one of {list(strides)}")
    if net is not None:
        for key, plain in {"WIDTH_FACTOR": 1.0, "DEPTH_FACTOR": 1.0, "DROP_PROB": 0.0, "SQUEEZE_NORM": ""}.items():
            if report.value(f"MODEL.BACKBONE.{key}") != plain:
                report.add(f"MODEL.BACKBONE.{key}", f"{backbone} has nothing of the kind", expected=repr(plain))
    if backbone == "rexnet":
        own = "MODEL.BACKBONE.SQUEEZE_NORM"
        if report.value(own):
            report.one_of(own, NORMS, what="norm")
        check_squeeze_norm(report, own if report.value(own) else "MODEL.BACKBONE.NORM", inside=backbone)
