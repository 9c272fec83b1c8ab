"""Rules for static networks: features, stages, replaced convolutions and backbone options."""

from __future__ import annotations

from collections.abc import Iterable

from dl_lib.config.declarations import KEYS
from dl_lib.modeling.backbones.base import FEATURES, feature_stride
from dl_lib.modeling.backbones.torchvision_nets import TORCHVISION_NETS
from dl_lib.validation.norms import check_squeeze_norm
from dl_lib.validation.report import Report

__all__ = ["ROUTED_BACKBONE", "STATIC_MODEL", "check_static_model", "static_coarsest_stride", "static_logits_stride"]

STATIC_MODEL, ROUTED_MODEL, ROUTED_BACKBONE = "SemanticSegmentor", "DynamicNet4Seg", "DynamicNetwork"
_REXNETS = ("rexnet", "rexnet_lite")
_REXNET_KEYS = tuple(f"MODEL.BACKBONE.{key}" for key in ("WIDTH_FACTOR", "DEPTH_FACTOR", "DROP_PROB", "SQUEEZE_NORM"))
_CONV_KEYS = ("MODEL.CONV.STAGES", "MODEL.CONV.TYPE", "MODEL.CONV.KERNELS")
_STAGE_KEYS = ("MODEL.BACKBONE.FROZEN_STAGES", "MODEL.CONV.STAGES")
_FEATURE_KEYS = ("MODEL.SEM_SEG_HEAD.IN_FEATURES", "MODEL.AUXILIARY_HEADS.IN_FEATURES")
_FINEST_FEATURE_HEADS = ("SemSegDecoderHead", "SemanticFPNHead", "ASPPHead")  # logits have the stride of the first one


def check_static_model(report: Report) -> None:
    """Report problems with a static network, and with a static backbone in a routed model."""
    backbone = report.value("MODEL.BACKBONE.NAME")
    architecture = report.value("MODEL.META_ARCHITECTURE")
    if architecture == ROUTED_MODEL and backbone in (*_REXNETS, *TORCHVISION_NETS):
        report.add("MODEL.META_ARCHITECTURE", f"must be {STATIC_MODEL} with the static backbone {backbone}")
    if architecture != STATIC_MODEL:
        _require_defaults(report, _CONV_KEYS, why="without a static backbone; routed networks have CELL_TYPE")
        return
    if backbone == ROUTED_BACKBONE:
        report.add("MODEL.META_ARCHITECTURE", f"must be {ROUTED_MODEL} with the routed backbone {backbone}")
        return
    if report.value("MODEL.BUDGET.CONSTRAIN"):
        report.add("MODEL.BUDGET.CONSTRAIN", f"must be False with {STATIC_MODEL}, which has a constant cost")
    _check_features(report)
    _check_stages(report)
    _check_conv(report)
    _check_backbone(report, backbone=backbone)


def static_coarsest_stride(report: Report) -> int | None:
    """Return the stride of the coarsest feature map of a static network; None if it is unknown."""
    built = _built_features(report)
    return _stride(report, built[-1]) if built else None


def static_logits_stride(report: Report) -> int | None:
    """Return the stride of the logits of a static network; None if it is unknown."""
    names = report.value("MODEL.SEM_SEG_HEAD.IN_FEATURES")
    known = report.value("MODEL.SEM_SEG_HEAD.NAME") in _FINEST_FEATURE_HEADS and names and _built_features(report)
    return _stride(report, names[0]) if known else None


def _require_defaults(report: Report, keys: Iterable[str], *, why: str) -> None:
    for key in keys:
        default = KEYS[key].default
        if report.value(key) != default:
            report.add(key, f"must be {default!r} {why}")


def _stride(report: Report, feature: str) -> int | None:
    return feature_stride(feature, output_stride=report.value("MODEL.BACKBONE.OUTPUT_STRIDE")) or None


def _built_features(report: Report) -> tuple[str, ...]:
    """Return the features up to the last one that a head uses; empty if a name is unknown."""
    names = {name for key in _FEATURE_KEYS for name in report.value(key)}
    if not names or not names <= set(FEATURES):
        return ()  # reported by `_check_features`
    return FEATURES[: 1 + max(map(FEATURES.index, names))]


def _check_features(report: Report) -> None:
    for key in _FEATURE_KEYS:
        names = list(report.value(key))
        if names != [name for name in FEATURES if name in names]:
            report.add(key, f"must contain some of {list(FEATURES)}, in this order and each at most once")
    key, head = "MODEL.SEM_SEG_HEAD.IN_FEATURES", report.value("MODEL.SEM_SEG_HEAD.NAME")
    features = report.value(key)
    if head == "ASPPHead":
        if len(features) != 1:
            report.add(key, "must contain one feature with ASPPHead, such as [c5]")
        check_squeeze_norm(report, "MODEL.SEM_SEG_HEAD.NORM", inside=head)
    elif not features:
        report.add(key, f"must contain at least one of {list(FEATURES)}")


def _check_stages(report: Report) -> None:
    built = _built_features(report)
    for key in _STAGE_KEYS:
        beyond = [name for name in report.value(key) if built and name in FEATURES and name not in built]
        if beyond:
            report.add(
                key,
                f"must contain only stages from {list(built)}: no head uses {beyond[0]} or later features, so they are "
                f"not built; alternatively, add {beyond[-1]} to MODEL.SEM_SEG_HEAD.IN_FEATURES",
            )


def _check_conv(report: Report) -> None:
    stages, conv_type, kernels = map(report.value, _CONV_KEYS)
    if not stages:
        _require_defaults(report, _CONV_KEYS, why="with MODEL.CONV.STAGES=[]; name stages, such as [c4, c5]")
    elif not conv_type:
        report.add("MODEL.CONV.TYPE", f"must name a convolution layer with MODEL.CONV.STAGES={stages}")
    if conv_type == "SPConv" and "squeeze" in kernels:
        check_squeeze_norm(report, "MODEL.BACKBONE.NORM", inside="SPConv in squeeze-and-excitation")


def _check_backbone(report: Report, *, backbone: str) -> None:
    if (net := TORCHVISION_NETS.get(backbone)) is not None:
        if report.value("MODEL.BACKBONE.OUTPUT_STRIDE") not in net.output_strides:
            report.add("MODEL.BACKBONE.OUTPUT_STRIDE", f"must be one of {list(net.output_strides)} with {backbone}")
        _require_defaults(report, _REXNET_KEYS, why=f"with {backbone}; only ReXNet supports it")
    if backbone == "rexnet":
        own = "MODEL.BACKBONE.SQUEEZE_NORM"
        check_squeeze_norm(report, own if report.value(own) else "MODEL.BACKBONE.NORM", inside=backbone)
