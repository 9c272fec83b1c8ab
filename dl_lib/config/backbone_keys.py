"""Keys of `MODEL.BACKBONE`, `MODEL.CONV` and `MODEL.GATE`."""

from __future__ import annotations

from dl_lib.config.key import Reference, key

__all__ = ["BACKBONE_KEYS"]

_NORMS = Reference("dl_lib.layers:NORMS")
_FEATURES = Reference("dl_lib.modeling.backbones.base:FEATURES")

_BACKBONE = (
    key(
        "MODEL.BACKBONE.NAME",
        "DynamicNetwork",
        "Backbone: `DynamicNetwork` is the routed lattice, all others are static.",
        choices=Reference("dl_lib.modeling:BACKBONE_REGISTRY"),
    ),
    key(
        "MODEL.BACKBONE.CELL_TYPE",
        ["sep_conv_3x3", "skip_connect"],
        "Operations of a cell; their outputs are summed. `DynamicNetwork` only.",
        choices=Reference("dl_lib.modeling.dynamic.ops:CELL_OPERATIONS"),
        min_length=1,
    ),
    key(
        "MODEL.BACKBONE.LAYER_NUM",
        16,
        "Number of layers after the source cell; the length of `CELL_NUM_LIST`. `DynamicNetwork` only.",
        range="[1, 256]",
    ),
    key(
        "MODEL.BACKBONE.CELL_NUM_LIST",
        [2, 3] + [4] * 14,
        "Number of cells (scales) in each layer after the source cell; each number equals its predecessor or exceeds "
        "it by one. `DynamicNetwork` only.",
        range="[1, 8]",
        max_length=256,
    ),
    key(
        "MODEL.BACKBONE.ROUTE",
        [],
        "Route of the network, which then holds only the parts of its open edges: the name of a named route, a route "
        "file ending in `.json` (relative to the current directory), or a list of edges and passes. `DynamicNetwork` "
        "only.",
        items=str,
        max_length=10_000,
        accepts_text=True,
        special={(): "the whole lattice, with the gates of `MODEL.GATE`"},
    ),
    key(
        "MODEL.BACKBONE.INIT_CHANNEL",
        64,
        "Number of channels at stride 4, even; doubles with each coarser scale. `DynamicNetwork` only.",
        range="[2, 1024]",
    ),
    key(
        "MODEL.BACKBONE.MAX_STRIDE",
        32,
        "Stride of the coarsest scale; must match `CELL_NUM_LIST`. `DynamicNetwork` only.",
        unit="pixels",
        range="[4, 512]",
    ),
    key(
        "MODEL.BACKBONE.SEPT_STEM",
        True,
        "Use depthwise-separable instead of plain 3x3 convolutions after the first convolution of the stem. "
        "`DynamicNetwork` only.",
    ),
    key(
        "MODEL.BACKBONE.NORM",
        "SyncBN",
        "Normalization layer of the backbone; `nnSyncBN` is the published name of `SyncBN`.",
        choices=_NORMS,
    ),
    key(
        "MODEL.BACKBONE.DROP_PROB",
        0.0,
        "Largest drop path probability. `DynamicNetwork`: it grows linearly with layer and iteration (scheduled drop "
        "path). `rexnet`, `rexnet_lite`: it grows linearly with depth only.",
        range="[0, 1)",
    ),
    key(
        "MODEL.BACKBONE.OUTPUT_STRIDE",
        32,
        "Stride of the coarsest feature map of a static backbone; below 32, dilation replaces stride. Not every "
        "backbone supports all values.",
        unit="pixels",
        choices=Reference("dl_lib.modeling.backbones.base:OUTPUT_STRIDES"),
    ),
    key(
        "MODEL.BACKBONE.FROZEN_STAGES",
        [],
        "Stages of a static backbone whose parameters and running statistics stay fixed.",
        choices=_FEATURES,
        items=str,
        order="strictly ascending",
    ),
    key(
        "MODEL.BACKBONE.WIDTH_FACTOR",
        1.0,
        "Multiplier of the number of channels. `rexnet` and `rexnet_lite` only.",
        range="[0.05, 16]",
    ),
    key(
        "MODEL.BACKBONE.DEPTH_FACTOR",
        1.0,
        "Multiplier of the number of blocks per stage, rounded up. `rexnet` and `rexnet_lite` only.",
        range="[0.05, 16]",
    ),
    key(
        "MODEL.BACKBONE.SQUEEZE_NORM",
        "",
        "Normalization layer inside squeeze-and-excitation, on 1x1 feature maps. `rexnet` only.",
        choices=_NORMS,
        special={"": "same as `NORM`"},
    ),
)

_CONV = (
    key(
        "MODEL.CONV.STAGES",
        [],
        "Stages of a static backbone whose convolutions are replaced by `MODEL.CONV.TYPE`.",
        choices=_FEATURES,
        items=str,
        order="strictly ascending",
    ),
    key(
        "MODEL.CONV.TYPE",
        "",
        "Convolution layer that replaces those of `MODEL.CONV.STAGES`; `SPConv` cannot replace grouped convolutions.",
        choices=Reference("dl_lib.modeling.backbones.conv_replacement:CONV_TYPES"),
        special={"": "no replacement"},
    ),
    key(
        "MODEL.CONV.KERNELS",
        ["larger"],
        "Convolutions to replace: those larger than 1x1 (`larger`), 1x1 convolutions outside squeeze-and-excitation "
        "(`1x1`), and those inside (`squeeze`).",
        choices=Reference("dl_lib.modeling.backbones.conv_replacement:CONV_KERNELS"),
        min_length=1,
        order="unique",
    ),
)

_GATE = (
    key("MODEL.GATE.GATE_ON", True, "Learn gates; False fixes the routing with every gate at 1."),
    key(
        "MODEL.GATE.KIND",
        "soft",
        "`soft`: values in [0, 1) that scale the features, as published; `hard`: values 0 or 1 "
        "([routing](routing.md#hard-gates)); `sigmoid`, `softmax` (over the edges of a cell): the activations that the "
        "paper compares with its own, which never close an edge.",
        choices=Reference("dl_lib.modeling.dynamic.gate:GATE_KINDS"),
    ),
    key(
        "MODEL.GATE.GATE_INIT_BIAS",
        1.5,
        "Initial bias of the last convolution of a gate; 0.5 is better for hard gates with a low budget.",
        range="[-100, 100]",
    ),
    key("MODEL.GATE.SMALL_GATE", False, "Compute gates on the cell input resized by 0.25, which makes them cheaper."),
    key(
        "MODEL.GATE.UNREACHED",
        "skip",
        "Cells that receive no input for an image: skip them (`skip`), run them on zeros (`run`), or run them in "
        "training and skip them in evaluation, as the released models were trained (`published`).",
        choices=Reference("dl_lib.modeling.dynamic.routing:Unreached"),
    ),
)

BACKBONE_KEYS = (*_BACKBONE, *_CONV, *_GATE)
