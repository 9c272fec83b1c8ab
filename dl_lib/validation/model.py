"""Checks of `MODEL`: the lattice and what hangs on it, the head, the gates, the budget."""

from __future__ import annotations

import re

import torch

from dl_lib.layers import NORMS
from dl_lib.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.network import check_layer_num
from dl_lib.modeling.dynamic.ops import CELL_OPERATIONS
from dl_lib.modeling.meta_arch.dynamic4seg import check_dense_cost
from dl_lib.utils.names import nearest_names
from dl_lib.validation.norms import check_squeeze_norm
from dl_lib.validation.report import Interval, Report
from dl_lib.validation.static_model import (
    STATIC_MODEL,
    check_static_model,
    static_coarsest_stride,
    static_logits_stride,
)

__all__ = ["check_model", "coarsest_stride", "has_small_gates", "logits_stride"]

UNREACHED = ("skip", "run", "published")
CHANNELS_OF_AN_IMAGE = 3
ROUTED_LOGITS_STRIDE = 4  # in pixels: of the lattice's finest scale
ROUTED_BACKBONE = "DynamicNetwork"  # the checks of the lattice are about this one; others bring their own
SPLIT_CHANNELS = 4  # SPConv: two groups and at least as many channels beside them
RANGES = {
    "MODEL.BACKBONE.DROP_PROB": Interval(0, 1, open_high=True),
    "MODEL.BACKBONE.WIDTH_FACTOR": Interval(0, open_low=True),
    "MODEL.BACKBONE.DEPTH_FACTOR": Interval(0, open_low=True),
    "MODEL.SEM_SEG_HEAD.CHANNELS": Interval(1),
    "MODEL.TEMP_ANNEAL_RATE": Interval(0, 1, open_low=True),
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": Interval(1),
    "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": Interval(0),
    "MODEL.AUXILIARY_HEADS.CHANNELS": Interval(1),
    "MODEL.AUXILIARY_HEADS.LOSS_WEIGHT": Interval(0),
    "MODEL.LOSS.LABEL_SMOOTHING": Interval(0, 1),
    "MODEL.LOSS.DICE_WEIGHT": Interval(0),
    "MODEL.LOSS.LOVASZ_WEIGHT": Interval(0),
    "MODEL.LOSS.OHEM.MAX_PROBABILITY": Interval(0, 1),
    "MODEL.LOSS.OHEM.MIN_RATIO": Interval(0, 1),
    "MODEL.BUDGET.LOSS_WEIGHT": Interval(0),
    "MODEL.BUDGET.LOSS_MU": Interval(0, 1),
    "MODEL.BUDGET.FLOPS_ALL": Interval(0),
    "MODEL.BUDGET.UNUPDATE_RATE": Interval(0, 1),
}


def check_model(report: Report) -> None:
    """Note everything that is wrong in `MODEL`."""
    for key, interval in RANGES.items():
        report.within(key, interval)
    _check_names(report)
    _check_pixels(report)
    _check_device(report)
    _check_loss(report)
    _check_budget(report)
    _check_execution(report)
    check_static_model(report)
    if report.value("MODEL.BACKBONE.NAME") == ROUTED_BACKBONE:
        _check_cells(report)
        _check_lattice(report)


def coarsest_stride(report: Report) -> int | None:
    """Stride of the coarsest cell or feature, to whose multiples images are padded; None where it is not known."""
    if _is_static(report):
        return static_coarsest_stride(report)
    if report.value("MODEL.BACKBONE.NAME") != ROUTED_BACKBONE:
        return None
    try:
        return Lattice(report.value("MODEL.BACKBONE.CELL_NUM_LIST")).max_stride
    except ValueError:
        return None  # noted by the check of the lattice


def has_small_gates(report: Report) -> bool:
    """Whether there are gates, and they look at a quarter of the sides of their maps."""
    small = report.value("MODEL.GATE.GATE_ON") and report.value("MODEL.GATE.SMALL_GATE")
    return bool(small and not _is_static(report))


def logits_stride(report: Report) -> int | None:
    """Stride at which the head predicts; None where it is not known."""
    return static_logits_stride(report) if _is_static(report) else ROUTED_LOGITS_STRIDE


def _is_static(report: Report) -> bool:
    return bool(report.value("MODEL.META_ARCHITECTURE") == STATIC_MODEL)


def _check_names(report: Report) -> None:
    for key, registry, what in (
        ("MODEL.META_ARCHITECTURE", META_ARCH_REGISTRY, "model"),
        ("MODEL.BACKBONE.NAME", BACKBONE_REGISTRY, "backbone"),
        ("MODEL.SEM_SEG_HEAD.NAME", SEM_SEG_HEADS_REGISTRY, "head"),
    ):
        report.one_of(key, (name for name, _ in registry), what=f"{what} that is registered")
    report.one_of("MODEL.BACKBONE.NORM", NORMS, what="norm")
    report.one_of("MODEL.SEM_SEG_HEAD.NORM", NORMS, what="norm")
    report.one_of("MODEL.GATE.UNREACHED", UNREACHED, what="treatment of unreached cells")


def _check_pixels(report: Report) -> None:
    for key in ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"):
        if len(report.value(key)) != CHANNELS_OF_AN_IMAGE:
            report.add(key, "an image has three channels", expected="three numbers, in the order of INPUT.FORMAT")
    if any(deviation <= 0 for deviation in report.value("MODEL.PIXEL_STD")):
        report.add("MODEL.PIXEL_STD", "images are divided by it", expected="numbers above 0")


