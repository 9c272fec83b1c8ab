"""Keys of `MODEL` other than the backbone: architecture, weights, heads, losses and budget."""

from __future__ import annotations

from dl_lib.config.backbone_keys import BACKBONE_KEYS
from dl_lib.config.choices import BudgetControlName, BudgetUnit, ChannelsLast
from dl_lib.config.key import Reference, key

__all__ = ["MODEL_KEYS"]

_NORMS = Reference("dl_lib.layers:NORMS")

_GENERAL = (
    key(
        "MODEL.META_ARCHITECTURE",
        "DynamicNet4Seg",
        "Model class: `DynamicNet4Seg` for the routed network, `SemanticSegmentor` for static backbones.",
        choices=Reference("dl_lib.modeling:META_ARCH_REGISTRY"),
    ),
    key(
        "MODEL.DEVICE",
        "auto",
        "Device of the model: `cpu`, `cuda`, `cuda:N`, or `auto` for a GPU if torch finds one and the CPU otherwise.",
    ),
    key(
        "MODEL.WEIGHTS",
        "",
        "Path (relative to the current directory) or URL of the initial weights: a checkpoint of dl_lib or of the "
        "published code, or a classifier of torchvision, timm or the ReXNet repository.",
        special={"": "random initialization"},
        is_path=True,
    ),
    key(
        "MODEL.ALLOW_MISSING_KEYS",
        [],
        "Components of state dict keys, such as `gate`: keys of the model that contain one may be missing from "
        "`MODEL.WEIGHTS` or have another shape there; they keep their initialization.",
        items=str,
    ),
    key(
        "MODEL.ALLOW_UNEXPECTED_KEYS",
        [],
        "Components of state dict keys, such as `fc`: keys in `MODEL.WEIGHTS` that contain one are ignored if the "
        "model does not have them.",
        items=str,
    ),
    key(
        "MODEL.CHANNELS_LAST",
        "auto",
        "Use the channels-last memory format; results are equal up to rounding. `auto`: on CPUs, where most networks "
        "are faster with it.",
        choices=ChannelsLast,
    ),
    key(
        "MODEL.COMPILE",
        False,
        "Compile the network with `torch.compile` in training. In evaluation `TEST.EXECUTION` decides; with "
        "`TEST.OPTIMIZE=False`, static networks and dense execution remain compiled.",
    ),
    key(
        "MODEL.ACTIVATION_CHECKPOINTING",
        False,
        "Recompute activations in the backward pass, layer by layer or block by block, to save memory in training.",
    ),
    key(
        "MODEL.TEMP_ANNEAL_RATE",
        0.05,
        "Fraction of the iterations over which the softmax temperature of dynamic convolutions falls linearly from "
        "30 to 1 (arXiv 1912.03458).",
        range="(0, 1]",
    ),
    key(
        "MODEL.PIXEL_MEAN",
        [103.53, 116.28, 123.675],
        "Mean that is subtracted from each channel, in the order of `INPUT.FORMAT`; pixel values are 0 to 255.",
        length=3,
        range="[-1000, 1000]",
    ),
    key(
        "MODEL.PIXEL_STD",
        [1.0, 1.0, 1.0],
        "Standard deviation that each channel is divided by, in the order of `INPUT.FORMAT`.",
        range="[0.001, 1000]",
        length=3,
    ),
)

