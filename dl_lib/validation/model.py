"""Rules for `MODEL`: lattice, gates, head, device and budget."""

from __future__ import annotations

import re

import torch

from dl_lib.config import ConfigError
from dl_lib.config.crop_size import has_automatic_crop
from dl_lib.config.errors import shown
from dl_lib.modeling.costs.latency_file import training_latency
from dl_lib.modeling.dynamic.configured_route import ROUTE_KEY, configured_route
from dl_lib.modeling.dynamic.gate import GATE_KINDS, SMALL_GATE_SHRINK
from dl_lib.modeling.dynamic.lattice import FINEST_STRIDE, Lattice
from dl_lib.modeling.dynamic.network import check_layer_num
from dl_lib.modeling.meta_arch.dynamic4seg import check_dense_cost
from dl_lib.validation.norms import check_squeeze_norm
from dl_lib.validation.report import Report
from dl_lib.validation.static_model import (
    ROUTED_BACKBONE,
    STATIC_MODEL,
    check_static_model,
    static_coarsest_stride,
    static_logits_stride,
)

__all__ = ["check_model", "coarsest_channels", "coarsest_stride", "logits_stride", "smallest_side"]

_CELL_NUM_LIST = "MODEL.BACKBONE.CELL_NUM_LIST"
_MIN_SPLIT_CHANNELS = 4  # SPConv makes two groups and a remainder


def check_model(report: Report) -> None:
    """Report problems with `MODEL`."""
    _check_device(report)
    _check_loss(report)
    _check_normalization(report)
    if report.value("MODEL.BUDGET.CONSTRAIN"):
        _check_budget(report)
    elif report.value("MODEL.BUDGET.SPREAD"):
        report.add("MODEL.BUDGET.SPREAD", "must be 0 with MODEL.BUDGET.CONSTRAIN=False, which turns its loss off")
    if report.trains and report.value("MODEL.ACTIVATION_CHECKPOINTING") and report.value("MODEL.COMPILE"):
        report.add(
            "MODEL.ACTIVATION_CHECKPOINTING",
            "must be False with MODEL.COMPILE=True: torch.compile does not support recomputation that leaves running "
            "statistics unchanged",
        )
    check_static_model(report)
    if report.value("MODEL.BACKBONE.NAME") == ROUTED_BACKBONE:  # other routed backbones bring their own checks
        _check_cells(report)
        _check_lattice(report)


def coarsest_stride(report: Report) -> int | None:
    """Return the coarsest stride of the network, to whose multiples images are padded; None if it is unknown."""
    if _is_static(report):
        return static_coarsest_stride(report)
    if report.value("MODEL.BACKBONE.NAME") != ROUTED_BACKBONE or not report.accepts(_CELL_NUM_LIST):
        return None
    try:
        return Lattice(report.value(_CELL_NUM_LIST)).max_stride
    except ValueError:
        return None  # reported by `_check_lattice`