def _check_device(report: Report) -> None:
    device = report.value("MODEL.DEVICE")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        report.add("MODEL.DEVICE", "no device has this name", expected="auto, cpu, cuda or cuda:N")
    elif device.startswith("cuda") and not torch.cuda.is_available():
        report.add("MODEL.DEVICE", "torch sees no GPU here", mend="auto takes a GPU where there is one, else the CPU")
    elif report.world_size > 1 and device.startswith("cuda:"):
        report.add(
            "MODEL.DEVICE",
            f"each of the {report.world_size} processes has a GPU of its own",
            expected="auto or cuda, or cpu for none of them",
            mend="or a single process",
        )


def _check_loss(report: Report) -> None:
    weights, classes = report.value("MODEL.LOSS.CLASS_WEIGHTS"), report.value("MODEL.SEM_SEG_HEAD.NUM_CLASSES")
    if weights and (len(weights) != classes or min(weights) < 0 or not any(weights)):
        report.add(
            "MODEL.LOSS.CLASS_WEIGHTS",
            f"each of the {classes} classes has a weight",
            expected=f"{classes} numbers that are not negative, or [] to weigh all alike",
            mend="dl_lib check-dataset prints weights that balance the classes",
        )


def _check_budget(report: Report) -> None:
    if not report.value("MODEL.BUDGET.CONSTRAIN"):
        return
    if report.value("MODEL.BUDGET.LOSS_WEIGHT") == 0:
        report.add(
            "MODEL.BUDGET.LOSS_WEIGHT",
            "with weight 0 the budget of MODEL.BUDGET.CONSTRAIN=True has no effect",
            mend="give a weight such as 0.5, or set CONSTRAIN to False",
        )
    if report.value("MODEL.BUDGET.UNUPDATE_RATE") == 1:
        report.add(
            "MODEL.BUDGET.UNUPDATE_RATE",
            "the training ends before the budget is imposed",
            expected="a share below 1, such as 0.4",
        )
    report.collect(check_dense_cost, report.cfg)
    if not report.value("MODEL.GATE.GATE_ON"):
        report.add(
            "MODEL.BUDGET.CONSTRAIN",
            "with MODEL.GATE.GATE_ON=False the cost is the same whatever is learnt",
            mend="switch the gates on, or the budget off",
        )


def _check_cells(report: Report) -> None:
    known = [name for name, _ in CELL_OPERATIONS]
    for name in report.value("MODEL.BACKBONE.CELL_TYPE"):
        if name not in known:
            report.add("MODEL.BACKBONE.CELL_TYPE", f"no operation is called {name!r}", mend=nearest_names(name, known))
    if not report.value("MODEL.BACKBONE.CELL_TYPE"):
        report.add("MODEL.BACKBONE.CELL_TYPE", "a cell needs an operation", expected=f"some of {', '.join(known)}")
    channels = report.value("MODEL.BACKBONE.INIT_CHANNEL")
    if channels <= 0 or channels % 2:
        report.add("MODEL.BACKBONE.INIT_CHANNEL", "gates work on half of it", expected="a positive even number")
    elif channels % 4 and any(name.startswith("Bottleneck") for name in report.value("MODEL.BACKBONE.CELL_TYPE")):
        report.add("MODEL.BACKBONE.INIT_CHANNEL", "bottlenecks work on a quarter of it", expected="a multiple of 4")
    elif channels < SPLIT_CHANNELS and "spconv_3x3" in report.value("MODEL.BACKBONE.CELL_TYPE"):
        report.add("MODEL.BACKBONE.INIT_CHANNEL", "spconv_3x3 makes two groups and a rest", expected="at least 4")
    if "rex_block_3x3" in report.value("MODEL.BACKBONE.CELL_TYPE"):
        check_squeeze_norm(report, "MODEL.BACKBONE.NORM", inside="rex_block_3x3")


def _check_lattice(report: Report) -> None:
    counts = report.value("MODEL.BACKBONE.CELL_NUM_LIST")
    report.collect(check_layer_num, report.cfg.MODEL.BACKBONE)
    try:
        lattice = Lattice(counts)
    except ValueError as error:
        report.problems.append(f"MODEL.BACKBONE.CELL_NUM_LIST: {error}")
        return
    if report.value("MODEL.BACKBONE.MAX_STRIDE") != lattice.max_stride:
        report.add(
            "MODEL.BACKBONE.MAX_STRIDE",
            f"the coarsest cells of CELL_NUM_LIST have stride {lattice.max_stride}",
            mend=f"set MAX_STRIDE to {lattice.max_stride}, or change CELL_NUM_LIST",
        )
    features = [f"layer_{scale}" for scale in range(lattice.num_scales)]
    unknown = [name for name in report.value("MODEL.AUXILIARY_HEADS.IN_FEATURES") if name not in features]
    if unknown:
        report.add("MODEL.AUXILIARY_HEADS.IN_FEATURES", f"there is no {unknown[0]}", expected=f"some of {features}")
    if report.value("MODEL.SEM_SEG_HEAD.IN_FEATURES") != features:
        report.add(
            "MODEL.SEM_SEG_HEAD.IN_FEATURES",
            f"the last layer gives out {lattice.num_scales} scales and the head takes all, finest first",
            expected=f"{features}",
        )


def _check_execution(report: Report) -> None:
    checkpointing = "MODEL.ACTIVATION_CHECKPOINTING"
    if report.trains and report.value(checkpointing) and report.value("MODEL.COMPILE"):
        report.add(
            checkpointing,
            "torch cannot compile layers that leave their norms' statistics alone when they are computed again",
            expected="False with MODEL.COMPILE=True, or the other way round",
        )
