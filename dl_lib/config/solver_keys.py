"""Keys of `SOLVER`: batch, precision, checkpoints, optimizer and learning rate schedule."""

from __future__ import annotations

from dl_lib.config.choices import GradClipType, MetricMode, NonFiniteAction, PrecisionName
from dl_lib.config.key import Reference, key

__all__ = ["SOLVER_KEYS"]

_STEP = (
    key(
        "SOLVER.IMS_PER_BATCH",
        8,
        "Number of images per optimizer step, over all processes and accumulation steps.",
        range="[1, 65536]",
    ),
    key(
        "SOLVER.ACCUMULATION_STEPS",
        1,
        "Number of forward and backward passes per optimizer step, each over an equal part of the batch.",
        range="[1, 65536]",
    ),
    key(
        "SOLVER.PRECISION",
        "float32",
        "Precision of the forward pass (autocast), with loss scaling for `fp16`; parameters, gates, costs and losses "
        "stay in float32.",
        choices=PrecisionName,
    ),
    key(
        "SOLVER.GRAD_CLIP",
        5.0,
        "Upper limit of the gradient norm, or of the absolute value of each element; see `GRAD_CLIP_TYPE`.",
        range="(0, 1000000]",
        special={0: "no clipping"},
    ),
    key(
        "SOLVER.GRAD_CLIP_TYPE",
        "norm",
        "Clip the L2 norm of all gradients together (`norm`) or each element (`value`).",
        choices=GradClipType,
    ),
    key(
        "SOLVER.NON_FINITE",
        "stop",
        "Action for a step with a non-finite loss or gradient: end the run (`stop`) or skip the step (`skip`).",
        choices=NonFiniteAction,
    ),
    key(
        "SOLVER.MAX_NON_FINITE",
        10,
        "Number of steps that `NON_FINITE=skip` may skip before the run ends.",
        range="[1, 1000000000]",
    ),
    key(
        "SOLVER.EMA.DECAY",
        0.0,
        "Decay of an exponential moving average of the weights, such as 0.999.",
        range="(0, 1)",
        special={0: "no EMA"},
    ),
    key("SOLVER.EMA.EVALUATE", True, "Evaluate the EMA instead of the weights."),
)

_CHECKPOINTS = (
    key(
        "SOLVER.CHECKPOINT_PERIOD",
        5000,
        "Interval between checkpoints.",
        unit="iterations",
        range="[1, 1000000000]",
        special={0: "final checkpoint only"},
    ),
    key(
        "SOLVER.CHECKPOINT_KEEP_LAST",
        0,
        "Number of periodic checkpoints to keep; older ones are deleted.",
        range="[1, 1000000000]",
        special={0: "keep all"},
    ),
    key(
        "SOLVER.CHECKPOINT_KEEP_EVERY",
        0,
        "Never delete checkpoints at multiples of this number.",
        unit="iterations",
        range="[1, 1000000000]",
        special={0: "no exceptions"},
    ),
    key(
        "SOLVER.BEST_METRIC",
        "",
        "Metric that decides which model is saved as `model_best.pth`, such as `voc_2012_sem_seg_val/mIoU`.",
        special={"": "not saved"},
    ),
    key(
        "SOLVER.BEST_METRIC_MODE",
        "max",
        "Whether higher (`max`) or lower (`min`) values of `BEST_METRIC` are better.",
        choices=MetricMode,
    ),
    key(
        "SOLVER.EARLY_STOPPING.METRIC",
        "",
        "Metric that ends the training when it stops improving, such as `voc_2012_sem_seg_val/mIoU`.",
        special={"": "no early stopping"},
    ),
    key(
        "SOLVER.EARLY_STOPPING.MODE",
        "max",
        "Whether higher (`max`) or lower (`min`) values of `METRIC` are better.",
        choices=MetricMode,
    ),
    key(
        "SOLVER.EARLY_STOPPING.PATIENCE",
        10,
        "Number of consecutive evaluations without improvement before the training ends.",
        unit="evaluations",
        range="[1, 1000000000]",
    ),
    key(
        "SOLVER.EARLY_STOPPING.MIN_DELTA",
        0.0,
        "A value counts as an improvement only if it is better than the best one by more than this.",
        range="[0, 1000000]",
    ),
)