def coarsest_channels(report: Report) -> int | None:
    """Return the fewest channels of a norm at the coarsest stride of a routed network; None for other networks."""
    stride = coarsest_stride(report)
    if stride is None or _is_static(report):
        return None
    return max(1, report.value("MODEL.BACKBONE.INIT_CHANNEL") * stride // (2 * FINEST_STRIDE))


def smallest_side(report: Report) -> int | None:
    """Return the smallest side of an image that the network accepts; None if it is unknown."""
    divisor = coarsest_stride(report)
    return None if divisor is None else divisor * (SMALL_GATE_SHRINK if _has_small_gates(report) else 1)


def _has_small_gates(report: Report) -> bool:
    return bool(report.value("MODEL.GATE.SMALL_GATE") and not _is_static(report) and _has_gates(report))


def _has_gates(report: Report) -> bool:
    """Return whether a routed network has learned gates; true if that is unknown."""
    if not report.value(ROUTE_KEY):
        return bool(report.value("MODEL.GATE.GATE_ON"))
    try:
        return not configured_route(report.cfg).is_fixed
    except ConfigError:
        return True  # reported by `_check_lattice`


def logits_stride(report: Report) -> int | None:
    """Return the stride of the head's logits; None if it is unknown."""
    return static_logits_stride(report) if _is_static(report) else FINEST_STRIDE


def _is_static(report: Report) -> bool:
    return bool(report.value("MODEL.META_ARCHITECTURE") == STATIC_MODEL)


def _check_device(report: Report) -> None:
    key, device = "MODEL.DEVICE", report.value("MODEL.DEVICE")
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", device):
        report.add(key, "must be auto, cpu, cuda or cuda:N")
    elif device.startswith("cuda") and not torch.cuda.is_available():
        report.add(key, "needs a GPU and torch finds none; use auto or cpu")
    elif report.world_size > 1 and device.startswith("cuda:"):
        report.add(key, f"must not be one GPU with {report.world_size} processes; use cuda, which assigns one to each")
    elif device.startswith("cuda:") and int(device.removeprefix("cuda:")) >= torch.cuda.device_count():
        report.add(key, f"names a GPU that torch does not find; it finds {torch.cuda.device_count()}, numbered from 0")


def _check_loss(report: Report) -> None:
    key, classes = "MODEL.LOSS.CLASS_WEIGHTS", report.value("MODEL.SEM_SEG_HEAD.NUM_CLASSES")
    weights = report.value(key)
    if weights and (len(weights) != classes or not any(weights)):
        report.add(
            key,
            f"must have one weight for each of the {classes} classes, not all 0; dl_lib check-dataset prints balancing "
            "weights",
        )


def _check_normalization(report: Report) -> None:
    mean, std = report.value("MODEL.PIXEL_MEAN"), report.value("MODEL.PIXEL_STD")
    if report.accepts("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD") and 0 < max(mean) <= 1 and max(std) <= 1:
        report.add(
            "MODEL.PIXEL_MEAN",
            "must have the scale of the pixel values, 0..255 and not 0..1, like MODEL.PIXEL_STD; multiply both by 255",
        )


def _check_budget(report: Report) -> None:
    if report.value("MODEL.BUDGET.CONTROL") == "penalty":
        if report.value("MODEL.BUDGET.LOSS_WEIGHT") == 0:
            report.add(
                "MODEL.BUDGET.LOSS_WEIGHT", "must be > 0 with MODEL.BUDGET.CONSTRAIN=True; use a value such as 0.5"
            )
    else:
        _check_budget_target(report)
    images = report.value("SOLVER.IMS_PER_BATCH") // max(1, report.value("SOLVER.ACCUMULATION_STEPS"))
    if report.trains and report.value("MODEL.BUDGET.SPREAD") and images < 2:
        report.add(
            "MODEL.BUDGET.SPREAD",
            "requires at least two images per forward pass over all processes; increase SOLVER.IMS_PER_BATCH, decrease "
            "SOLVER.ACCUMULATION_STEPS or set it to 0",
        )
    if report.value("MODEL.BUDGET.UNUPDATE_RATE") == 1:
        report.add(
            "MODEL.BUDGET.UNUPDATE_RATE",
            "must be < 1 with MODEL.BUDGET.CONSTRAIN=True, or the training ends before the budget loss starts",
        )
    report.collect(check_dense_cost, report.cfg)
    if not _has_gates(report):
        key = ROUTE_KEY if report.value(ROUTE_KEY) else "MODEL.GATE.GATE_ON"
        spread = ", and MODEL.BUDGET.SPREAD 0," if report.value("MODEL.BUDGET.SPREAD") else ""
        reason = f"with {key}={shown(report.value(key))}: the cost is constant"
        report.add("MODEL.BUDGET.CONSTRAIN", f"must be False{spread} {reason}")


def _check_budget_target(report: Report) -> None:
    key, target = "MODEL.BUDGET.TARGET", report.value("MODEL.BUDGET.TARGET")
    if target == 0:
        report.add(key, "must be > 0 with MODEL.BUDGET.CONTROL=target; use a value such as 0.5")
    elif report.value("MODEL.BUDGET.TARGET_UNIT") == "ratio" and target > 1:
        report.add(key, "must be at most 1 with MODEL.BUDGET.TARGET_UNIT=ratio; use gflops for a cost in GFLOPs")
    divisor = coarsest_stride(report)
    needs_latency = report.trains and report.value("MODEL.BUDGET.TARGET_UNIT") == "ms"
    if needs_latency and divisor and report.value("INPUT.CROP_SIZE") and not has_automatic_crop(report.cfg):
        report.collect(training_latency, report.cfg, size_divisor=divisor)
    if report.accepts("MODEL.GATE.KIND") and not GATE_KINDS[report.value("MODEL.GATE.KIND")].can_close:
        kinds = " or ".join(kind for kind, gate in GATE_KINDS.items() if gate.can_close)
        report.add("MODEL.GATE.KIND", f"must be {kinds} with MODEL.BUDGET.CONTROL=target: other gates never close")


def _check_cells(report: Report) -> None:
    key, channels = "MODEL.BACKBONE.INIT_CHANNEL", report.value("MODEL.BACKBONE.INIT_CHANNEL")
    cell_types = report.value("MODEL.BACKBONE.CELL_TYPE")
    if channels % 2:
        report.add(key, "must be even: gates use half of the channels")
    elif channels % 4 and any(name.startswith("Bottleneck") for name in cell_types):
        report.add(key, "must be divisible by 4: bottlenecks use a quarter of the channels")
    elif channels < _MIN_SPLIT_CHANNELS and "spconv_3x3" in cell_types:
        report.add(key, f"must be at least {_MIN_SPLIT_CHANNELS} with spconv_3x3")
    if "rex_block_3x3" in cell_types:
        check_squeeze_norm(report, "MODEL.BACKBONE.NORM", inside="rex_block_3x3")


def _check_lattice(report: Report) -> None:
    report.collect(check_layer_num, report.cfg.MODEL.BACKBONE)
    if not report.accepts(_CELL_NUM_LIST):
        return
    try:
        lattice = Lattice(report.value(_CELL_NUM_LIST))
    except ValueError as error:
        report.problems.append(f"MODEL.BACKBONE.CELL_NUM_LIST: {error}")
        return
    report.collect(configured_route, report.cfg)
    if report.value("MODEL.BACKBONE.MAX_STRIDE") != lattice.max_stride:
        report.add(
            "MODEL.BACKBONE.MAX_STRIDE",
            f"must be {lattice.max_stride}, the stride of the coarsest cells in MODEL.BACKBONE.CELL_NUM_LIST",
        )
    features = [f"layer_{scale}" for scale in range(lattice.num_scales)]
    if not set(report.value("MODEL.AUXILIARY_HEADS.IN_FEATURES")) <= set(features):
        report.add("MODEL.AUXILIARY_HEADS.IN_FEATURES", f"must contain only names from {features}")
    if report.value("MODEL.SEM_SEG_HEAD.IN_FEATURES") != features:
        report.add(
            "MODEL.SEM_SEG_HEAD.IN_FEATURES",
            f"must be {features}: the head uses all {lattice.num_scales} scales of the last layer, finest first",
        )
