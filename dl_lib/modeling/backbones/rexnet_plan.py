"""Channels, strides and dilations of ReXNet and ReXNet-lite (arXiv 2007.00992, section 4).

The channels grow linearly from block to block. Details that the paper does not specify (rounding, depth and width
multipliers, ReXNet-lite) follow the public implementation (github.com/clovaai/rexnet), so that its weights can be
loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from dl_lib.modeling.backbones.base import FEATURES

__all__ = ["EXPANSION", "SQUEEZE", "STEM_STRIDE", "BlockPlan", "ReXNetPlan", "plan_rexnet"]

STAGE_BLOCKS = (1, 2, 2, 3, 3, 5)
STAGE_STRIDES = (1, 2, 2, 2, 1, 2)
STAGE_SQUEEZES = (False, False, True, True, True, True)
EXPANSION, FIRST_EXPANSION = 6, 1
SQUEEZE = 12  # ratio of expanded to squeezed channels
STEM_CHANNELS, FIRST_CHANNELS, LAST_CHANNELS = 32, 16, 180  # at width 1
PENULTIMATE_CHANNELS = 1280
LITE_DIVISOR = 8
STEM_STRIDE = 2


@dataclass(frozen=True)
class BlockPlan:
    """Shape of an inverted bottleneck.

    Attributes:
        in_channels: Input channels.
        expanded: Channels of the depthwise convolution; no expansion if equal to `in_channels`.
        out_channels: Output channels.
        stride: Stride of the depthwise convolution.
        dilation: Dilation of the depthwise convolution.
        squeezed: Channels inside squeeze-and-excitation; 0 for none.
        adds_input: Whether the input is added to the first `in_channels` channels of the output.
    """

    in_channels: int
    expanded: int
    out_channels: int
    stride: int = 1
    dilation: int = 1
    squeezed: int = 0
    adds_input: bool = False


@dataclass(frozen=True)
class ReXNetPlan:
    """Shape of a network.

    Attributes:
        stem: Channels of the first convolution, at stride 2.
        blocks: Blocks in order.
        last_blocks: Position of the block that outputs each feature, by feature name.
        penultimate: Channels before the classifier.
        lite: ReXNet-lite: no squeeze-and-excitation, ReLU6 instead of SiLU.
    """

    stem: int
    blocks: tuple[BlockPlan, ...]
    last_blocks: Mapping[str, int]
    penultimate: int
    lite: bool


def plan_rexnet(*, width: float = 1.0, depth: float = 1.0, lite: bool = False, output_stride: int = 32) -> ReXNetPlan:
    """Return the shape of a network.

    Args:
        width: Width multiplier of the channels; weights are published for 1.0, 1.3, 1.5, 2.0 and, except for lite, 3.0.
        depth: Depth multiplier of the number of blocks per stage, which is rounded up.
        lite: Plan ReXNet-lite.
        output_stride: 32, or 16 or 8 with dilation instead of the last strides.
    """
    raw_stem = width * max(STEM_CHANNELS, STEM_CHANNELS / width)
    stem = _rounded(raw_stem, lite=lite)
    steps = _steps(depth, lite=lite)
    channels = [stem, *_block_channels(len(steps), width=width, lite=lite)]
    stride, dilation, blocks = STEM_STRIDE, 1, []
    for step, (before, after) in zip(steps, pairwise(channels), strict=True):
        # A block whose stride is replaced still uses the previous dilation; the new one starts with the next block.
        dilated = step.stride if stride * step.stride > output_stride else 1
        stride *= step.stride // dilated
        expanded = step.expansion * before
        blocks.append(
            BlockPlan(
                in_channels=before,
                expanded=expanded,
                out_channels=after,
                stride=step.stride // dilated,
                dilation=dilation,
                squeezed=expanded // SQUEEZE if step.squeezes else 0,
                adds_input=step.stride == 1 and before <= after,
            )
        )
        dilation *= dilated
    return ReXNetPlan(
        stem=stem,
        blocks=tuple(blocks),
        last_blocks=_last_blocks([step.stride for step in steps]),
        penultimate=int(PENULTIMATE_CHANNELS * (max(1.0, width) if lite else width)),
        lite=lite,
    )


@dataclass(frozen=True)
class _BlockStep:
    stride: int
    expansion: int
    squeezes: bool


def _steps(depth: float, *, lite: bool) -> list[_BlockStep]:
    """Return stride, expansion and squeeze of each block; the first block of a stage has the stage's stride."""
    return [
        _BlockStep(stride if first else 1, FIRST_EXPANSION if number == 0 else EXPANSION, squeezes and not lite)
        for number, (count, stride, squeezes) in enumerate(
            zip(STAGE_BLOCKS, STAGE_STRIDES, STAGE_SQUEEZES, strict=True)
        )
        for first in [True] + [False] * (math.ceil(count * depth) - 1)
    ]


def _block_channels(count: int, *, width: float, lite: bool) -> list[int]:
    """Return the output channels of each block; ReXNet-lite ends at LAST_CHANNELS, ReXNet one increment below."""
    first = max(FIRST_CHANNELS, FIRST_CHANNELS / width)
    growth = (LAST_CHANNELS - FIRST_CHANNELS) / (count - 1) if lite else LAST_CHANNELS / count
    return [_rounded((first + i * growth) * width, lite=lite) for i in range(count)]


def _rounded(channels: float, *, lite: bool) -> int:
    """Round half to even, as the published widths require; for ReXNet-lite also to a multiple of 8.

    As in MobileNet, rounding to a multiple reduces the channels by at most 10 %.
    """
    whole = round(channels)
    if not lite:
        return whole
    multiple = max(LITE_DIVISOR, (whole + LITE_DIVISOR // 2) // LITE_DIVISOR * LITE_DIVISOR)
    return multiple if multiple >= 0.9 * whole else multiple + LITE_DIVISOR


def _last_blocks(strides: list[int]) -> dict[str, int]:
    """Return the position of the last block at each of the five strides, by feature name."""
    before = [position - 1 for position, stride in enumerate(strides) if stride > 1]
    return dict(zip(FEATURES, [*before, len(strides) - 1], strict=True))