_OPTIMIZER = (
    key(
        "SOLVER.OPTIMIZER.NAME",
        "SGD",
        "Optimizer: SGD with momentum, or AdamW.",
        choices=Reference("dl_lib.solver.build:OPTIMIZERS"),
    ),
    key("SOLVER.OPTIMIZER.BASE_LR", 0.05, "Learning rate that schedule and multipliers refer to.", range="(0, 1000]"),
    key("SOLVER.OPTIMIZER.MOMENTUM", 0.9, "Momentum of SGD.", range="[0, 1)"),
    key(
        "SOLVER.OPTIMIZER.BETAS",
        [0.9, 0.999],
        "Decay rates of the running averages of gradient and squared gradient in AdamW.",
        range="[0, 1)",
        length=2,
    ),
    key("SOLVER.OPTIMIZER.EPS", 1e-8, "Term added to the denominator of AdamW.", range="(0, 1]"),
    key(
        "SOLVER.OPTIMIZER.WEIGHT_DECAY",
        1e-4,
        "Weight decay of all parameters without a more specific value.",
        range="[0, 100]",
    ),
    key(
        "SOLVER.OPTIMIZER.WEIGHT_DECAY_BIAS",
        -1.0,
        "Weight decay of biases outside normalization layers.",
        range="[0, 100]",
        special={-1: "same as `WEIGHT_DECAY`, as published"},
    ),
    key(
        "SOLVER.OPTIMIZER.WEIGHT_DECAY_NORM",
        0.0,
        "Weight decay of the scale and shift of normalization layers.",
        range="[0, 100]",
    ),
    key("SOLVER.OPTIMIZER.GATE_LR_MULTI", 1.0, "Multiplier of the learning rate of the gates.", range="[0, 1000000]"),
    key(
        "SOLVER.OPTIMIZER.GROUPS",
        [],
        "Settings for parameters by name: entries with `PARAMS`, a regular expression, and `LR_MULTI` (replaces "
        "`GATE_LR_MULTI`), `WEIGHT_DECAY` or both. The first entry whose expression matches a name applies.",
        items=dict,
    ),
)

_SCHEDULE = (
    key(
        "SOLVER.LR_SCHEDULER.NAME",
        "PolyLR",
        "Learning rate schedule: polynomial decay, cosine decay, steps, or one cycle.",
        choices=Reference("dl_lib.solver.build:LR_SCHEDULERS"),
    ),
    key(
        "SOLVER.LR_SCHEDULER.MAX_ITER",
        190000,
        "Number of training iterations.",
        unit="iterations",
        range="[1, 1000000000]",
    ),
    key(
        "SOLVER.LR_SCHEDULER.POLY_POWER",
        0.9,
        "Power of PolyLR: the learning rate is `BASE_LR` * (1 - iteration / `MAX_ITER`) to this power.",
        range="[0, 100]",
    ),
    key(
        "SOLVER.LR_SCHEDULER.STEPS",
        [],
        "Iterations at which MultiStepLR multiplies the learning rate by `GAMMA`; below `MAX_ITER`.",
        unit="iterations",
        range="[1, 1000000000]",
        items=int,
        order="strictly ascending",
    ),
    key("SOLVER.LR_SCHEDULER.GAMMA", 0.1, "Factor of MultiStepLR.", range="(0, 1]"),
    key(
        "SOLVER.LR_SCHEDULER.END_FACTOR",
        0.0,
        "Learning rate of CosineLR and OneCycleLR at `MAX_ITER`, as a fraction of `BASE_LR`.",
        range="[0, 1]",
    ),
    key(
        "SOLVER.LR_SCHEDULER.ONE_CYCLE.PEAK_AT",
        0.3,
        "Fraction of the iterations after which OneCycleLR reaches `BASE_LR`.",
        range="(0, 1)",
    ),
    key(
        "SOLVER.LR_SCHEDULER.ONE_CYCLE.START_FACTOR",
        0.04,
        "Learning rate of OneCycleLR at iteration 0, as a fraction of `BASE_LR`.",
        range="[0, 1]",
    ),
    key(
        "SOLVER.LR_SCHEDULER.WARMUP_ITERS",
        1000,
        "Length of the linear warmup, which is multiplied with the schedule; OneCycleLR requires 0.",
        unit="iterations",
        range="[1, 1000000000]",
        special={0: "no warmup"},
    ),
    key("SOLVER.LR_SCHEDULER.WARMUP_FACTOR", 0.001, "Factor of the warmup at iteration 0.", range="[0, 1]"),
)

SOLVER_KEYS = (*_STEP, *_CHECKPOINTS, *_OPTIMIZER, *_SCHEDULE)