_HEADS = (
    key(
        "MODEL.SEM_SEG_HEAD.NAME",
        "SemSegDecoderHead",
        "Segmentation head.",
        choices=Reference("dl_lib.modeling:SEM_SEG_HEADS_REGISTRY"),
    ),
    key(
        "MODEL.SEM_SEG_HEAD.IN_FEATURES",
        ["layer_0", "layer_1", "layer_2", "layer_3"],
        "Feature maps that the head uses, finest first: `layer_0`, `layer_1`, … of a routed network, `c1` to `c5` of a "
        "static backbone.",
    ),
    key("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 19, "Number of classes; must match the datasets.", range="[2, 10000]"),
    key(
        "MODEL.SEM_SEG_HEAD.IGNORE_VALUE",
        255,
        "Label of pixels that are excluded from loss and evaluation; must match the datasets.",
        range="[-32768, 65535]",
    ),
    key(
        "MODEL.SEM_SEG_HEAD.NORM",
        "SyncBN",
        "Normalization layer of the head; `nnSyncBN` is the published name of `SyncBN`.",
        choices=_NORMS,
    ),
    key(
        "MODEL.SEM_SEG_HEAD.CHANNELS",
        128,
        "Number of channels inside `SemanticFPNHead` (128 in arXiv 1901.02446) and `ASPPHead` (256 in arXiv "
        "1706.05587).",
        range="[1, 8192]",
    ),
    key("MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", 1.0, "Weight of the cross-entropy.", range="[0, 1000000]"),
    key(
        "MODEL.AUXILIARY_HEADS.IN_FEATURES",
        [],
        "Feature maps that get an auxiliary head each, in training only (arXiv 1612.01105, section 3.3).",
        items=str,
        special={(): "no auxiliary heads"},
    ),
    key("MODEL.AUXILIARY_HEADS.CHANNELS", 256, "Number of channels inside each auxiliary head.", range="[1, 8192]"),
    key("MODEL.AUXILIARY_HEADS.LOSS_WEIGHT", 0.4, "Weight of the loss of each auxiliary head.", range="[0, 1000000]"),
)

_LOSS = (
    key(
        "MODEL.LOSS.CLASS_WEIGHTS",
        [],
        "Weight of each class in the cross-entropy; `dl_lib check-dataset` prints balancing weights.",
        range="[0, 1000000]",
        max_length=10000,
        items=float,
        special={(): "equal weights"},
    ),
    key(
        "MODEL.LOSS.LABEL_SMOOTHING",
        0.0,
        "Fraction of the cross-entropy target that is spread evenly over all classes (arXiv 1512.00567, section 7).",
        range="[0, 1]",
    ),
    key("MODEL.LOSS.DICE_WEIGHT", 0.0, "Weight of the Dice loss.", range="[0, 1000000]"),
    key("MODEL.LOSS.LOVASZ_WEIGHT", 0.0, "Weight of the Lovász-softmax loss.", range="[0, 1000000]"),
    key(
        "MODEL.LOSS.EXTRA",
        [],
        "Registered losses that are added; each has its own weight.",
        choices=Reference("dl_lib.modeling:LOSS_REGISTRY"),
        items=str,
        order="unique",
    ),
    key(
        "MODEL.LOSS.OHEM.ENABLED",
        False,
        "Online hard example mining: use only hard pixels in the cross-entropy (arXiv 1604.03540, applied to pixels).",
    ),
    key(
        "MODEL.LOSS.OHEM.MAX_PROBABILITY",
        0.7,
        "A pixel is hard if the predicted probability of its true class is at most this.",
        range="[0, 1]",
    ),
    key(
        "MODEL.LOSS.OHEM.MIN_RATIO",
        0.0625,
        "Minimum fraction of the labelled pixels of each image to use, lowest probabilities first.",
        range="[0, 1]",
    ),
)

_BUDGET = (
    key("MODEL.BUDGET.CONSTRAIN", False, "Add the budget loss of `CONTROL` to the losses."),
    key(
        "MODEL.BUDGET.CONTROL",
        "penalty",
        "Budget loss. `penalty`: `LOSS_WEIGHT` * warmup * (expected cost / `FLOPS_ALL` - `LOSS_MU`)² "
        "(arXiv 2003.10401, eq. 11). `target`: weight * expected cost / cost with all gates open, with a weight "
        "in [-10, 10] that a controller adjusts until the real cost is `TARGET` "
        "([routing](routing.md#budget-control)).",
        choices=BudgetControlName,
    ),
    key("MODEL.BUDGET.LOSS_WEIGHT", 0.0, "Weight of the budget loss with `penalty`.", range="[0, 1000000]"),
    key(
        "MODEL.BUDGET.LOSS_MU",
        0.0,
        "Target of the expected cost with `penalty`, as a fraction of `FLOPS_ALL`.",
        range="[0, 1]",
    ),
    key(
        "MODEL.BUDGET.FLOPS_ALL",
        0.0,
        "Cost of the network with all gates open, with `penalty`.",
        unit="MFLOPs (millions of multiply-adds) per image",
        range="[0.001, 1000000000]",
        special={0: "measured at `INPUT.CROP_SIZE`"},
    ),
    key(
        "MODEL.BUDGET.TARGET",
        0.0,
        "Mean real cost of an image with `target`, in `TARGET_UNIT`.",
        range="(0, 1000000]",
        special={0: "none"},
    ),
    key(
        "MODEL.BUDGET.TARGET_UNIT",
        "ratio",
        "Unit of `TARGET`. `ratio`: cost of open cells and transitions, relative to that with all gates open, without "
        "stem, head and gates. `gflops`: cost of the whole network (`real_flops_complete`) for an image of "
        "`INPUT.CROP_SIZE`. `ms`: its latency, predicted by `LATENCY_TABLE`.",
        choices=BudgetUnit,
    ),
    key(
        "MODEL.BUDGET.LATENCY_TABLE",
        "",
        "Latency table of this network, written by `dl_lib profile-costs` (relative to the current directory): for "
        "`TARGET_UNIT: ms`, on the device of the training run at the size of its crops, and for the latency in "
        "evaluation reports ([routing](routing.md#latency-budget)).",
        special={"": "none"},
        is_path=True,
    ),
    key(
        "MODEL.BUDGET.SPREAD",
        0.0,
        "Add a loss while the standard deviation of the cost over the images of a batch is below this fraction of the "
        "cost with all gates open, so that routes depend on the image; it starts with the budget loss. For hard gates "
        "([routing](routing.md#hard-gates)).",
        range="(0, 0.5]",
        special={0: "no such loss"},
    ),
    key("MODEL.BUDGET.UNUPDATE_RATE", 0.4, "Fraction of the iterations before the budget loss starts.", range="[0, 1]"),
    key(
        "MODEL.BUDGET.WARM_UP",
        True,
        "With `penalty`, increase the weight of the budget loss linearly from 0 over the next 2 % of the iterations; "
        "with `target`, move the target linearly from the current cost to `TARGET` over a tenth of the remaining "
        "iterations.",
    ),
)

MODEL_KEYS = (*_GENERAL, *BACKBONE_KEYS, *_HEADS, *_LOSS, *_BUDGET)
